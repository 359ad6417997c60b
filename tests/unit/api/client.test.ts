import { describe, expect, it } from 'vitest';
import { BODY_BYTES_MAX, type Call, type CallOptions, clientOver } from '../../../src/api/client.ts';

/** A node that answers every call with `text`, and what it was asked. */
function answering(text: string, status = 200) {
  const calls: Call[] = [];
  const client = clientOver(async (call) => {
    calls.push(call);
    return { status, text };
  });
  return { client, calls };
}

const textOf = (call: Call | undefined) => new TextDecoder().decode(call?.body ?? undefined);

describe('a call', () => {
  it('is JSON for the path of what is asked, and gives back the result', async () => {
    const { client, calls } = answering('{"result":[{"id":1}]}');
    expect(await client.admin('n1:26257', { do: 'node-status' })).toEqual([{ id: 1 }]);
    await client.whoIs('n1:26257', { timeoutMs: 100 });
    await client.quit('n1:26257');
    expect(calls.map(({ path, timeoutMs }) => [path, timeoutMs])).toEqual([
      ['/api/v1/admin', 30_000],
      ['/api/v1/whoami', 100],
      ['/api/v1/quit', 30_000],
    ]);
    expect(calls.map(textOf)).toEqual(['{"do":"node-status"}', '{}', '{}']);
    expect(calls[0]).toMatchObject({ address: 'n1:26257', headers: { 'content-type': 'application/json' } });
  });

  it('says of its caller what it was told to', async () => {
    const { client, calls } = answering('{"result":null}');
    await client.ask('n1:26257', 'whoami', {}, { forwarded: true, cluster: 'c' });
    await client.ask('n1:26257', 'whoami', {});
    expect(calls.map(({ headers }) => headers)).toEqual([
      { 'content-type': 'application/json', 'x-pgtide-forwarded': '1', 'x-pgtide-cluster': 'c' },
      { 'content-type': 'application/json' },
    ]);
  });

  it('for the topology is a GET that says which revision its caller has, and waits for the next one', async () => {
    const { client, calls } = answering('{"result":{"change":null,"ageMs":3}}');
    expect(await client.topology('n1:26257', null, { cluster: 'c' })).toEqual({ change: null, ageMs: 3 });
    const { signal } = new AbortController();
    await client.topology('n1:26257', 7, { timeoutMs: 100, signal });
    const get = { address: 'n1:26257', method: 'GET', body: null };
    expect(calls).toEqual([
      { ...get, path: '/api/v1/topology', headers: { 'x-pgtide-cluster': 'c' }, timeoutMs: 15_000, signal: undefined },
      { ...get, path: '/api/v1/topology?after=7', headers: {}, timeoutMs: 100, signal },
    ]);
  });

  it('throws what the cluster answers, and says so where it is not the cluster that does', async () => {
    const said = { code: 'NODE_UNKNOWN', message: 'there is no node 7', hint: 'look', retry: 'never' };
    const { client } = answering(JSON.stringify({ error: said }), 400);
    await expect(client.whoIs('n1:26257')).rejects.toMatchObject(said);
    for (const text of ['', 'hello', '[]', 'null', '{}', '{"error":"not found"}'])
      await expect(answering(text, 404).client.whoIs('n1:26257')).rejects.toMatchObject({ code: 'NOT_PGTIDE' });
  });

  it('is not sent where its body is longer than a node reads, in bytes', async () => {
    const { client, calls } = answering('{"result":null}');
    const check = (url: string, options?: CallOptions) => client.ask('n1:26257', 'meta/check', { url }, options);
    const fits = 'é'.repeat((BODY_BYTES_MAX - '{"url":""}'.length) / 2);
    await check(fits);
    expect(calls[0]?.body?.byteLength).toBe(BODY_BYTES_MAX);
    await expect(check(`${fits}x`)).rejects.toMatchObject({ code: 'BODY_TOO_LARGE' });
    await check(`${fits}x`, { bytesMax: BODY_BYTES_MAX + 1 });
    expect(calls).toHaveLength(2);
  });
});
