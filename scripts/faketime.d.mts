/** Path of libfaketime, fetched where it is missing; null, said on standard error, where none is to be had. */
export function findFaketime(): string | null;
