/**
 * What our processes need of what they were started with, and nothing else of it: passwords and tokens of
 * whoever started them go no further.
 */
const KEPT = [
  'PATH',
  'TMPDIR',
  // How programs find their libraries, for a PostgreSQL in a place of its own.
  'LD_LIBRARY_PATH',
  'LD_PRELOAD',
  'DYLD_LIBRARY_PATH',
  'DYLD_FALLBACK_LIBRARY_PATH',
];
/** Of the library with which tests set clocks; what it reads is of no use to anything else. */
const KEPT_PREFIXES = ['FAKETIME', 'DONT_FAKE'];
/** What a process of our own knows besides. */
const OWN = ['NODE_OPTIONS', 'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR', 'TZ', 'XDG_CACHE_HOME'];
const OWN_PREFIXES = ['PGTIDE_', 'TIDE_'];

/**
 * The environment of PostgreSQL's programs: PGDATA, PGPORT and PGOPTIONS would win over the configuration, a
 * locale would change the messages that are read by program, HOME would lead libpq to the files of somebody
 * else.
 */
export function postgresEnvironment(from: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  return { ...pick(from, KEPT, KEPT_PREFIXES), LC_ALL: 'C' };
}

/** The environment of a process of pgtide that another one starts. */
export function ownEnvironment(from: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  return pick(from, [...KEPT, ...OWN], [...KEPT_PREFIXES, ...OWN_PREFIXES]);
}

/**
 * A node's own process lives as long as its children, and needs no more: libraries in it read PGOPTIONS and
 * HOME, too.
 */
export function forgetEnvironment(): void {
  const kept = ownEnvironment();
  for (const name of Object.keys(process.env)) if (!(name in kept)) delete process.env[name];
}

function pick(from: NodeJS.ProcessEnv, names: readonly string[], prefixes: readonly string[]): NodeJS.ProcessEnv {
  const kept = Object.entries(from).filter(
    ([name]) => names.includes(name) || prefixes.some((p) => name.startsWith(p)),
  );
  return Object.fromEntries(kept);
}
