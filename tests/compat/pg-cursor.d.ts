declare module 'pg-cursor' {
  import type { Submittable } from 'pg';

  /** The part of pg-cursor that tests use; the package has no types of its own. */
  export default class Cursor implements Submittable {
    constructor(text: string, values?: unknown[]);
    submit: Submittable['submit'];
    read(count: number): Promise<unknown[]>;
    close(): Promise<void>;
  }
}
