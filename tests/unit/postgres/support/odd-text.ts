import fc from 'fast-check';

/** Text in which what somebody forgot to quote comes up often. */
export const oddText = (constraints: fc.StringConstraints = {}): fc.Arbitrary<string> => {
  const special = fc.constantFrom("'", '"', '\\', ' ', ',', ';', '$', '%', '=');
  const unit = fc.oneof(special, fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 }));
  return fc.string({ maxLength: 20, ...constraints, unit }).filter((text) => !/[\0\t-\r]/.test(text));
};
