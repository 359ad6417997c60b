import { describe, expect, test } from 'vitest';
import { runCli } from '../../../src/cli/main.ts';
import { FakeHost } from './support/fake-host.ts';
import { type RunOptions, tide, words } from './support/run.ts';
import type { World } from './support/world.ts';

/** What docs/commands.md does not show: mistakes, waits that take long, machines as readers. */

const TERMINAL = { terminals: { stdout: true, stderr: true } };
const PIPE = { terminals: { stdout: false, stderr: false } };

test.each([
  ['nod status', "ERROR: unknown command 'nod'\nhint: did you mean node?\ncode: USAGE\n"],
  ['node statu', "ERROR: unknown command 'statu'\nhint: did you mean status?\ncode: USAGE\n"],
  ['node status --formt json', "ERROR: unknown option '--formt'\nhint: did you mean --format?\ncode: USAGE\n"],
  ['start --stroe=/data --insecure', "ERROR: unknown option '--stroe'\nhint: did you mean --store?\ncode: USAGE\n"],
  ['op show', "ERROR: missing required argument 'id'\nhint: tide op show --help shows what it takes\ncode: USAGE\n"],
  [
    'plan',
    'ERROR: a plan of what? name --add=N, --remove=IDS or --rebalance\nhint: tide plan --help shows what it takes\ncode: USAGE\n',
  ],
  [
    'start --insecure',
    'ERROR: a node needs a directory for its data: --store=DIR\nhint: tide start --help shows what it takes\ncode: USAGE\n',
  ],
])('%s is not understood: exit status 2', async (line, stderr) => {
  expect(await tide(line)).toMatchObject({ status: 2, stdout: '', stderr });
});

test.each([
  ['start --store=d --insecure --listen-addr=127.0.0.1:99999', 'Port 99999 is not between 1 and 65535.'],
  ['start --store=d --insecure --listen-addr=http://x', 'It has to be HOST:PORT.'],
  ['start --store=d --insecure --locality=zone', "'zone' is not KEY=VALUE."],
  ['start --store=d --insecure --min-nodes=0', 'It has to be a whole number from 1'],
  ['node status --timeout=soon', 'It has to be a whole number'],
  ['node status --format=xml', 'Allowed choices are table, json, csv, tsv.'],
  ['node decommission 4 --checks=maybe', 'Allowed choices are enabled, strict, skip.'],
  ['op show twelve', 'It has to be a whole number'],
])('%s is refused, and says why', async (line, why) => {
  const ran = await tide(line);
  expect(ran).toMatchObject({ status: 2, asked: [] });
  expect(ran.stderr).toContain(why);
});

test('node status says what is missing and why, beside what it prints', async () => {
  const ran = await tide('node status --format=tsv', { ...PIPE, given: (world) => (world.out = 2) });
  expect(ran.stdout).toBe(
    (await tide('node status --format=tsv', PIPE)).stdout.replaceAll(/(2\t.*)true\ttrue/g, '$1false\tfalse'),
  );
  expect(ran.stderr).toBe(
    [
      'warning: nobody leads acct 1 while node 2 is out: start it again, or decide who leads with tide partition recover',
      'warning: node 2 is out: its replicas are made elsewhere when it has been for node.dead_after seconds',
      'warning: acct partition 7 on n4 has no target: 0 of 3 live nodes can take a replica of acct 7 (3 already hold it)',
      '',
    ].join('\n'),
  );
});

test('a choice of leader that came to nothing is no success', async () => {
  const ran = await tide('partition recover acct 1 3', { ...PIPE, given: (world) => (world.out = 2) });
  expect(ran).toMatchObject({ status: 1 });
  expect(ran.stderr).toContain('code: PARTITION_NOT_LED');
  expect(ran.stdout).not.toContain('ok');
});

test('tide without a command shows the help and fails; --help and --version do not fail', async () => {
  expect((await tide('node')).status).toBe(2);
  expect((await tide('node')).stderr).toContain('Usage: tide node [options] [command]');
  const help = await tide('node decommission --help');
  expect(help).toMatchObject({ status: 0, stderr: '' });
  expect(help.stdout).toContain('$ tide node decommission 3 --dry-run');
  expect((await tide('--version')).stdout).toBe((await tide('version')).stdout);
});

test('--format=json gives errors as JSON', async () => {
  const ran = await tide('op show 100 --format=json');
  expect({ ...ran, stderr: JSON.parse(ran.stderr) }).toMatchObject({
    status: 1,
    stdout: '',
    stderr: { code: 'OP_UNKNOWN', message: 'operation 100 does not exist', retry: 'never', details: { id: 100 } },
  });
});

