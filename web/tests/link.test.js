import assert from 'node:assert/strict';
import test from 'node:test';
import { findLink, makeHash, readHash } from '../ui/link.js';

const V1 = 'c9e15763f722f23e98a29decdfae341b98d53056';
const V2 = 'caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e';
const MAGNET = `magnet:?xt=urn:btih:${V1}&dn=a%20film&tr=udp%3A%2F%2Ftracker.example%3A1`;

test('links in pasted text', () => {
  assert.equal(findLink(`  ${MAGNET}\n`), MAGNET);
  assert.equal(findLink(`Look: <a href="${MAGNET}">this</a>`), MAGNET);
  assert.equal(findLink(`the film is ${V1}, enjoy`), V1);
  assert.equal(findLink(V2), V2);
  assert.equal(findLink(`1220${V2}`), `1220${V2}`);
  assert.equal(findLink('ZOCMZQIPFFW7OLLMIC5HUB6BPCSDEOQU'), 'ZOCMZQIPFFW7OLLMIC5HUB6BPCSDEOQU');
  assert.equal(findLink(' no link '), 'no link');
  assert.equal(findLink(`${V1}0`), `${V1}0`);
});

test('links in the address', () => {
  assert.equal(readHash(`#${MAGNET}`), MAGNET);
  assert.equal(readHash(`#${encodeURIComponent(MAGNET)}`), MAGNET);
  assert.equal(readHash(`#${V1}`), V1);
  assert.equal(readHash(''), null);
  assert.equal(readHash('#what-is-hidden'), null);
  assert.equal(readHash('#magnet%3A%E0%A4%A'), null);
});

test('an address for a torrent without a link', () => {
  assert.equal(makeHash(V1, 'a & b'), `#magnet:?xt=urn:btih:${V1}&dn=a%20%26%20b`);
  assert.equal(makeHash(V2, 'n'), `#magnet:?xt=urn:btmh:1220${V2}&dn=n`);
  assert.notEqual(readHash(makeHash(V1, 'a')), null);
});
