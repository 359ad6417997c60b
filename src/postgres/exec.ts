import { spawn } from 'node:child_process';
import { postgresEnvironment } from './environment.ts';

export interface ExecResult {
  /** Exit status; null where a signal ended it or it could not be started. */
  status: number | null;
  stdout: string;
  stderr: string;
  /** Why it could not be started (`EACCES`, `ENOENT`, …). */
  startError: NodeJS.ErrnoException | null;
}

export interface ExecOptions {
  input?: string;
  /** Default `/`: the caller's directory may be closed to the user that root has become. */
  cwd?: string;
}

/** Runs a program to its end. Never rejects: what went wrong is in the result. */
export function exec(file: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  return new Promise((resolve) => {
    const result: ExecResult = { status: null, stdout: '', stderr: '', startError: null };
    let child: ReturnType<typeof spawn>;
    try {
      child = spawn(file, args, { cwd: options.cwd ?? '/', env: postgresEnvironment() });
    } catch (error) {
      resolve({ ...result, startError: error as NodeJS.ErrnoException });
      return;
    }
    child.stdout?.on('data', (chunk: Buffer) => {
      result.stdout += chunk;
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      result.stderr += chunk;
    });
    child.on('error', (error) => resolve({ ...result, startError: error as NodeJS.ErrnoException }));
    child.on('close', (status) => resolve({ ...result, status }));
    // A program that ends without reading its input is judged by its exit status, not by the broken pipe.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input ?? '');
  });
}
