import type { PoolClient } from 'pg';

/**
 * A manager's term on a server: two managers must not work there at the same time. Every server keeps the
 * highest term that it has heard of. A session of a manager announces its own before anything else: one that
 * is older is refused (TD004), and a newer one first ends the sessions of those before it. So what a frozen
 * manager had begun here is over, committed or rolled back, before the next one looks.
 */
export function managerName(term: number | null): `pgtide manager${string}` {
  return term === null ? 'pgtide manager' : `pgtide manager ${term}`;
}

/** How long the sessions of an older manager may take to be gone. */
const END_MS = 3_000;

/** Throws what PostgreSQL throws: TD004 where a newer manager has been here. */
export async function announceTerm(client: PoolClient, term: number): Promise<void> {
  const { rows } = await client.query<{ known: boolean }>(
    "select to_regproc('tide.announce_manager') is not null as known",
  );
  if (rows[0]?.known !== true) await client.query(CREATE);
  await client.query('select tide.announce_manager($1, $2)', [term, END_MS]);
}

/** Before all else that pgtide makes on a server, which only a manager does. */
const CREATE = `
begin;
select pg_advisory_xact_lock(7461646502);
create schema if not exists tide;
create table if not exists tide.manager_term (is_only boolean primary key default true check (is_only), term bigint not null);

-- The row lock makes announcements wait for each other: none comes between the look and the note.
create or replace function tide.announce_manager(own bigint, end_ms bigint) returns void
language plpgsql volatile set search_path = pg_catalog as $body$
declare highest bigint; older int;
begin
  insert into tide.manager_term (term) values (own) on conflict (is_only) do nothing;
  select term into highest from tide.manager_term for update;
  if highest > own then
    raise exception 'a manager of term % has been here: this one, of term %, is one no more', highest, own using errcode = 'TD004';
  end if;
  update tide.manager_term set term = own where term < own;
  for older in
    select pid from pg_stat_activity
     where application_name ~ '^pgtide manager( [0-9]+)?$' and pid <> pg_backend_pid()
       and coalesce(nullif(substr(application_name, 16), ''), '0')::bigint < own
  loop
    if not pg_terminate_backend(older, end_ms) then
      raise exception 'session % of an older manager does not end', older using errcode = '55006';
    end if;
  end loop;
end $body$;
commit;
`;
