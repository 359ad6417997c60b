import { expect, test } from 'vitest';
import { readOwnSettings } from '../../../src/gateway/session/own-settings.ts';

const VALUES = {
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  idle_session_timeout: '0',
  TimeZone: 'UTC',
};

function answer(what: object = {}, values: object = {}): string {
  const ordinary = { user: 'tide', sessionUser: 'tide', schemas: ['pg_catalog', 'public'] };
  return JSON.stringify({ ...ordinary, values: JSON.stringify({ ...VALUES, ...values }), ...what });
}

test('an ordinary session: where it looks, and what is in force', () => {
  const settings = readOwnSettings(answer({}, { TimeZone: 'Asia/Tokyo' }));
  expect(settings?.schemas).toEqual(['pg_catalog', 'public']);
  expect(JSON.parse(settings?.values ?? '{}')).toMatchObject({ TimeZone: 'Asia/Tokyo' });
});

test.each([
  ['it is somebody else', answer({ user: 'reader' })],
  ['a name of PostgreSQL’s own may mean another thing', answer({ schemas: ['public', 'pg_catalog'] })],
  ['it has temporary tables', answer({ schemas: ['pg_temp_3', 'pg_catalog', 'public'] })],
  ['its keys are in another encoding', answer({}, { client_encoding: 'LATIN1' })],
  ['its strings are read otherwise', answer({}, { standard_conforming_strings: 'off' })],
  ['it cannot be read', '{"user":"tide","schemas":["\\"]}'],
  ['it ends when its home has nothing to do', answer({}, { idle_session_timeout: '60000' })],
])('%s: all of it is executed at home', (_, text) => {
  expect(readOwnSettings(text)).toBeNull();
});