test('a refusal that has many partitions to name is a short sentence, and lists them below it; JSON has all', async () => {
  const given = (world: World) => (world.lastCopies = 36);
  const ran = await tide('node drop 3 --yes', { ...PIPE, given });
  const [first, hint, code, ...list] = ran.stderr.trimEnd().split('\n');
  expect([first, code]).toEqual([
    'ERROR: node 3 holds the last copy of 36 partitions (acct 0, acct 1, acct 2, acct 3, acct 4 and 31 more)',
    'code: LAST_COPY',
  ]);
  expect(hint?.length).toBeLessThan(200);
  expect(list).toHaveLength(21);
  expect([list[0], list.at(-1)]).toEqual(['  acct 0', '  … and 16 more: --format=json']);
  const json = JSON.parse((await tide('node drop 3 --yes --format=json', { ...PIPE, given })).stderr);
  expect(json.details.partitions).toHaveLength(36);
  expect(json.details.accept.split(',')).toHaveLength(36);
  const few = await tide('node drop 3 --yes', { ...PIPE, given: (world) => (world.lastCopies = 2) });
  expect(few.stderr).toBe(
    'ERROR: node 3 holds the last copy of acct 0, acct 1\n' +
      'hint: start the node again; or give these rows up: --accept-data-loss=acct/0,acct/1\ncode: LAST_COPY\n',
  );
});

test('nobody answers: exit status 1 and what to do', async () => {
  const host = new FakeHost({ TIDE_HOST: '127.0.0.1:1' }, PIPE.terminals);
  expect(await runCli(['node', 'status'], host)).toBe(1);
  expect(host.err).toContain('ERROR: no pgtide node answers at 127.0.0.1:1');
  expect(host.err).toContain('code: UNREACHABLE');
});

test('start: defaults, and everything that can be said', async () => {
  const first = await tide('start --store=/data/n1 --insecure');
  expect(first.host.started).toEqual([
    {
      store: '/data/n1',
      listenAddr: '127.0.0.1:26257',
      httpAddr: '127.0.0.1:8080',
      join: [],
      insecure: true,
      singleReplica: false,
      background: false,
    },
  ]);
  const all = await tide(
    'start --store=d --insecure --listen-addr=:7000 --advertise-addr=db1 --join=a,b:7001 --join=[::1]:7002 ' +
      '--locality=zone=a,rack=1 --attrs=ssd --postgres-port=5433 --postgres-bin=/pg/bin --single-replica --min-nodes=2 --background',
  );
  expect(all.host.started).toEqual([
    {
      store: 'd',
      listenAddr: '127.0.0.1:7000',
      httpAddr: '127.0.0.1:8080',
      advertiseAddr: 'db1:26257',
      join: ['a:26257', 'b:7001', '[::1]:7002'],
      insecure: true,
      locality: 'zone=a,rack=1',
      attrs: 'ssd',
      postgresPort: 5433,
      postgresBin: '/pg/bin',
      singleReplica: true,
      minNodes: 2,
      background: true,
    },
  ]);
});

test('demo: stays only where somebody can press Ctrl-C', async () => {
  expect((await tide('demo --rows=1000', PIPE)).host.demos).toEqual([{ exit: true, rows: 1000 }]);
  expect((await tide('demo')).host.demos).toEqual([{ exit: false }]);
  expect((await tide('demo --exit --report=r.json')).host.demos).toEqual([{ exit: true, report: 'r.json' }]);
});

test('commands become admin requests', async () => {
  const table = 'acct';
  const asked = async (line: string) => (await tide(line, PIPE)).asked.find((command) => !LOOKS.includes(command.do));
  expect(await asked('partition migrate acct 1-3 1 127.0.0.1:26260')).toEqual({
    do: 'partition-migrate',
    table,
    pids: [1, 2, 3],
    from: 1,
    to: 4,
  });
  expect(await asked('partition change-leader acct 3')).toEqual({
    do: 'partition-change-leader',
    table,
    pid: 3,
    to: 'auto',
  });
  expect(await asked('partition change-leader acct 3 n2')).toEqual({
    do: 'partition-change-leader',
    table,
    pid: 3,
    to: 2,
  });
  expect(await asked('partition add-replica acct 1,3 4')).toEqual({
    do: 'partition-add-replica',
    table,
    pids: [1, 3],
    node: 4,
  });
  expect(await asked('node decommission 3 127.0.0.1:26260 --checks=strict --abandon-local-tables')).toEqual({
    do: 'node-decommission',
    nodes: [3, 4],
    dryRun: false,
    checks: 'strict',
    abandonLocalTables: true,
  });
  expect(await asked('plan --add=2 --remove=3,4')).toEqual({
    do: 'plan',
    add: 2,
    remove: [3, 4],
    abandonLocalTables: false,
  });
  expect(await asked("table create 'CREATE TABLE t (k int)' --partitions=8 --distribute-by=k")).toEqual({
    do: 'table-create',
    sql: 'CREATE TABLE t (k int)',
    partitions: 8,
    distributeBy: 'k',
  });
  expect(await asked('scale in 4 --dry-run')).toMatchObject({ do: 'scale-in', dryRun: true });
});

