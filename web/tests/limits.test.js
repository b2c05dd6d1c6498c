import assert from 'node:assert/strict';
import test from 'node:test';
import { DEFAULTS, forNode, parseLimits, readLimit } from '../ui/limits.js';
import { Rates } from '../ui/rates.js';

test('limits as they are typed', () => {
  assert.equal(readLimit(''), null);
  assert.equal(readLimit(' 2 '), 2);
  assert.equal(readLimit('0,5'), 0.5);
  assert.equal(readLimit('.5'), 0.5);
  assert.equal(readLimit('۲٫۵'), 2.5);
  assert.equal(readLimit('٣'), 3);
  for (const wrong of ['0', '-1', '1e9', 'two', '1.2.3', '2 MB', '9999999']) assert.equal(readLimit(wrong), undefined, wrong);
});

test('limits as the node takes them', () => {
  assert.deepEqual(forNode(DEFAULTS), { carry: true, up: 0, down: 0, carry_rate: 0 });
  assert.deepEqual(forNode({ carry: false, up: 0.5, down: 2, carry_rate: null, store: 1.5 }), {
    carry: false,
    up: 500_000,
    down: 2_000_000,
    carry_rate: 0,
    store_bytes: 1_500_000_000,
  });
  // The smallest of limits is not taken for none.
  assert.equal(forNode({ ...DEFAULTS, up: 1e-9 }).up, 1);
});

test('what was kept is not believed', () => {
  assert.deepEqual(parseLimits(null), DEFAULTS);
  assert.deepEqual(parseLimits('{'), DEFAULTS);
  assert.deepEqual(parseLimits('[1]'), DEFAULTS);
  assert.deepEqual(parseLimits('null'), DEFAULTS);
  assert.deepEqual(parseLimits('{"up":-1,"down":"9","carry":"no","store":1e99}'), DEFAULTS);
  assert.deepEqual(parseLimits('{"up":1.5,"carry":false}'), { ...DEFAULTS, up: 1.5, carry: false });
});

test('rates are of the last seconds', () => {
  const rates = new Rates();
  assert.equal(rates.of(1, 1000, 0), 0);
  assert.equal(rates.of(1, 2000, 1000), 1000);
  for (let second = 2; second <= 20; second += 1) rates.of(1, 2000, second * 1000);
  assert.equal(rates.of(1, 2000, 21_000), 0);
  // A counter that begins anew is no rate below nothing.
  assert.equal(rates.of(1, 10, 22_000), 0);
  assert.equal(rates.of(1, 510, 22_500), 1000);
  assert.equal(rates.of(2, 5, 22_500), 0);
});
