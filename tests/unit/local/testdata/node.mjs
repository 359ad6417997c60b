// What a local cluster sees of a node: a process that is live, lets sessions in, quits, and leaves a postmaster behind
// when it is killed.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';

const flag = (name) => process.argv.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
const store = flag('store');
const address = flag('listen-addr');
const [host, port] = address.split(':');
const id = Number(store.split('-').at(-1));
process.stdout.write(`node ${id} began with ${process.argv.slice(3).join(' ')}\n`);

const pgdata = join(store, 'pgdata');
const pidFile = join(pgdata, 'postmaster.pid');
mkdirSync(pgdata, { recursive: true });
if (!existsSync(pidFile)) {
  const postgres = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], {
    cwd: pgdata,
    detached: true,
    stdio: 'ignore',
  });
  writeFileSync(pidFile, `${postgres.pid}\n${pgdata}\n`);
}

function end() {
  process.kill(Number(readFileSync(pidFile, 'utf8').split('\n')[0]), 'SIGKILL');
  process.exit(0);
}
process.on('SIGTERM', end);

const http = createHttp((request, response) => {
  const isQuit = request.url.endsWith('/quit');
  const result = isQuit ? {} : [{ id, address: flag('advertise-addr') ?? address, state: 'active', isLive: true }];
  response.setHeader('connection', 'close');
  response.end(JSON.stringify({ result }), () => isQuit && end());
});
// AuthenticationOk and ReadyForQuery; CommandComplete and ReadyForQuery.
const WELCOME = Buffer.from('R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I', 'latin1');
const DONE = Buffer.from('C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I', 'latin1');
createServer((socket) => {
  socket.on('error', () => {});
  socket.once('data', (first) => {
    if (first[0] !== 0) {
      http.emit('connection', socket);
      socket.unshift(first);
      return;
    }
    socket.write(WELCOME);
    socket.on('data', (message) => message[0] === 0x51 && socket.write(DONE));
  });
}).listen(Number(port), host);
