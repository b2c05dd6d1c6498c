import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { capacityBytes, makeQr } from '../ui/qr.js';

/** Seen to be read by jsQR and to be, module by module, what npm's `qrcode` draws with this mask. */
const CHIVE = [
  '#######.......#######',
  '#.....#.#.#.#.#.....#',
  '#.###.#...#.#.#.###.#',
  '#.###.#..####.#.###.#',
  '#.###.#.###.#.#.###.#',
  '#.....#..##.#.#.....#',
  '#######.#.#.#.#######',
  '...........##........',
  '#.#.#.#....#....#..#.',
  '.####..#.##...#..####',
  '.#.####.#...#...#.###',
  '###....#.##...#.....#',
  '.###.##.###.#.#.#...#',
  '........##.#.#.#.####',
  '#######...##.###.####',
  '#.....#..#####.##....',
  '#.###.#.####.###.#.##',
  '#.###.#.......##...#.',
  '#.###.#.##..#...#...#',
  '#.....#..#....#....#.',
  '#######.#.#.#.###..##',
];

/** The same for large ones, by the SHA-256 of their modules. @type {[string, object, number, string][]} */
const VECTORS = [
  [
    'https://chive.example/#magnet=magnet%3A%3Fxt%3Durn%3Abtih%3Ac9e15763f722f23e98a29decdfae341b98d53056',
    {},
    6,
    '584de98d4030f6368072649fc71e44327808a5d5d7bf37da735d33b54401ad49',
  ],
  ['a'.repeat(150), { level: 'L' }, 7, '882e08264e81d0ad31fa52b512211e2a1bf6bf1a516bb79e5cc2a032f5fd81ba'],
  ['x'.repeat(2953), {}, 40, '6037e240bddc4bb659b5a48759a84066e324b22675fc5b01405cd9fc0dd4e7ea'],
];

function rows({ size, modules }) {
  return Array.from({ length: size }, (_, y) => Array.from(modules.subarray(y * size, (y + 1) * size), (one) => (one ? '#' : '.')).join(''));
}

test('a small code, module by module', () => {
  assert.deepEqual(rows(makeQr('chive')), CHIVE);
});

test('codes of other sizes', () => {
  for (const [text, choice, version, digest] of VECTORS) {
    const code = makeQr(text, choice);
    assert.equal(code.version, version);
    assert.equal(createHash('sha256').update(code.modules).digest('hex'), digest);
  }
});

test('the smallest version that holds the text', () => {
  for (const level of ['L', 'M']) {
    for (let version = 1; version <= 40; version += 1) {
      const most = capacityBytes(version, level);
      assert.equal(makeQr('x'.repeat(most), { level, mask: 0 }).version, version);
    }
  }
  // What the specification's table says of versions 1, 9, 10 and 40.
  assert.deepEqual([1, 9, 10, 40].map((version) => capacityBytes(version, 'L')), [17, 230, 271, 2953]);
  assert.deepEqual([1, 9, 10, 40].map((version) => capacityBytes(version, 'M')), [14, 180, 213, 2331]);
});

test('correction is lessened before a code is refused', () => {
  assert.equal(makeQr('x'.repeat(2331), { mask: 0 }).level, 'M');
  assert.equal(makeQr('x'.repeat(2332), { mask: 0 }).level, 'L');
  assert.equal(makeQr('x'.repeat(2954)), null);
  // Bytes are counted, not letters.
  assert.equal(makeQr('ش'.repeat(1477)), null);
});
