// For the findings about logical replication: two databases of the one server, `sender` and `receiver`.
import pg from 'pg';

async function connect(database) {
  const client = new pg.Client({ database });
  await client.connect();
  return client;
}

/** Says the server's version, and gives a session with each. */
export async function twoDatabases() {
  const admin = await connect('postgres');
  console.log((await admin.query('show server_version')).rows[0].server_version);
  await admin.query('create database sender');
  await admin.query('create database receiver');
  return { admin, sender: await connect('sender'), receiver: await connect('receiver') };
}
