import { expect, test } from 'vitest';
import type { Settings } from '../../../src/catalog/model.ts';
import { defaultSettings, parseSetting, SETTINGS, showSetting } from '../../../src/catalog/settings.ts';

test('settings take what they say they take', () => {
  expect(parseSetting('rebalance.auto', 'off')).toEqual({ key: 'rebalance.auto', value: false });
  expect(parseSetting('rebalance.auto', 'TRUE')).toEqual({ key: 'rebalance.auto', value: true });
  expect(parseSetting('move.max_pause', ' 20 ')).toEqual({ key: 'move.max_pause', value: 20 });
  expect(parseSetting('min_nodes', '1000')).toEqual({ key: 'min_nodes', value: 1000 });
  expect(parseSetting('durability', ' Async ')).toEqual({ key: 'durability', value: 'async' });
});

test('sizes have the units of PostgreSQL, and are shown as they are taken', () => {
  const sizes = {
    '4GB': 4 * 2 ** 30,
    ' 500 mb ': 500 * 2 ** 20,
    '1TB': 2 ** 40,
    '104857600': 100 * 2 ** 20,
    '40960kB': 40 * 2 ** 20,
  };
  for (const [text, value] of Object.entries(sizes))
    expect(parseSetting('move.max_retained_wal', text)).toEqual({ key: 'move.max_retained_wal', value });
  expect(showSetting('move.max_retained_wal', 4 * 2 ** 30)).toBe('4GB');
  expect(showSetting('move.max_retained_wal', 1536 * 2 ** 20)).toBe('1536MB');
  expect(showSetting('move.max_retained_wal', 33_554_433)).toBe('33554433B');
  expect(showSetting('rebalance.auto', false)).toBe('off');
});

const refused: [string, string, string][] = [
  ['rebalance.auto', 'maybe', 'it takes on or off'],
  ['move.max_pause', '19', 'it takes a whole number from 20 to 60000'],
  ['min_nodes', '1.5', 'it takes a whole number from 1 to 1000'],
  ['min_nodes', '', 'it takes a whole number from 1 to 1000'],
  ['min_nodes', '1e3', 'it takes a whole number from 1 to 1000'],
  ['durability', 'on', 'it takes quorum or async'],
  ['move.max_retained_wal', '31MB', 'it takes a size from 32MB to 1TB, such as 500MB or 4GB'],
  ['move.max_retained_wal', '4 gigs', 'it takes a size from 32MB to 1TB, such as 500MB or 4GB'],
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
    expect(parseSetting(key, showSetting(key as keyof Settings, value)).value).toBe(value);
  }
});
