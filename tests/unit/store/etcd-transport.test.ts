import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePorts } from '../../../src/local/free-ports.ts';
import { EtcdRefusal } from '../../../src/store/etcd-api.ts';
import { overFetch } from '../../../src/store/etcd-transport.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function listen(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** One that answers with `text`, and the paths it was asked for. */
async function saying(text: string): Promise<{ at: string; asked: string[] }> {
  const asked: string[] = [];
  const at = await listen((request, response) => {
    asked.push(request.url ?? '');
    response.end(text);
  });
  return { at, asked };
}

let nobody: string;
beforeAll(async () => {
  const [port] = await freePorts(1);
  nobody = `127.0.0.1:${port}`;
});

describe('a call to etcd', () => {
  it('goes from server to server, and then to the one that has answered', async () => {
    const good = await saying('{"header":{"revision":"7"}}');
    const away = await saying('{"code":14,"message":"no leader"}');
    const call = overFetch([nobody, away.at, good.at]);
    expect(await call('kv/range', {})).toEqual({ header: { revision: '7' } });
    await call('kv/txn', {});
    expect(good.asked).toEqual(['/v3/kv/range', '/v3/kv/txn']);
    expect(away.asked).toHaveLength(1);
  });

  it('ends with what each said last, where none answers in time', async () => {
    const away = await saying('{"error":{"grpc_code":14,"message":"leader changed"}}');
    await expect(overFetch([away.at], 1_000)('kv/range', {})).rejects.toMatchObject({
      code: 'META_UNREACHABLE',
      message: expect.stringContaining('leader changed'),
    });
    expect(away.asked.length).toBeGreaterThan(1);
    const other = await saying('<html>');
    await expect(overFetch([other.at], 100)('kv/range', {})).rejects.toThrow('is not etcd');
    await expect(overFetch([nobody], 100)('kv/range', {})).rejects.toThrow('ECONNREFUSED');
    const silent = await listen(() => {});
    await expect(overFetch([silent], 200)('kv/range', {})).rejects.toThrow('no answer within');
  });

  it('that etcd refuses is not asked of another', async () => {
    const refusing = await saying('{"code":3,"message":"too many operations"}');
    const other = await saying('{}');
    const call = overFetch([refusing.at, other.at])('kv/txn', {});
    await expect(call).rejects.toBeInstanceOf(EtcdRefusal);
    await expect(call).rejects.toMatchObject({ status: 3, message: 'too many operations' });
    expect(other.asked).toEqual([]);
  });
});
