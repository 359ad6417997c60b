import type { NodeRecord } from '../catalog/model.ts';

/** Deeper tiers do not count: region, zone, rack and room are what operators name. */
const TIERS_MAX = 4;
/**
 * Above the number of pairs among a partition's replicas, so that one pair in a zone outweighs all pairs in
 * racks.
 */
const TIER_BASE = 1024;

/**
 * How near two nodes are: 0 where the most general tier differs, more for each tier they share. The sum over
 * all pairs of a partition's replicas is its crowding: the lower, the better spread, the most general tier
 * first.
 */
export class Localities {
  /** Whether any two nodes differ: without localities every placement is equally well spread. */
  readonly matter: boolean;
  readonly #tiers: number;
  /**
   * Per node and tier the number of its path, as in `zone=a,rack=1`: rack 1 of zone a is not rack 1 of zone
   * b.
   */
  readonly #paths: Int32Array;

  constructor(nodes: readonly NodeRecord[]) {
    this.#tiers = Math.min(TIERS_MAX, Math.max(0, ...nodes.map((n) => n.locality.length)));
    this.#paths = new Int32Array(nodes.length * this.#tiers);
    const numbers = new Map<string, number>();
    nodes.forEach((node, n) => {
      let path = '';
      for (let t = 0; t < this.#tiers; t++) {
        const tier = node.locality[t];
        path += tier ? `${tier.key}=${tier.value},` : ',';
        const number = numbers.get(path) ?? numbers.size;
        numbers.set(path, number);
        this.#paths[n * this.#tiers + t] = number;
      }
    });
    this.matter = numbers.size > this.#tiers;
  }

  nearness(a: number, b: number): number {
    let sum = 0;
    for (let t = 0; t < this.#tiers; t++) {
      if (this.#paths[a * this.#tiers + t] !== this.#paths[b * this.#tiers + t]) break;
      sum += TIER_BASE ** (TIERS_MAX - 1 - t);
    }
    return sum;
  }

  /**
   * What a replica on `node` adds to the crowding of the replicas on `others`; one on `leaving` is about to
   * go.
   */
  crowding(node: number, others: readonly number[], leaving = -1): number {
    if (!this.matter) return 0;
    let sum = 0;
    for (const other of others) if (other !== leaving && other !== node) sum += this.nearness(node, other);
    return sum;
  }

  /** Crowding of a whole set of replicas. */
  crowdingOf(nodes: readonly number[]): number {
    if (!this.matter) return 0;
    let sum = 0;
    nodes.forEach((a, i) => {
      for (const b of nodes.slice(i + 1)) sum += this.nearness(a, b);
    });
    return sum;
  }

  /** Least crowding that `count` replicas can have on `nodes`, each taken where it adds least. */
  leastCrowding(count: number, nodes: readonly number[]): number {
    const chosen: number[] = [];
    while (chosen.length < Math.min(count, nodes.length)) {
      let best = -1;
      let least = Number.POSITIVE_INFINITY;
      for (const n of nodes) {
        if (chosen.includes(n)) continue;
        const adds = this.crowding(n, chosen);
        if (adds < least) [best, least] = [n, adds];
      }
      chosen.push(best);
    }
    return this.crowdingOf(chosen);
  }
}
