import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { describe, expect, it } from 'vitest';
import { freePorts } from '../../../src/local/free-ports.ts';
import {
  advertisedAddress,
  defaultPostgresPort,
  formatAddress,
  parseAddress,
  requirePortFree,
} from '../../../src/node/tcp-address.ts';

describe('parseAddress', () => {
  it.each([
    ['10.0.0.5:26257', { host: '10.0.0.5', port: 26257 }],
    [':26257', { host: '', port: 26257 }],
    ['[::1]:26257', { host: '::1', port: 26257 }],
    ['[fe80::1%eth0]:1', { host: 'fe80::1%eth0', port: 1 }],
    ['db-1.example.com:65535', { host: 'db-1.example.com', port: 65535 }],
    ['localhost', { host: 'localhost', port: 8080 }],
    ['[::1]', { host: '::1', port: 8080 }],
  ])('reads %s', (text, wanted) => {
    expect(parseAddress('--http-addr', text, 8080)).toEqual(wanted);
  });

  it.each([
    ['', 'the port is missing'],
    ['host:', "the port '' is not a number"],
    ['host:0', "the port '0' is not a number from 1 to 65535"],
    ['host:65536', "the port '65536'"],
    ['host:pg', "the port 'pg'"],
    ['::1:26257', 'an IPv6 address has to be in brackets'],
    ['[localhost]:1', "'localhost' is not an IPv6 address"],
    ['http://host:1', 'it is not of the form HOST:PORT'],
    ['a b:1', "'a b' is not the name of a host"],
  ])('refuses %s', (text, why) => {
    const call = () => parseAddress('--listen-addr', text);
    expect(call).toThrow(expect.objectContaining({ code: 'BAD_ADDRESS' }));
    expect(call).toThrow(`--listen-addr: '${text}'`);
    expect(call).toThrow(why);
  });

  it('wants a port where there is no default', () => {
    expect(() => parseAddress('--host', 'db1')).toThrow('the port is missing');
  });

  it('is undone by formatAddress', () => {
    for (const text of ['[::1]:26257', 'host:1', ':26257']) expect(formatAddress(parseAddress('--a', text))).toBe(text);
  });
});

describe('ports', () => {
  it('advertises this machine where it listens on all interfaces', () => {
    expect(advertisedAddress({ host: '', port: 1 })).toEqual({ host: hostname(), port: 1 });
    expect(advertisedAddress({ host: '::', port: 1 })).toEqual({ host: hostname(), port: 1 });
    expect(advertisedAddress({ host: '127.0.0.1', port: 1 })).toEqual({ host: '127.0.0.1', port: 1 });
  });

  it('puts PostgreSQL a thousand ports away', () => {
    expect(defaultPostgresPort(26257)).toBe(27257);
    expect(defaultPostgresPort(65535)).toBe(64535);
  });

  it('has nothing against a port where nobody listens', async () => {
    const [port] = (await freePorts(1)) as [number];
    await expect(requirePortFree('--listen-addr', { host: '127.0.0.1', port })).resolves.toBeUndefined();
  });

  it('names the flag of a port that is taken, and of an address that is not ours', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as { port: number };
    await expect(requirePortFree('--http-addr', { host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      details: { flag: '--http-addr', address: `127.0.0.1:${port}` },
    });
    taken.close();
    await expect(requirePortFree('--listen-addr', { host: '192.0.2.1', port })).rejects.toMatchObject({
      code: 'ADDRESS_UNAVAILABLE',
    });
  });
});
