import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ownEnvironment, postgresEnvironment } from '../../../src/postgres/environment.ts';
import { exec } from '../../../src/postgres/exec.ts';

const STARTED_WITH = {
  PATH: '/bin',
  HOME: '/root',
  LANG: 'de_DE.UTF-8',
  LC_MESSAGES: 'de_DE.UTF-8',
  PGPASSWORD: 'secret',
  PGOPTIONS: '-c work_mem=1',
  PGTIDE_USER: 'joe',
  TIDE_HOST: 'a:1',
  AWS_SECRET_ACCESS_KEY: 'secret',
  LD_LIBRARY_PATH: '/opt/lib',
  NODE_OPTIONS: '--max-old-space-size=99',
};

test('PostgreSQL gets what it needs, and nothing else of what pgtide was started with', () => {
  expect(postgresEnvironment(STARTED_WITH)).toEqual({ PATH: '/bin', LD_LIBRARY_PATH: '/opt/lib', LC_ALL: 'C' });
});

test('a process of pgtide gets what pgtide knows, too', () => {
  expect(ownEnvironment(STARTED_WITH)).toEqual({
    PATH: '/bin',
    LD_LIBRARY_PATH: '/opt/lib',
    PGTIDE_USER: 'joe',
    TIDE_HOST: 'a:1',
    NODE_OPTIONS: '--max-old-space-size=99',
  });
});

test('a name that nobody knows reaches no child', () => {
  const name = fc.string({ minLength: 1 }).filter((n) => !/^(PGTIDE_|TIDE_|FAKETIME|DONT_FAKE)/.test(n));
  const known = new Set([...Object.keys(ownEnvironment(process.env)), 'PATH', 'TZ', 'TMPDIR']);
  fc.assert(
    fc.property(name, (n) => {
      fc.pre(!known.has(n) && n !== '__proto__');
      expect(ownEnvironment({ [n]: 'x' })).toEqual({});
      expect(postgresEnvironment({ [n]: 'x' })).toEqual({ LC_ALL: 'C' });
    }),
  );
});

test('a program that is run sees just that', async () => {
  process.env.PGTIDE_TEST_SECRET = 'secret';
  try {
    const { stdout } = await exec('env', []);
    expect(stdout).not.toContain('secret');
    expect(stdout).toContain('LC_ALL=C\n');
  } finally {
    delete process.env.PGTIDE_TEST_SECRET;
  }
});