const LOOKS = ['node-status', 'op-show', 'op-ls'];

test('table create reads - and @FILE', async () => {
  const stdin = await tide('table create -', { given: (_, host) => (host.stdin = 'CREATE TABLE x ()') });
  expect(stdin.asked[0]).toMatchObject({ do: 'table-create', sql: 'CREATE TABLE x ()' });
  const missing = await tide('table create @/nowhere/x.sql');
  expect(missing.status).toBe(1);
  expect(missing.stderr).toContain('code: FILE_UNREADABLE');
});

test('what leaves with a node because that was accepted is named', async () => {
  const ran = await tide('node decommission 3 --abandon-local-tables', PIPE);
  expect(ran.status).toBe(0);
  expect(ran.stderr).toContain('warning: node 3 takes along what no other node has: notes (3 rows, 16.0 KiB)\n');
});

describe('tide node drop of a node that was heard a moment ago', () => {
  const drop = (line: string, canAsk: boolean, ...answers: string[]) =>
    tide(line, {
      ...PIPE,
      given: (world, host) => {
        world.justSeen = true;
        host.canAsk = canAsk;
        host.answers = answers;
      },
    });
  const dropped = (ran: Awaited<ReturnType<typeof drop>>) =>
    ran.asked.flatMap((command) => (command.do === 'node-drop' ? [command.sure] : []));

  test('is refused where nobody can be asked, and says how', async () => {
    const ran = await drop('node drop 3', false);
    expect(ran).toMatchObject({ status: 1, stdout: '' });
    expect(ran.stderr).toContain('tide node drop 3 --yes\ncode: NODE_JUST_SEEN\n');
    expect(dropped(ran)).toEqual([false]);
  });

  test('asks at a terminal, and takes nothing but yes for an answer', async () => {
    for (const answer of ['', 'n', 'yesterday']) {
      const ran = await drop('node drop 3', true, answer);
      expect(ran).toMatchObject({ status: 1 });
      expect(ran.stderr).toContain(
        'node 3 was heard 12 s ago, and dropping it is for good. Drop node 3? [y/N] ERROR: node 3 stays: not confirmed',
      );
      expect(dropped(ran)).toEqual([false]);
    }
    const ran = await drop('node drop 3', true, 'Yes');
    expect(ran).toMatchObject({ status: 0 });
    expect(dropped(ran)).toEqual([false, true]);
  });

  test('does not ask somebody who has answered, and says what nobody could look at', async () => {
    const ran = await drop('node drop 3 --yes', true);
    expect(ran).toMatchObject({ status: 0 });
    expect(dropped(ran)).toEqual([true]);
    expect(ran.stderr).toContain(
      'warning: node 3 does not answer: whether it holds ordinary tables could not be looked',
    );
  });
});

test('a node nobody knows', async () => {
  const ran = await tide('node decommission 10.0.0.9:26257');
  expect(ran.status).toBe(1);
  expect(ran.stderr).toContain('ERROR: node 10.0.0.9:26257 does not exist (this cluster has n1 127.0.0.1:26257, n2 ');
});

test('a failed decommission: exit status 1, why, and what to do', async () => {
  const ran = await tide('node decommission 4', { given: (world) => (world.ending = 'failed') });
  expect(ran.status).toBe(1);
  expect(ran.stdout).not.toContain('No more data');
  expect(ran.stderr).toContain(`
ERROR: operation 12 (node 4) failed: node 2 has 2.4 % of its disk left: the copy to it was given up
hint: free room there; what the cluster itself wants there is tried again, what you asked for is for you to repeat
code: OP_NOT_DONE
`);
});

