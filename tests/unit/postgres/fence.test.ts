import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TIDE_MANAGER, TIDE_PEER, TIDE_STREAM, TIDE_USER } from '../../../src/postgres/config.ts';
import { isFenceUp, lowerFence, raiseFence } from '../../../src/postgres/fence.ts';
import { ensureDataDir } from '../../../src/postgres/initdb.ts';

let dataDir: string;
let parent: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'fence-'));
  dataDir = join(parent, 'pgdata');
  await ensureDataDir(dataDir, programs('/bin/true'));
});
afterEach(() => rm(parent, { recursive: true }));

/** Instead of PostgreSQL's: what pgtide itself writes is there all the same. */
function programs(program: string) {
  return { binDir: '/bin', postgres: program, initdb: program, version: '18.4' };
}

interface Comer {
  by: 'local' | 'host';
  as: string;
  database?: string;
}

/** What the first rule that fits says, as PostgreSQL reads `pg_hba.conf` (manual, 20.1). */
async function welcome({ by, as, database = 'tide' }: Comer, file = 'pg_hba.conf'): Promise<string | null> {
  const text = await readFile(join(dataDir, file), 'utf8').catch(() => '');
  for (const line of text.split('\n')) {
    const [kind, ...fields] = line.split(/\s+/);
    if (kind === 'include_if_exists') {
      const found = await welcome({ by, as, database }, fields[0]);
      if (found !== null) return found;
    }
    const [databases, user] = fields;
    // `all` is every database, and not what replication is called.
    const isDatabase = databases === database || (databases === 'all' && database !== 'replication');
    if (kind === by && isDatabase && (user === 'all' || user === as)) return fields.at(-1) ?? null;
  }
  return null;
}

const COMERS: readonly (readonly [Comer, behindFence: string, otherwise: string])[] = [
  [{ by: 'host', as: TIDE_MANAGER }, 'trust', 'trust'],
  [{ by: 'host', as: TIDE_USER }, 'reject', 'trust'],
  [{ by: 'host', as: TIDE_PEER }, 'reject', 'trust'],
  [{ by: 'host', as: 'postgres', database: 'postgres' }, 'reject', 'trust'],
  [{ by: 'local', as: TIDE_USER }, 'trust', 'trust'],
];

describe('a fence', () => {
  it.each(COMERS)('treats %o: %s', async (comer, behindFence, otherwise) => {
    expect(await welcome(comer)).toBe(otherwise);
    await raiseFence(dataDir);
    expect(await welcome(comer)).toBe(behindFence);
    await lowerFence(dataDir);
    expect(await welcome(comer)).toBe(otherwise);
  });

  it('lets no replication in, whoever asks for it', async () => {
    await raiseFence(dataDir);
    for (const by of ['local', 'host'] as const)
      for (const as of [TIDE_MANAGER, TIDE_STREAM])
        expect(await welcome({ by, as, database: 'replication' })).toBe('reject');
  });

  it('comes and goes as often as one likes, and leaves the owner’s rules alone', async () => {
    const hba = () => readFile(join(dataDir, 'pg_hba.conf'), 'utf8');
    await writeFile(join(dataDir, 'pg_hba.conf'), `${await hba()}host shop ada 10.0.0.0/8 scram-sha-256\n`);
    const before = await hba();
    expect(await isFenceUp(dataDir)).toBe(false);
    for (let times = 0; times < 2; times++) await raiseFence(dataDir);
    expect([await isFenceUp(dataDir), await hba()]).toEqual([true, before]);
    for (let times = 0; times < 2; times++) await lowerFence(dataDir);
    expect([await isFenceUp(dataDir), await hba()]).toEqual([false, before]);
  });

  it('stands before all rules of a store that is older than fences, once', async () => {
    const rules = 'host all all all trust\n';
    await writeFile(join(dataDir, 'pg_hba.conf'), rules);
    for (let times = 0; times < 2; times++) await raiseFence(dataDir);
    expect(await readFile(join(dataDir, 'pg_hba.conf'), 'utf8')).toBe(`include_if_exists pgtide_fence.conf\n${rules}`);
    expect(await welcome({ by: 'host', as: TIDE_USER })).toBe('reject');
  });
});

describe('a data directory', () => {
  it('includes what every start writes, and is made once', async () => {
    expect(await readFile(join(dataDir, 'postgresql.conf'), 'utf8')).toBe("\ninclude 'pgtide.conf'\n");
    expect(await readdir(parent)).toEqual(['pgdata']);
    await writeFile(join(dataDir, 'PG_VERSION'), '18\n');
    expect(await ensureDataDir(dataDir, programs('/bin/false'))).toBe('present');
  });

  it('of another version is refused', async () => {
    await writeFile(join(dataDir, 'PG_VERSION'), '17\n');
    const wanted = { code: 'POSTGRES_DATA_VERSION', details: { dataDir, found: '17', wanted: 18 } };
    await expect(ensureDataDir(dataDir, programs('/bin/true'))).rejects.toMatchObject(wanted);
  });

  it('that cannot be made leaves nothing behind', async () => {
    const other = join(parent, 'other');
    await expect(ensureDataDir(other, programs('/bin/false'))).rejects.toMatchObject({ code: 'POSTGRES_INIT_FAILED' });
    await expect(ensureDataDir(other, programs('/no/program'))).rejects.toMatchObject({ code: 'POSTGRES_INIT_FAILED' });
    expect(await readdir(parent)).toEqual(['pgdata']);
  });

  it('is not put over somebody’s files', async () => {
    const wanted = { code: 'STORE_DAMAGED', details: { file: dataDir } };
    await expect(ensureDataDir(dataDir, programs('/bin/true'))).rejects.toMatchObject(wanted);
    expect(await readdir(dataDir)).toContain('pg_hba.conf');
  });
});
