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

/** With a table `t` whose rows flow from one to the other, by slot, subscription `s` and publication `p`. */
export async function streamingDatabases(options = '') {
  const { admin, sender, receiver } = await twoDatabases();
  for (const each of [sender, receiver]) await each.query('create table t (id int primary key)');
  await sender.query('create publication p for all tables');
  await sender.query(`select pg_create_logical_replication_slot('s', 'pgoutput')`);
  await receiver.query(`create subscription s connection 'host=127.0.0.1 port=${process.env.PGPORT} user=postgres dbname=sender'
  publication p with (create_slot = false, copy_data = false${options})`);
  return { admin, sender, receiver };
}
