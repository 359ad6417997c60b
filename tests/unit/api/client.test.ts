import { describe, expect, it } from 'vitest';
import { BODY_BYTES_MAX, type Call, clientOver } from '../../../src/api/client.ts';

/** A node that answers every call with `text`, and what it was asked. */
function answering(text: string, status = 200) {
  const calls: Call[] = [];
  const client = clientOver(async (call) => {
    calls.push(call);
    return { status, text };
  });
  return { client, calls };
}

const textOf = (call: Call | undefined) => new TextDecoder().decode(call?.body);

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
    await client.post('n1:26257', '/x', {}, { forwarded: true, cluster: 'c' });
    await client.post('n1:26257', '/x', {});
    expect(calls.map(({ headers }) => headers)).toEqual([
      { 'content-type': 'application/json', 'x-pgtide-forwarded': '1', 'x-pgtide-cluster': 'c' },
      { 'content-type': 'application/json' },
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
    const fits = 'é'.repeat((BODY_BYTES_MAX - 2) / 2);
    await client.post('n1:26257', '/x', fits);
    expect(calls[0]?.body.byteLength).toBe(BODY_BYTES_MAX);
    const tooLong = client.post('n1:26257', '/x', `${fits}x`);
    await expect(tooLong).rejects.toMatchObject({ code: 'BODY_TOO_LARGE' });
    await client.post('n1:26257', '/x', `${fits}x`, { bytesMax: BODY_BYTES_MAX + 1 });
    expect(calls).toHaveLength(2);
  });
});
