import { expect, test } from 'vitest';
import { parseEtcdUrl } from '../../../src/store/etcd-url.ts';

test.each([
  ['etcd://a', ['a:2379'], '/pgtide'],
  ['etcd://a,b:1,a:2379/', ['a:2379', 'b:1'], '/pgtide'],
  ['ETCD://10.0.0.1:2379, 10.0.0.2:2379/x/y-1/', ['10.0.0.1:2379', '10.0.0.2:2379'], '/x/y-1'],
  ['etcd://[::1]:99', ['[::1]:99'], '/pgtide'],
])('%s', (url, endpoints, prefix) => {
  expect(parseEtcdUrl(url)).toEqual({ endpoints, prefix });
});

test.each([
  ['a:2379', 'it does not begin with etcd://'],
  ['http://a:2379', 'the scheme http is not known'],
  ['etcd://', 'a host is empty'],
  ['etcd://a,,b', 'a host is empty'],
  ['etcd://a:0', '0 is not a port'],
  ['etcd://a:70000', '70000 is not a port'],
  ['etcd://a b', 'is not HOST:PORT'],
  ['etcd://a//b', 'the prefix'],
  ['etcd://a/b?c', 'the prefix'],
])('%s is refused', (url, why) => {
  expect(() => parseEtcdUrl(url)).toThrow(why);
});
