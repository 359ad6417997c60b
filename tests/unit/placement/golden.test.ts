import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Script } from './script.ts';

/**
 * Each file holds scenes, apart by blank lines; answers start with `>`. `REWRITE=1 npx vitest run golden`
 * writes them anew.
 */
const folder = join(import.meta.dirname, 'testdata');

for (const file of readdirSync(folder).filter((name) => name.endsWith('.txt'))) {
  const path = join(folder, file);
  const text = readFileSync(path, 'utf8');
  const scenes = text.trim().split(/\n\n+/);
  const played = scenes.map(play);
  if (process.env.REWRITE === '1') writeFileSync(path, `${played.join('\n\n')}\n`);
  test.each(scenes.map((scene, i) => [scene.split('\n')[0] ?? '', i]))(`${file} %s`, (_, i) => {
    expect(played[i]).toBe(scenes[i]);
  });
}

function play(scene: string): string {
  const script = new Script();
  const lines: string[] = [];
  for (const line of scene.split('\n')) {
    if (line.startsWith('>')) continue;
    lines.push(line);
    if (!line.startsWith('#')) lines.push(...answer(script, line).map((said) => `> ${said}`));
  }
  return lines.join('\n');
}

function answer(script: Script, line: string): string[] {
  try {
    return script.run(line);
  } catch (error) {
    return [`refused: ${(error as Error).message}`];
  }
}
