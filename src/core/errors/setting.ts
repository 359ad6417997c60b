import { entry } from './entry.ts';

/** Refusals of `tide settings set`. */
export const settingErrors = {
  SETTING_UNKNOWN: entry<{ key: string; known: string }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `setting ${d.key} does not exist`,
    hint: (d) => `the settings are ${d.known}`,
  }),
  SETTING_INVALID: entry<{ key: string; value: string; takes: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `setting ${d.key} cannot be "${d.value}"`,
    hint: (d) => `it takes ${d.takes}`,
  }),
};
