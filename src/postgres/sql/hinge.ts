import type { NodeId, TableRecord } from '../../catalog/model.ts';
import { foreignServerName, forwardName, partitionTable, remoteTable, SCHEMAS } from '../../catalog/names.ts';
import { tideError } from '../../core/errors.ts';
import type { HingeTarget, SwingAttempt } from '../../operations/ports.ts';
import { TIDE_OWNER } from '../config.ts';
import { type Address, FOREIGN_USER, foreignConnection } from '../connect.ts';
import { ident, isLockFailure, literal, qualified, type Sql, sqlstateOf } from './client.ts';
import { columnsSql } from './columns.ts';

export function foreignTableSql(table: TableRecord, pid: number, node: NodeId): { name: string; create: string } {
  const name = qualified(SCHEMAS.remote, remoteTable(table.tid, pid, node));
  const target = { schema: SCHEMAS.hinge, table: partitionTable(table.tid, pid) };
  return { name, create: foreignSql(table, name, foreignServerName(node), target) };
}

function foreignSql(table: TableRecord, name: string, server: string, to: { schema: string; table: string }): string {
  const options = `schema_name ${literal(to.schema)}, table_name ${literal(to.table)}`;
  return (
    `CREATE FOREIGN TABLE IF NOT EXISTS ${name} (${columnsSql(table)}) SERVER ${ident(server)} OPTIONS (${options});\n` +
    `ALTER FOREIGN TABLE ${name} OWNER TO ${TIDE_OWNER}`
  );
}

/** The name of what a hinge would lead to, quoted. */
function targetName(tid: number, pid: number, target: HingeTarget): string {
  switch (target.kind) {
    case 'local':
      return qualified(SCHEMAS.data, partitionTable(tid, pid));
    case 'node':
      return qualified(SCHEMAS.remote, remoteTable(tid, pid, target.node));
    case 'forward':
      return qualified(SCHEMAS.remote, forwardName(tid, pid, target.epoch));
  }
}

function parseTarget(schema: string, name: string): HingeTarget {
  if (schema === SCHEMAS.data) return { kind: 'local' };
  const node = /_n(\d+)$/.exec(name);
  if (node) return { kind: 'node', node: Number(node[1]) };
  return { kind: 'forward', epoch: Number(/_e(\d+)$/.exec(name)?.[1] ?? 0) };
}

/** Every hinge on a node and where it leads, by `t4_p0`. */
export async function readHinges(sql: Sql, only?: { tid: number; pid: number }): Promise<Map<string, HingeTarget>> {
  const rows = await sql.query<{ hinge: string; schema: string; child: string }>(
    `select h.relname as hinge, n.nspname as schema, c.relname as child
       from pg_class h join pg_inherits i on i.inhparent = h.oid
       join pg_class c on c.oid = i.inhrelid join pg_namespace n on n.oid = c.relnamespace
      where h.relnamespace = 'tide_hinge'::regnamespace and ($1::text is null or h.relname = $1)`,
    [only ? partitionTable(only.tid, only.pid) : null],
  );
  return new Map(rows.map((r) => [r.hinge, parseTarget(r.schema, r.child)]));
}

/**
 * The foreign server that leads to another node. Batching and asynchronous scans, because queries over all
 * partitions go through it; the application name tells whoever looks at a lock there from which node and
 * session it came (%p is the process id).
 */
export async function ensureForeignServer(sql: Sql, from: NodeId, to: NodeId, address: Address): Promise<void> {
  await ensureForeignServerNamed(sql, foreignServerName(to), from, address);
}

async function ensureForeignServerNamed(sql: Sql, name: string, from: NodeId, address: Address): Promise<void> {
  const wanted: Record<string, string> = {
    ...foreignConnection(address, `tide n${from} pid %p`),
    async_capable: 'true',
    fetch_size: '1000',
    batch_size: '100',
  };
  const [found] = await sql.query<{ options: string[] | null }>(
    'select srvoptions as options from pg_foreign_server where srvname = $1',
    [name],
  );
  if (!found) {
    await sql.query(
      `CREATE SERVER ${ident(name)} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (${optionsSql(wanted)});
       ${mappingSql(name)}`,
    );
    return;
  }
  const have = found.options ?? [];
  const stale = Object.entries(wanted).filter(([k, v]) => !have.includes(`${k}=${v}`));
  if (stale.length === 0) return;
  const verb = (option: string) => (have.some((o) => o.startsWith(`${option}=`)) ? 'SET' : 'ADD');
  await sql.query(
    `ALTER SERVER ${ident(name)} OPTIONS (${stale.map(([k, v]) => `${verb(k)} ${k} ${literal(v)}`).join(', ')})`,
  );
}

/**
 * Whoever may use a table here gets to its rows there: its rights were looked at here. Nobody else has USAGE
 * on the foreign server, so that no foreign table of its own leads there.
 */
export function mappingSql(server: string): string {
  return `CREATE USER MAPPING IF NOT EXISTS FOR PUBLIC SERVER ${ident(server)} OPTIONS (${optionsSql(FOREIGN_USER)})`;
}

function optionsSql(options: Readonly<Record<string, string>>): string {
  return Object.entries(options)
    .map(([name, value]) => `${name} ${literal(value)}`)
    .join(', ');
}

/** Drops the foreign server that leads to a node; only for a node that has left. Idempotent. */
export async function dropForeignServer(sql: Sql, node: NodeId): Promise<void> {
  await dropForeignServerNamed(sql, foreignServerName(node));
}

/**
 * Drops a foreign server with its user mapping and the foreign tables nobody leads through. CASCADE would
 * also take a foreign table that hangs on a hinge, and a hinge without a child hides its partition from every
 * query: that is refused (SERVER_IN_USE).
 */
