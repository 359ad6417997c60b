import { readFileSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { expect, test } from 'vitest';
import { buildProgram } from '../../../src/cli/program.ts';
import { FakeHost } from './support/fake-host.ts';
import { tide } from './support/run.ts';

/**
 * docs/commands.md is the golden file of the CLI: each `console` block is run against a fake cluster and
 * compared. `REWRITE=1 npx vitest run tests/unit/cli/docs.test.ts` writes the answers into it.
 */
const FILE = new URL('../../../docs/commands.md', import.meta.url);
const text = readFileSync(FILE, 'utf8');
const BLOCK = /```console\n\$ tide (.*)\n([\s\S]*?)```/g;
const transcripts = [...text.matchAll(BLOCK)].map((match) => ({ line: match[1] ?? '', printed: match[2] ?? '' }));
const program = buildProgram({ host: new FakeHost({}, { stdout: false, stderr: false }), status: 0 });

test('every example prints what the document says', async () => {
  const answers = new Map<string, string>();
  for (const { line } of transcripts) answers.set(line, await transcript(line));
  if (process.env.REWRITE) rewrite(answers);
  else for (const { line, printed } of transcripts) expect(answers.get(line), `$ tide ${line}`).toBe(printed);
});

function rewrite(answers: Map<string, string>): void {
  const block = (line: string) => `\`\`\`console\n$ tide ${line}\n${answers.get(line) ?? ''}\`\`\``;
  writeFileSync(
    FILE,
    text.replace(BLOCK, (_, line: string) => block(line)),
  );
}

/** They ask no cluster, or print nothing but `ok`. */
const WITHOUT_ANSWER = /^(start|quit|demo|version)\b/;

test('every example that works prints JSON where it is asked for that', async () => {
  const lines = transcripts.map(({ line }) => line).filter((line) => !WITHOUT_ANSWER.test(line));
  for (const line of lines) {
    const ran = await tide(`${line.replace(/ --format=\w+/, '')} --format=json`);
    if (ran.status === 0) expect(() => JSON.parse(ran.stdout), `$ tide ${line} --format=json`).not.toThrow();
  }
});

test('every command has a section with all its flags', () => {
  for (const [path, command] of leaves(program)) {
    const section = text.split(/^### /m).find((part) => part.startsWith(`tide ${path}\n`)) ?? '';
    expect(section, `### tide ${path}`).not.toBe('');
    const flags = command.options.map((option) => option.long ?? '').filter((flag) => !SHARED.includes(flag));
    const missing = flags.filter((flag) => !section.includes(`\`${flag}`));
    expect(missing, `flags of tide ${path}`).toEqual([]);
  }
  expect(SHARED.filter((flag) => !text.includes(`\`${flag}`))).toEqual([]);
});

/** Described once, for all client commands. */
const SHARED = ['--host', '--timeout', '--format'];

test('every command has a help text with examples that it understands', () => {
  for (const [path, command] of leaves(program)) {
    let help = '';
    command.configureOutput({ writeOut: (part) => (help += part) }).outputHelp();
    expect(help, path).toContain(`Examples:\n  $ tide ${path}`);
    const known = command.options.map((option) => option.long);
    const used = [...help.slice(help.indexOf('Examples:')).matchAll(/\s(--[a-z-]+)/g)].map((match) => match[1]);
    expect(
      used.filter((flag) => !known.includes(flag)),
      `flags in the examples of tide ${path}`,
    ).toEqual([]);
  }
});

function leaves(command: Command, path = ''): [string, Command][] {
  return command.commands.flatMap((child): [string, Command][] => {
    const name = `${path} ${child.name()}`.trim();
    return child.commands.length > 0 ? leaves(child, name) : [[name, child]];
  });
}

async function transcript(line: string): Promise<string> {
  const ran = await tide(line);
  return ran.status === 0 ? ran.transcript : `${ran.transcript}[exit status ${ran.status}]\n`;
}