test('a cancelled operation: exit status 1', async () => {
  const ran = await tide('op watch 13', { given: (world) => (world.ending = 'cancelled') });
  expect(ran.status).toBe(1);
  expect(ran.stderr).toContain(
    'ERROR: operation 13 (asked for by scale out) was cancelled\nhint: tide op show 13 tells what was undone\n',
  );
});

test('waiting has a reason, and silence never lasts longer than 10 s', async () => {
  const ran = await tide('op watch 17', { ...PIPE, given: (world) => (world.waitingLooks = 80) });
  const name = 'operation 17 move-replica acct 3: n1 → n4';
  const waits =
    `${name}: connect-nodes, 9 %, 0 B of 164 MiB; waits for a replication slot starts when it ends: ` +
    'pid 4711 of app (psql) on node 1, open for 62 s, idle in transaction: UPDATE acct SET balance = ? WHERE id = ?';
  expect(ran.stderr).toBe(`${waits}
${waits}
${waits}
${name}: copy-rows, 13 %, 0 B of 164 MiB
${name}: done after 1 min 13 s
`);
  expect(ran.stdout).toBe(
    'id\tkind\tsubject\tstatus\tbytes_done\tended_at\n17\tmove-replica\tacct 3: n1 → n4\tdone\t171966464\t2026-03-01 09:30:14.000+00:00\n',
  );
});

test('a terminal has lines that are rewritten and taken away', async () => {
  const ran = await tide('scale out', TERMINAL);
  const name = 'operation 13 rebalance asked for by scale out: move-replicas\n';
  const first = `${name}  [....................]   0 %, 0 B of 324 MiB\n`;
  const second = `${name}  [########............]  43 %, 139 MiB of 324 MiB, 84.0 MiB/s, 3 s left\n`;
  const away = '\x1b[2A\x1b[J';
  expect(ran.stderr).toBe(`${first}${away}${second}${away}`);
});

test('a decommission on a terminal prints the nodes at the start and at the end', async () => {
  const ran = await tide('node decommission 4', { ...TERMINAL, given: (world) => (world.waitingLooks = 5) });
  expect(ran.stdout.match(/is_decommissioning/g)).toHaveLength(2);
});

test('where nothing changes, a decommission prints dots', async () => {
  const ran = await tide('node decommission 4', { ...PIPE, given: (world) => (world.waitingLooks = 12) });
  expect(ran.stderr).toMatch(/\n\.\.\noperation 12 .*\noperation 12 .* done after 1 min 13 s\n$/);
  expect(ran.stdout).toBe(
    'id\tis_live\treplicas\tis_decommissioning\tis_draining\n4\ttrue\t1\ttrue\tfalse\n' +
      'id\tis_live\treplicas\tis_decommissioning\tis_draining\n4\ttrue\t0\ttrue\tfalse\n' +
      '\nNo more data reported on target nodes. Please verify cluster health before removing the nodes.\n',
  );
});

test('json while waiting is one document: the operations', async () => {
  const ran = await tide('node decommission 4 --format=json');
  expect(JSON.parse(ran.stdout)).toMatchObject([{ id: 12, status: 'done', bytesTotal: 324 * 1024 ** 2 }]);
  const none = await tide('node decommission 4 --dry-run --format=json');
  expect(JSON.parse(none.stdout)).toMatchObject({ operation: null, plan: { bytesMinimal: 324 * 1024 ** 2 } });
});

test('json is the answer of the API, where a sentence is for people too', async () => {
  const moved = await tide('meta move 2 --format=json');
  expect(JSON.parse(moved.stdout)).toEqual({ node: 2, address: '127.0.0.1:26258' });
  expect(moved.stderr).toBe('node 2 at 127.0.0.1:26258 manages the cluster now\n');
  const migrated = await tide('meta migrate --to=etcd://10.0.0.1 --format=json');
  expect(JSON.parse(migrated.stdout)).toEqual({ meta: 'etcd://10.0.0.1' });
  expect(migrated.stderr).toContain('the meta store is in etcd://10.0.0.1 now');
});

test('Ctrl-C ends the waiting and says how to go on', async () => {
  const ran = await tide('scale out', { given: (_, host) => (host.interruptAfterSleeps = 1) });
  expect(ran.status).toBe(130);
  expect(ran.stderr).toContain("operation 13 goes on: 'tide op watch 13' shows it, 'tide op cancel 13' cancels it\n");
});

test('a node that hangs up is asked again', async () => {
  const ran = await tide('op watch 13', { ...PIPE, given: (_, __, node) => (node.hangUps = 5) });
  expect(ran.status).toBe(0);
  expect(ran.stderr.split('\n')[0]).toBe(
    'no pgtide node answers at 127.0.0.1:26257: socket hang up; the operation goes on, asking again for 60 s',
  );
});