export async function dropForeignServerNamed(sql: Sql, name: string): Promise<void> {
  const [used] = await sql.query<{ hinge: string }>(
    `select i.inhparent::regclass::text as hinge from pg_foreign_table t
       join pg_foreign_server s on s.oid = t.ftserver join pg_inherits i on i.inhrelid = t.ftrelid
      where s.srvname = $1 limit 1`,
    [name],
  );
  if (used) throw tideError('SERVER_IN_USE', { server: name, hinge: used.hinge });
  await sql.query(`SET LOCAL lock_timeout = '3s'; DROP SERVER IF EXISTS ${ident(name)} CASCADE`);
}

/**
 * Foreign server, user mapping and foreign table through which the old leader will reach the new leader's
 * replica table. Idempotent.
 */
export async function createForward(
  sql: Sql,
  table: TableRecord,
  pid: number,
  forward: { epoch: number; from: NodeId; to: Address },
): Promise<void> {
  const name = forwardName(table.tid, pid, forward.epoch);
  await ensureForeignServerNamed(sql, name, forward.from, forward.to);
  const target = { schema: SCHEMAS.data, table: partitionTable(table.tid, pid) };
  await sql.query(foreignSql(table, qualified(SCHEMAS.remote, name), name, target));
}

export async function dropForward(sql: Sql, tid: number, pid: number, epoch: number): Promise<void> {
  await dropForeignServerNamed(sql, forwardName(tid, pid, epoch));
}

/** Forwards that no hinge leads through, with the foreign servers they use. */
export async function dropLooseForwards(sql: Sql): Promise<void> {
  const loose = await sql.query<{ name: string }>(
    String.raw`select srvname as name from pg_foreign_server s
      where srvname ~ '^t\d+_p\d+_fwd_e\d+$'
        and not exists (select from pg_foreign_table f join pg_inherits i on i.inhrelid = f.ftrelid where f.ftserver = s.oid)`,
  );
  for (const { name } of loose)
    await sql.query(`SET LOCAL lock_timeout = '1s'; DROP SERVER IF EXISTS ${ident(name)} CASCADE`);
}

export function dropRemoteSql(tid: number, pid: number, node: NodeId): string {
  return `DROP FOREIGN TABLE IF EXISTS ${qualified(SCHEMAS.remote, remoteTable(tid, pid, node))}`;
}

/** What a swing keeps of its budget for what comes after the lock, at the most. */
const REST_MS = 200;

/**
 * Swings one hinge: inside one transaction and `budgetMs`, `prepare`, lock it, run `whileLocked`, exchange
 * its child, commit. The bound is kept by the server itself (`transaction_timeout`): a manager that dies or
 * freezes in between cannot hold the lock longer.
 *
 * `deadlock_timeout` is low so that an autovacuum in the way is cancelled at once (PostgreSQL manual,
 * 24.1.6).
 */
export async function swingHinge(
  sql: Sql,
  swing: { tid: number; pid: number; from: HingeTarget; to: HingeTarget; budgetMs: number },
  whileLocked: (leftMs: number) => Promise<boolean>,
  finish: string[] = [],
  prepare: string[] = [],
): Promise<SwingAttempt> {
  const hinge = qualified(SCHEMAS.hinge, partitionTable(swing.tid, swing.pid));
  // What a budget that has grown gains is for those who have used the partition: the rest takes no longer
  // beside them.
  const lockMs = Math.max(10, Math.floor(swing.budgetMs - Math.min(swing.budgetMs * 0.5, REST_MS)));
  const replica = targetName(swing.tid, swing.pid, { kind: 'local' });
  const alsoLock = swing.to.kind === 'local' ? `, ${replica}` : '';
  await sql.query(
    `BEGIN; SET LOCAL lock_timeout = ${lockMs}; SET LOCAL deadlock_timeout = '5ms'; SET LOCAL transaction_timeout = ${swing.budgetMs}`,
  );
  const startMs = performance.now();
  const elapsed = () => performance.now() - startMs;
  try {
    for (const statement of prepare) await sql.query(statement);
    await sql.query(`LOCK TABLE ${hinge}${alsoLock} IN ACCESS EXCLUSIVE MODE`);
    if (!(await whileLocked(swing.budgetMs - elapsed()))) {
      await sql.query('ROLLBACK');
      return { outcome: 'backed-off', pauseMs: elapsed(), why: 'lag' };
    }
    await sql.query(
      [
        `ALTER TABLE ${hinge} DETACH PARTITION ${targetName(swing.tid, swing.pid, swing.from)}`,
        `ALTER TABLE ${hinge} ATTACH PARTITION ${targetName(swing.tid, swing.pid, swing.to)} FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
        ...finish,
        'COMMIT',
      ].join(';\n'),
    );
    return { outcome: 'done', pauseMs: elapsed() };
  } catch (error) {
    if (!isLockFailure(error) && sqlstateOf(error) !== '25P04') throw error;
    const pauseMs = elapsed();
    await sql.query('ROLLBACK').catch(() => {});
    return { outcome: 'backed-off', pauseMs, why: isLockFailure(error) ? 'lock' : 'timeout' };
  }
}

/**
 * The statements that turn the guard of a replica on (a follower: only the apply worker writes) or off (a
 * leader).
 */
export function guardSql(tid: number, pid: number, on: boolean): string {
  const replica = qualified(SCHEMAS.data, partitionTable(tid, pid));
  return `ALTER TABLE ${replica} ${on ? 'ENABLE' : 'DISABLE'} TRIGGER tide_guard`;
}
