/** What an operation waits for: journaled, and shown by op ls, op show and op watch. */
export interface WaitReason {
  kind:
    | 'transaction'
    | 'slot'
    | 'disk'
    | 'no-target'
    | 'limit'
    | 'node'
    | 'lag'
    | 'lock'
    | 'copy'
    | 'children'
    | 'local-tables';
  text: string;
  node: number | null;
  /** Of a process of PostgreSQL. */
  pid: number | null;
  user: string | null;
  query: string | null;
  ageSeconds: number | null;
}
