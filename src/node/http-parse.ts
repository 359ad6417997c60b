import { tideError } from '../core/errors.ts';

interface Schema<T> {
  safeParse(
    value: unknown,
  ): { success: true; data: T } | { success: false; error: { issues: { path: PropertyKey[]; message: string }[] } };
}

/** What a request says, in the form that its route takes. Throws BAD_REQUEST, which names `what`. */
export function parse<T>(schema: Schema<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const why = parsed.error.issues.map((i) => [...i.path.map(String), i.message].join(': ')).join('; ');
  throw tideError('BAD_REQUEST', { what, why });
}
