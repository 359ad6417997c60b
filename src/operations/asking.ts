import type { NodeId } from '../catalog/model.ts';
import type { DataPlane } from './ports.ts';
import type { Question } from './progress.ts';

/** Hears what is asked, has it asked by `ask`, and gives the answer. */
export type Asking = <T>(question: Question, ask: () => Promise<T>) => Promise<T>;

type Call = (...args: unknown[]) => Promise<unknown>;

/** The plane, with every call of it made through `asking`. */
export function toldPlane(plane: DataPlane, asking: Asking): DataPlane {
  return new Proxy({} as DataPlane, { get: (_, noun: keyof DataPlane) => callsOf(plane, noun, asking) });
}

function callsOf<Noun extends keyof DataPlane>(plane: DataPlane, noun: Noun, asking: Asking): DataPlane[Noun] {
  return new Proxy(plane[noun], {
    get: (target, name: keyof DataPlane[Noun] & string) => {
      const what = `${noun}: ${inWords(name)}`;
      return (...args: unknown[]) =>
        asking({ what, nodes: askedIn(args) }, () => (target[name] as Call).apply(target, args));
    },
  });
}

/** Every call begins with the nodes that it is about: one, or both ends of a stream and the like. */
function askedIn(args: readonly unknown[]): NodeId[] {
  const two = args.slice(0, 2);
  const end = two.findIndex((arg) => typeof arg !== 'number');
  return two.slice(0, end < 0 ? two.length : end) as NodeId[];
}

/** `ensureForeignServer` is `ensure foreign server`. */
function inWords(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
