// `npm pack` and `npm publish`: the package is built, and whoever installs it gets the versions it was tested
// with. npm takes those from npm-shrinkwrap.json, also in a checkout, where package-lock.json is what counts:
// so it is made for the package and removed again (--clear).
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { setUp } from './setup.mjs';

const shrinkwrap = new URL('../npm-shrinkwrap.json', import.meta.url);

if (process.argv.includes('--clear')) rmSync(shrinkwrap, { force: true });
else {
  setUp();
  writeFileSync(shrinkwrap, `${JSON.stringify(locked(), null, 2)}\n`);
}

/**
 * Without what only a checkout needs. One that leaves out a platform would keep that platform from installing
 * its PostgreSQL.
 */
function locked() {
  const lock = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'));
  const packages = Object.entries(lock.packages).filter(([, { dev, devOptional }]) => !dev && !devOptional);
  const [, own] = packages.find(([path]) => path === '');
  const names = new Set(packages.map(([path]) => path));
  const missing = Object.keys(own.optionalDependencies).filter((name) => !names.has(`node_modules/${name}`));
  if (missing.length > 0) {
    process.stderr.write(
      `ERROR: package-lock.json leaves out ${missing.join(', ')}: npm install --package-lock-only\n`,
    );
    process.exit(1);
  }
  const { devDependencies: _, ...root } = own;
  return { ...lock, packages: { ...Object.fromEntries(packages), '': root } };
}
