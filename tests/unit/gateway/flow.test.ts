import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Flow } from '../../../src/gateway/session/flow.ts';
import type { Prepared, Unit } from '../../../src/gateway/session/unit.ts';
import { CLIENT, ClientFrames } from '../../../src/gateway/wire/client-frames.ts';
import { readBind, readExecute, readParse, readTarget } from '../../../src/gateway/wire/extended.ts';

/** What a server does with messages, as far as a client can see it. */
class Server {
  readonly #statements = new Map<string, string>();
  #portal: string | null = null;
  #isSkipping = false;
  #status = 'I';

  /** What it answers. `executed` hears what it executes. */
  take(bytes: Buffer, executed: (text: string) => void): string[] {
    const type = bytes[0];
    if (type === CLIENT.sync) {
      this.#isSkipping = false;
      this.#portal = null;
      return [`Z ${this.#status}`];
    }
    if (type === CLIENT.query) {
      this.#statements.delete('');
      return [...this.#run(bytes.toString('utf8', 5, bytes.length - 1), executed), `Z ${this.#status}`];
    }
    if (this.#isSkipping) return [];
    const answers = this.#extended(type as number, bytes, executed);
    if (answers.some((a) => a.startsWith('E'))) {
      this.#isSkipping = true;
      if (this.#status === 'T') this.#status = 'E';
    }
    return answers;
  }

  #extended(type: number, bytes: Buffer, executed: (text: string) => void): string[] {
    switch (type) {
      case CLIENT.parse:
        return this.#parse(bytes);
      case CLIENT.bind: {
        const text = this.#statements.get(readBind(bytes)?.statement ?? '');
        if (this.#status === 'E') return ['E aborted'];
        if (text === undefined) return ['E no statement'];
        this.#portal = text;
        return ['2'];
      }
      case CLIENT.describe: {
        const { kind, name } = readTarget(bytes) ?? { kind: 0, name: '' };
        const text = kind === 0x53 ? this.#statements.get(name) : this.#portal;
        return text == null ? ['E nothing to describe'] : [`T ${text}`];
      }
      case CLIENT.execute:
        if (this.#portal === null || readExecute(bytes) === null) return ['E no portal'];
        return this.#run(this.#portal, executed);
    }
    if (type === CLIENT.close) this.#statements.delete(readTarget(bytes)?.name ?? '');
    return ['3'];
  }

  #parse(bytes: Buffer): string[] {
    const { statement, text } = readParse(bytes) ?? { statement: '', text: 'broken' };
    // The unnamed one is gone before the next is read.
    if (statement === '') this.#statements.delete('');
    if (this.#status === 'E') return ['E aborted'];
    if (statement !== '' && this.#statements.has(statement)) return ['E duplicate'];
    if (text.includes('none')) return ['E syntax'];
    this.#statements.set(statement, text);
    return ['1'];
  }

  #run(text: string, executed: (text: string) => void): string[] {
    if (text === 'rollback') this.#status = 'I';
    else if (this.#status === 'E') return ['E aborted'];
    if (text === 'begin') this.#status = 'T';
    if (text.includes('fails')) {
      if (this.#status === 'T') this.#status = 'E';
      return ['E fails'];
    }
    executed(text);
    return [`C ${text}`];
  }
}

const message = (type: number, ...parts: (string | Buffer)[]) => {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(`${part}\0`) : part)));
  const head = Buffer.alloc(5);
  head[0] = type;
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
};
const zeros = (count: number) => Buffer.alloc(count);

const parse = (name: string, text: string) => message(CLIENT.parse, name, text, zeros(2));
const bind = (name: string) => message(CLIENT.bind, '', name, zeros(6));
const describePortal = message(CLIENT.describe, Buffer.from('P'), '');
const describeStatement = (name: string) => message(CLIENT.describe, Buffer.from('S'), name);
const close = (name: string) => message(CLIENT.close, Buffer.from('S'), name);
const execute = message(CLIENT.execute, '', zeros(4));
const sync = message(CLIENT.sync);
const query = (text: string) => message(CLIENT.query, text);

const texts = fc.constantFrom(
  'point a',
  'point b',
  'point fails',
  'point none',
  'other',
  'other fails',
  'begin',
  'rollback',
);
const names = fc.constantFrom('', 'x', 'y');
/** What clients send in one go. */
const batches = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.tuple(names, texts).map(([n, t]) => [parse(n, t), bind(n), describePortal, execute, sync]),
  },
  { weight: 3, arbitrary: names.map((n) => [bind(n), describePortal, execute, sync]) },
  { weight: 2, arbitrary: names.map((n) => [bind(n), execute, sync]) },
  fc.tuple(names, texts).map(([n, t]) => [parse(n, t), sync]),
  fc.tuple(names, texts).map(([n, t]) => [parse(n, t), describeStatement(n), sync]),
  names.map((n) => [describeStatement(n), sync]),
  names.map((n) => [close(n), sync]),
  fc.tuple(names, names).map(([n, m]) => [bind(n), execute, bind(m), execute, sync]),
  fc.tuple(names, texts, names).map(([n, t, m]) => [parse(n, t), bind(m), execute, sync]),
  names.map((n) => [bind(n), sync]),
  texts.map((t) => [query(t)]),
  fc.tuple(names, names, texts).map(([n, m, t]) => [bind(n), close(m), parse(m, t), sync]),
  fc.tuple(names, texts).map(([n, t]) => [parse(n, t), close(n), sync]),
  fc.tuple(names, texts).map(([n, t]) => [close(n), parse(n, t), bind(n), execute, sync]),
  fc.constant([sync]),
);

interface Story {
  readonly batches: (readonly Buffer[])[];
  /** Where the bytes are cut. */
  readonly cuts: number[];
  /** What happens next, one after the other: home answers, the other server does, the client sends on. */
  readonly turns: number[];
  readonly outcomes: ('done' | 'atHome' | 'no')[];
  /** The client sends nothing before all is answered. */
  readonly isPatient?: boolean;
}

const stories: fc.Arbitrary<Story> = fc.record({
  batches: fc.array(batches, { maxLength: 14 }),
  cuts: fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 10 }),
  turns: fc.array(fc.nat(2), { maxLength: 60 }),
  outcomes: fc.array(fc.constantFrom('done', 'done', 'atHome', 'no'), { minLength: 1, maxLength: 5 }),
});

