import { expect, test } from 'vitest';
import { defaultSettings, parseSetting, SETTINGS } from '../../../src/catalog/settings.ts';

test('settings take what they say they take', () => {
  expect(parseSetting('rebalance.auto', 'off')).toEqual({ key: 'rebalance.auto', value: false });
  expect(parseSetting('rebalance.auto', 'TRUE')).toEqual({ key: 'rebalance.auto', value: true });
  expect(parseSetting('move.max_pause', ' 20 ')).toEqual({ key: 'move.max_pause', value: 20 });
  expect(parseSetting('min_nodes', '1000')).toEqual({ key: 'min_nodes', value: 1000 });
  expect(parseSetting('durability', ' Async ')).toEqual({ key: 'durability', value: 'async' });
});

const refused: [string, string, string][] = [
  ['rebalance.auto', 'maybe', 'it takes on or off'],
  ['move.max_pause', '19', 'it takes a whole number from 20 to 60000'],
  ['min_nodes', '1.5', 'it takes a whole number from 1 to 1000'],
  ['min_nodes', '', 'it takes a whole number from 1 to 1000'],
  ['min_nodes', '1e3', 'it takes a whole number from 1 to 1000'],
  ['durability', 'on', 'it takes quorum or async'],
  ['disk.margin', '-1', 'it takes a whole number from 0 to 90'],
];

test.each(refused)('%s cannot be "%s"', (key, value, hint) => {
  expect(() => parseSetting(key, value)).toThrow(expect.objectContaining({ code: 'SETTING_INVALID', hint }));
});

test('a setting that does not exist is refused with those that do', () => {
  const wanted = expect.objectContaining({
    code: 'SETTING_UNKNOWN',
    hint: `the settings are ${Object.keys(SETTINGS).join(', ')}`,
  });
  expect(() => parseSetting('toString', '1')).toThrow(wanted);
  expect(() => parseSetting('move.pause', '1')).toThrow(wanted);
});

test('every default is a value that the setting takes', () => {
  for (const [key, value] of Object.entries(defaultSettings())) {
    expect(parseSetting(key, value === true ? 'on' : value === false ? 'off' : String(value)).value).toBe(value);
  }
});
