/** What a call says of its caller, beside its body. */

/** A node has passed it on: whoever gets it and is not the manager does not pass it on again. */
export const FORWARDED = 'x-pgtide-forwarded';
/** The cluster that a calling node belongs to. People's programs do not say, nor do nodes of version 0.1. */
export const CALLER_CLUSTER = 'x-pgtide-cluster';
/** Says that no browser sends this: none lets a page set a header of such a name. */
export const OWN_CALL = 'sec-pgtide';