/** What a client gets from one server, and what that executes. */
function plain({ batches: sent }: Story) {
  const server = new Server();
  const executed: string[] = [];
  const answers = sent.flat().flatMap((bytes) => server.take(bytes, (text) => executed.push(text)));
  return { answers, executed };
}

function routed({ batches: sent, cuts, turns, outcomes, isPatient = false }: Story) {
  const home = new Server();
  const executed: string[] = [];
  const answers: string[] = [];
  const fromHome: string[] = [];
  let elsewhere: { unit: Unit; outcome: 'done' | 'atHome' } | null = null;
  let units = 0;
  const flow: Flow = new Flow({
    toHome: (bytes) => fromHome.push(...home.take(bytes, (text) => executed.push(text))),
    isCandidate: ({ text }: Prepared) => text.startsWith('point'),
    saw: () => {},
    tryElsewhere: (unit) => {
      const outcome = outcomes[units++ % outcomes.length] ?? 'no';
      if (outcome === 'no') return false;
      elsewhere = { unit, outcome };
      return true;
    },
  });
  flow.ready(0x49);
  const frames = new ClientFrames(flow);
  const homeAnswers = () => {
    const answer = fromHome.shift();
    if (answer === undefined) return;
    if (answer === '3') flow.closed();
    const isOwn =
      (answer === '1' && flow.parsed()) ||
      (answer.startsWith('E') && flow.failed()) ||
      (answer.startsWith('Z') && flow.ready(answer.charCodeAt(2)));
    if (!isOwn) answers.push(answer);
  };
  const otherAnswers = () => {
    if (elsewhere === null) return;
    const { unit, outcome } = elsewhere;
    elsewhere = null;
    if (outcome === 'atHome') return flow.elsewhere(unit, 'atHome');
    const { text } = unit.prepared;
    const isNone = text.includes('none');
    if (unit.parsedAs !== null && !isNone) answers.push('1');
    if (isNone) answers.push('E syntax');
    else {
      answers.push('2', ...(unit.describes ? [`T ${text}`] : []));
      if (!text.includes('fails')) executed.push(text);
      answers.push(text.includes('fails') ? 'E fails' : `C ${text}`);
    }
    answers.push('Z I');
    flow.elsewhere(unit, isNone ? 'unparsed' : 'done');
  };
  let rest = Buffer.concat(sent.flat());
  let cut = 0;
  const clientSends = () => {
    if (isPatient && (fromHome.length > 0 || elsewhere !== null)) return;
    const bytes = rest.subarray(0, cuts[cut++ % cuts.length]);
    rest = rest.subarray(bytes.length);
    if (bytes.length > 0) frames.take(Buffer.from(bytes));
  };
  const moves = [homeAnswers, otherAnswers, clientSends];
  for (const turn of turns) moves[turn]?.();
  while (rest.length > 0 || fromHome.length > 0 || elsewhere !== null) for (const move of moves) move();
  return { answers, executed, units };
}

describe('a session whose statements are executed in two places', () => {
  test('answers what one server would, in order, and executes the same', () => {
    fc.assert(
      fc.property(stories, (story) => {
        const { answers, executed } = routed(story);
        expect({ answers, executed }).toEqual(plain(story));
      }),
      { numRuns: 30_000 },
    );
  });

  test('executes elsewhere what is a unit, by itself, and nothing of a transaction', () => {
    const point = [parse('x', 'point a'), bind('x'), execute, sync];
    const again = [bind('x'), execute, sync];
    const all = (...sent: (readonly Buffer[])[]) => {
      const cuts = sent.map((batch) => Buffer.concat(batch).length);
      return routed({ batches: sent, cuts, turns: [], outcomes: ['done'], isPatient: true }).units;
    };
    expect(all(point)).toBe(1);
    expect(all(point, again, again)).toBe(3);
    expect(all([query('begin')], point, again)).toBe(0);
    expect(all([query('begin')], [query('rollback')], point)).toBe(1);
    expect(all([parse('x', 'other'), bind('x'), execute, sync])).toBe(0);
    expect(all([bind('x'), execute, bind('x'), execute, sync])).toBe(0);
  });
});
