const OWN_NAMES = new Set([
  'node.json',
  'node.json.new',
  'lease',
  'lease.new',
  'pgdata',
  'pgdata.new',
  'run',
  'meta',
  'logs',
  'lost+found',
  '.DS_Store',
]);

/** Whether that is the name of something that pgtide, or the file system, keeps in a store. */
export function isStoreName(name: string): boolean {
  return OWN_NAMES.has(name) || /^(node\.lock|stale\.)/.test(name);
}