test('a node that stays away for 60 s is given up', async () => {
  const ran = await tide('op watch 13', { ...PIPE, given: (_, __, node) => (node.hangUps = 10_000) });
  expect(ran.status).toBe(1);
  expect(ran.stderr.match(/asking again/g)).toHaveLength(6);
  expect(ran.stderr).toContain('ERROR: lost sight of operation 13: 127.0.0.1:26257 has not answered for 60 s');
});

test('events --follow outlives a manager that changes, and says so once', async () => {
  const ran = await tide('events --follow --format=json', {
    given: (_, host, node) => {
      host.interruptAfterSleeps = 5;
      host.atSleep = (count) => {
        if (count === 1) node.hangUps = 2;
      };
    },
  });
  expect(ran.status).toBe(0);
  expect(ran.stderr).toMatch(/^warning: no pgtide node answers at .*; asking again for 60 s\n$/);
  expect(ran.asked.filter((c) => c.do === 'events')).toHaveLength(3);
});

test('events --follow goes on until Ctrl-C, one JSON object a line', async () => {
  const ran = await tide('events --follow --format=json', { given: (_, host) => (host.interruptAfterSleeps = 3) });
  expect(ran.status).toBe(0);
  expect(
    ran.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).seq),
  ).toEqual([1, 2, 3, 4]);
});

test('doctor: something left over is exit status 1, unless it was removed', async () => {
  expect((await tide('doctor')).status).toBe(1);
  expect((await tide('doctor --fix')).status).toBe(0);
});

test('words of a command line', () => {
  expect(words("table create 'a b' --x=1")).toEqual(['table', 'create', 'a b', '--x=1']);
});

describe('tide scale in, repeated', () => {
  const leaves = async (given: RunOptions['given'] = () => {}) =>
    tide('scale in 4 --format=tsv', {
      ...PIPE,
      given: (world, host, node) => {
        world.answer({ do: 'scale-in', endpoints: ['4'], dryRun: false, checks: 'enabled', abandonLocalTables: false });
        given(world, host, node);
      },
    });

  test('stops a node that is out already', async () => {
    const ran = await leaves();
    expect(ran).toMatchObject({ status: 0, stdout: '127.0.0.1:26260 has no data and is stopped\n' });
    expect(ran.asked.map((command) => command.do)).toEqual(['node-status', 'scale-in']);
  });

  test('leaves another node alone that is at its address by now', async () => {
    const ran = await leaves((world) => (world.outId = 3));
    expect(ran).toMatchObject({ status: 0 });
    expect(ran.stdout).toBe('127.0.0.1:26260 has no data and does not run: another node is there now\n');
  });
});

describe('tide table drop', () => {
  const drop = (line: string, canAsk: boolean, ...answers: string[]) =>
    tide(line, {
      ...PIPE,
      given: (_, host) => {
        host.canAsk = canAsk;
        host.answers = answers;
      },
    });
  const WHAT = 'table acct: about 500000 rows, 72.4 MiB, in 3 replicas';

  test('names what goes, and asks at a terminal', async () => {
    const no = await drop('table drop acct', true, 'no');
    expect(no).toMatchObject({ status: 1 });
    expect(no.stderr).toContain(`Drop ${WHAT}? [y/N] ERROR: table acct stays: not confirmed, nothing was done\n`);
    expect(no.asked.map((command) => command.do)).toEqual(['table-ls']);
    expect((await drop('table drop public.acct', true, 'y')).asked.map((command) => command.do)).toContain(
      'table-drop',
    );
  });

  test('asks no script, and nobody who has answered', async () => {
    for (const [line, canAsk] of [
      ['table drop acct', false],
      ['table drop acct --yes', true],
    ] as const) {
      const ran = await drop(line, canAsk);
      expect(ran).toMatchObject({ status: 0 });
      expect(ran.stderr).toContain(`dropping ${WHAT}\n`);
      expect(ran.stderr).not.toContain('[y/N]');
    }
  });
});

test('tide meta migrate asks at a terminal: there is no way back', async () => {
  const migrate = (answer: string) =>
    tide('meta migrate --to=etcd://10.0.0.1', {
      given: (_, host) => {
        host.canAsk = true;
        host.answers = [answer];
      },
    });
  expect(await migrate('')).toMatchObject({ status: 1, asked: [] });
  expect(await migrate('y')).toMatchObject({ status: 0 });
});
