import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The documents of the repository, and files that they speak of; paths are from its root. */

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const NOT_OURS = /(^|\/)(node_modules|dist|tmp|\.[^/]+)(\/|$)/;

export const DOCUMENTS = markdownIn('');

function markdownIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (NOT_OURS.test(path)) return [];
    return entry.isDirectory() ? markdownIn(path) : path.endsWith('.md') ? [path] : [];
  });
}

export const text = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

export const isThere = (path: string): boolean => existsSync(join(ROOT, path));

/** Without blocks of code, in which nothing is a heading and nothing a link. */
export const prose = (file: string): string => text(file).replaceAll(/^( *)```[\s\S]*?^\1```$/gm, '');

/** TypeScript in a folder and below it. */
export function filesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name));
}
