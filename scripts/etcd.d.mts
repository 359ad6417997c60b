/** Path of an etcd server, fetched where it is missing; null, said on standard error, where none is to be had. */
export function findEtcd(): string | null;
