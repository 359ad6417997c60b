/** What a node says of itself when it is ready. */
export interface BannerFacts {
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly tookMs: number;
  readonly version: string;
  readonly postgresVersion: string;
  /** HOST:PORT. */
  readonly advertiseAddress: string;
  readonly httpAddress: string;
  readonly postgresAddress: string;
  readonly store: string;
  readonly logs: string;
  readonly locality: string;
  readonly status: BannerStatus;
  readonly clusterId: string;
  readonly nodeId: number;
}

export type BannerStatus =
  | 'initialized new cluster'
  | 'initialized new node, joined pre-existing cluster'
  | 'restarted pre-existing node';

/** The banner of `tide start`, one fact a line, without a final newline. */
export function renderBanner(facts: BannerFacts): string {
  const url = `postgresql://tide@${facts.advertiseAddress}/tide`;
  const lines: [string, string][] = [
    ['build', `pgtide ${facts.version}, PostgreSQL ${facts.postgresVersion}`],
    ['sql', url],
    ['connect', `psql '${url}'`],
    ['http', `http://${facts.httpAddress}`],
    ['postgres', facts.postgresAddress],
    ['store', facts.store],
    ['logs', facts.logs],
    ...(facts.locality === '' ? [] : [['locality', facts.locality] as [string, string]]),
    ['status', facts.status],
    ['clusterID', facts.clusterId],
    ['nodeID', String(facts.nodeId)],
  ];
  const width = Math.max(...lines.map(([name]) => name.length)) + 2;
  const title = `pgtide node starting at ${facts.startedAt} (took ${(facts.tookMs / 1000).toFixed(1)}s)`;
  return [title, ...lines.map(([name, value]) => `${`${name}:`.padEnd(width)}${value}`)].join('\n');
}
