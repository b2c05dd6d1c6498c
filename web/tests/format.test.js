import assert from 'node:assert/strict';
import test from 'node:test';
import { clip, percent, plain, short, size, total } from '../ui/format.js';

test('sizes', () => {
  const read = (bytes) => size(bytes, 'en').replace('\u00a0', ' ');
  assert.equal(read(0), '0 B');
  assert.equal(read(999), '999 B');
  assert.equal(read(1500), '1.5 kB');
  assert.equal(read(999_999), '1 MB');
  assert.equal(read(123_456_789), '123 MB');
  assert.equal(read(-5), '0 B');
});

test('a hundred percent is all and no less', () => {
  assert.equal(percent(999, 1000, 'en'), '99%');
  assert.equal(percent(1000, 1000, 'en'), '100%');
  assert.equal(percent(0, 0, 'en'), '0%');
});

test('fingerprints', () => {
  assert.equal(short('$9695DFC35FFEB861329B9F1AB04C46397020CE31'), '9695…CE31');
  assert.equal(short('abc'), 'abc');
});

test('names cannot turn text round', () => {
  assert.equal(plain('photo\u202Egnp.exe'), 'photognp.exe');
  assert.equal(plain('a\u0000b\nc'), 'abc');
  assert.equal(plain('می\u200cخواهم'), 'می\u200cخواهم');
});

test('ranges within a file', () => {
  const ranges = [[0, 100], [150, 200], [300, 400]];
  assert.deepEqual(clip(ranges, 50, 350), [[0, 50], [100, 150], [250, 300]]);
  assert.deepEqual(clip(ranges, 100, 150), []);
  assert.equal(total(ranges), 250);
});
