/** A field's name as a column's: `isLive` is `is_live`, as KWDB spells it. */
export function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
