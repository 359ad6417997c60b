import { TIDE_MANAGER, TIDE_PEER, TIDE_USER } from '../config.ts';
import type { Sql } from './client.ts';

/** A session with a transaction open, as `OpenSessionReport` of the beat. */
interface OpenSession {
  pid: number;
  xact: string;
  ageMs: number;
  active: boolean;
  via: { node: number; pid: number } | null;
  waits: { since: string; pids: number[]; lock: string; relation: string | null } | null;
}

/** What a beat carries at the most; those that wait, and older ones, come first. */
const SESSIONS_MAX = 500;
const BLOCKERS_MAX = 100;
/** Younger transactions are in nobody's way for long. */
const YOUNG_MS = 100;

const CLIENTS_ARE_SUPERUSERS = `(select rolsuper from pg_roles where rolname = '${TIDE_USER}')`;

const XACT = `(extract(epoch from a.backend_start) || '/' || extract(epoch from a.xact_start))`;

/**
 * Sessions of clients and of other nodes with a transaction open, and what each waits for. pgtide's own are
 * left out: their waits are bounded. The locks are looked at only where somebody waits for one.
 *
 * Whose transaction a session works for, postgres_fdw says in its name (`hinge.ts`). A client may call itself
 * the same, but is not the role of other nodes. While clients are superusers, other nodes come as they do:
 * then they are whoever comes over TCP.
 */
export async function readOpenSessions(sql: Sql): Promise<OpenSession[]> {
  const rows = await sql.query<Omit<OpenSession, 'via'> & { via: string | null }>(
    `with open as materialized (
       select a.pid, ${XACT} as xact, clock_timestamp() - a.xact_start as age, a.state = 'active' as active,
              case when a.usename = $2 or (a.client_addr is not null and ${CLIENTS_ARE_SUPERUSERS}) then a.application_name end as via, a.wait_event_type = 'Lock' as waits
         from pg_stat_activity a
        where a.backend_type = 'client backend' and a.datname = current_database() and a.xact_start is not null
          and a.usename <> $1 and a.application_name not like 'pgtide %'
          -- A clock that was set back has them begin in the future.
          and not clock_timestamp() - a.xact_start between interval '0' and interval '${YOUNG_MS} ms'
        order by coalesce(a.wait_event_type = 'Lock', false) desc, a.xact_start limit ${SESSIONS_MAX}),
     locks as materialized (
       select l.* from pg_locks l
        where (select bool_or(o.waits) from open o) and l.pid in (select o.pid from open o where o.waits)
          and (not l.granted or l.locktype = 'tuple')),
     waiting as (
       select distinct on (w.pid) w.pid, w.waitstart, w.mode || ' on ' || case w.locktype
                when 'transactionid' then 'transaction ' || w.transactionid when 'virtualxid' then 'virtual transaction ' || w.virtualxid
                when 'relation' then 'a relation' when 'advisory' then 'an advisory lock' else 'a ' || w.locktype end as lock,
              c.relnamespace::regnamespace::text || '.' || c.relname as relation
         from locks w
         -- Who waits for the transaction that has a row holds the right to be next.
         left join locks t on t.pid = w.pid and t.granted and w.relation is null
         left join pg_class c on c.oid = coalesce(w.relation, t.relation)
                             and (select oid from pg_database where datname = current_database()) in (w.database, t.database)
        where not w.granted)
     select o.pid, o.xact, o.active, o.via, (extract(epoch from o.age) * 1000)::float8 as "ageMs",
            case when w.pid is not null then json_build_object(
              'since', coalesce(w.waitstart::text, ''), 'lock', w.lock, 'relation', w.relation,
              'pids', (select coalesce(json_agg(b.pid), '[]')
                         from (select distinct pid from unnest(pg_blocking_pids(w.pid)) b(pid) limit ${BLOCKERS_MAX}) b)) end as waits
       from open o left join waiting w on w.pid = o.pid`,
    [TIDE_MANAGER, TIDE_PEER],
  );
  return rows.map((row) => ({ ...row, via: originOf(row.via) }));
}

/** `tide n3 pid 4711`; null for any other name. */
function originOf(application: string | null): OpenSession['via'] {
  const [, node, processId] = /^tide n(\d{1,9}) pid (\d{1,9})$/.exec(application ?? '') ?? [];
  return node === undefined ? null : { node: Number(node), pid: Number(processId) };
}

/** Cancels what a session does, if it is still in the same transaction; false where it is not. */
export async function cancelTransaction(sql: Sql, processId: number, xact: string): Promise<boolean> {
  const [row] = await sql.query<{ cancelled: boolean }>(
    `select pg_cancel_backend(a.pid) as cancelled from pg_stat_activity a
      where a.pid = $1 and ${XACT} = $2 and a.state = 'active'`,
    [processId, xact],
  );
  return row?.cancelled === true;
}
