import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { must } from '../../../src/core/assert.ts';
import { LocalCluster } from '../../../src/local/local-cluster.ts';
import { isAlive } from '../../../src/local/processes.ts';

const program = fileURLToPath(new URL('testdata/node.mjs', import.meta.url));

let cluster: LocalCluster;
beforeEach(async () => {
  cluster = await LocalCluster.create();
});
afterEach(() => cluster.close());

const start = (flags: string[] = []) => cluster.addNode({ program, flags });

const BREAKS = "console.log('no luck'); process.exitCode = 7";

describe('a local cluster', () => {
  it('starts nodes, each of which joins those that run', async () => {
    const first = await start();
    const second = await start(['--cache=1']);
    expect(cluster.nodes.map((n) => n.id)).toEqual([1, 2]);
    expect(cluster.node(2)).toBe(second);
    expect([first.isRunning, first.output]).toEqual([true, expect.not.stringContaining('--join')]);
    expect(second.output).toContain(`--join=${first.address} --cache=1`);
    expect(await cluster.admin({ do: 'node-status' }, { node: 2 })).toMatchObject([{ id: 2 }]);
    expect((await cluster.sql(2).query('SELECT 1')).rows).toEqual([]);
  });

  it('says what a node printed that did not come up', async () => {
    const broken = cluster.addNode({ program, within: [process.execPath, '-e', BREAKS] });
    await expect(broken).rejects.toThrow(/ended \(7\):\nno luck/);
  });

  it('takes all of it along when it is closed', async () => {
    const { processId, postgresProcessId } = await start();
    const killed = await start();
    await killed.kill();
    const all = [processId, postgresProcessId, killed.postgresProcessId].map((found) => must(found, 'process'));
    expect(all.map(isAlive)).toEqual([true, true, true]);
    await cluster.close();
    expect(all.map(isAlive)).toEqual([false, false, false]);
    expect(existsSync(cluster.dir)).toBe(false);
    await expect(start()).rejects.toThrow('the local cluster is being closed');
  });
});

describe('a node of it', () => {
  it('that is killed leaves its PostgreSQL behind, and finds it again', async () => {
    const node = await start();
    const { processId, postgresProcessId } = node;
    await node.kill();
    expect([node.isRunning, node.processId, node.postgresProcessId]).toEqual([false, null, postgresProcessId]);
    await node.restart(['--cache=2']);
    expect(node.processId).not.toBe(processId);
    expect([node.isRunning, node.postgresProcessId]).toEqual([true, postgresProcessId]);
    expect(node.output).toContain('--cache=2');
  });

  it('that is stopped, or quits, takes it along', async () => {
    const [stopped, quit] = [await start(), await start()];
    expect((await cluster.sql(1).query('SELECT 1')).rows).toEqual([]);
    await stopped.stop();
    await quit.quit();
    // What was killed is there until somebody has asked for its end.
    for (const node of [stopped, quit])
      await expect.poll(() => [node.processId, node.postgresProcessId], { timeout: 10_000 }).toEqual([null, null]);
    // Again, it ends nothing.
    await stopped.stop();
  });

  it('has a PostgreSQL that ends alone', async () => {
    const node = await start();
    const postgres = must(node.postgresProcessId, 'pid');
    node.killPostgres();
    await expect.poll(() => isAlive(postgres)).toBe(false);
    expect([node.isRunning, node.postgresProcessId]).toEqual([true, null]);
  });

  it('comes back as another program, and stays that', async () => {
    const node = await start();
    await node.stop();
    await expect(node.restart([], '/no/such/program.mjs')).rejects.toThrow('Cannot find module');
    await expect(node.restart()).rejects.toThrow('/no/such/program.mjs');
    await node.restart([], program);
    expect(node.isRunning).toBe(true);
  });
});
