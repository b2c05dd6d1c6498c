import assert from 'node:assert/strict';
import test from 'node:test';
import { findMetadata, stripMetadata } from '../exif.js';

const ascii = (text) => Array.from(text, (c) => c.charCodeAt(0));
const be = (value, count) => Array.from({ length: count }, (_, i) => Math.floor(value / 256 ** (count - 1 - i)) % 256);
const file = (bytes, name = 'a.jpg') => new File([new Uint8Array(bytes)], name, { type: 'image/jpeg' });
const bytesOf = async (blob) => Array.from(new Uint8Array(await blob.arrayBuffer()));

/** An Exif block: [tag, value] in the first directory; a camera, a place, an orientation. */
function tiff(entries, next = 0) {
  const rows = entries.flatMap(([tag, value]) => [...be(tag, 2), 0, 3, 0, 0, 0, 1, ...be(value, 2), 0, 0]);
  return [...ascii('MM'), 0, 42, 0, 0, 0, 8, ...be(entries.length, 2), ...rows, ...be(next, 4)];
}
const segment = (marker, body) => [0xff, marker, ...be(body.length + 2, 2), ...body];
const exif = (entries, next) => segment(0xe1, [...ascii('Exif\0\0'), ...tiff(entries, next)]);

const SOI = [0xff, 0xd8];
const JFIF = segment(0xe0, ascii('JFIF\0\x01\x02\0\0\x01\0\x01\0\0'));
const ICC = segment(0xe2, ascii('ICC_PROFILE\0\x01\x01profile'));
const TABLE = segment(0xdb, [1, 2, 3]);
// A scan whose bytes hold a stuffed 0xff and a restart marker, then a second scan.
const SCANS = [...segment(0xda, [1, 2]), 9, 0xff, 0, 8, 0xff, 0xd3, 7, ...segment(0xc4, [4]), ...segment(0xda, [3]), 6, 0xff, 0, 5];
const EOI = [0xff, 0xd9];

test('a picture that tells nothing stays byte for byte', async () => {
  const bytes = [...SOI, ...JFIF, ...ICC, ...TABLE, ...SCANS, ...EOI];
  assert.deepEqual(await findMetadata(file(bytes)), []);
  assert.deepEqual(await bytesOf(await stripMetadata(file(bytes))), bytes);
});

test('what a camera writes is found and taken out, the picture stays', async () => {
  const told = exif([[0x010f, 0], [0x8825, 0], [0x0132, 0]], 999);
  const bytes = [...SOI, ...told, ...JFIF, ...segment(0xed, ascii('Photoshop 3.0\0')), ...ICC, ...segment(0xfe, ascii('hello')), ...TABLE, ...SCANS, ...EOI];
  assert.deepEqual((await findMetadata(file(bytes))).sort(), ['camera', 'place', 'text', 'thumbnail', 'time']);
  const stripped = await stripMetadata(file(bytes));
  assert.deepEqual(await bytesOf(stripped), [...SOI, ...JFIF, ...ICC, ...TABLE, ...SCANS, ...EOI]);
  assert.deepEqual([stripped.name, stripped.type], ['a.jpg', 'image/jpeg']);
  assert.deepEqual(await findMetadata(stripped), []);
});

test('a turned picture stays turned', async () => {
  const bytes = [...SOI, ...exif([[0x0112, 6], [0x8825, 0]]), ...TABLE, ...SCANS, ...EOI];
  const stripped = await bytesOf(await stripMetadata(file(bytes)));
  assert.deepEqual(stripped, [...SOI, ...exif([[0x0112, 6]]), ...TABLE, ...SCANS, ...EOI]);
  assert.deepEqual(await findMetadata(file(stripped)), []);
});

test('what hides behind the picture goes', async () => {
  const bytes = [...SOI, ...segment(0xe2, ascii('MPF\0')), ...TABLE, ...SCANS, ...EOI, ...ascii('a film with a place')];
  assert.deepEqual(await findMetadata(file(bytes)), ['more']);
  assert.deepEqual(await bytesOf(await stripMetadata(file(bytes))), [...SOI, ...TABLE, ...SCANS, ...EOI]);
});

test('PNG: chunks that are not the picture', async () => {
  const chunk = (kind, body) => [...be(body.length, 4), ...ascii(kind), ...body, 0, 0, 0, 0];
  const start = [0x89, ...ascii('PNG\r\n\x1a\n'), ...chunk('IHDR', [1]), ...chunk('gAMA', [2])];
  const end = [...chunk('IDAT', [3, 4]), ...chunk('IEND', [])];
  const bytes = [...start, ...chunk('tEXt', ascii('Author\0me')), ...chunk('tIME', [1]), ...chunk('eXIf', tiff([[0x8825, 0]])), ...end, 1, 2, 3];
  assert.deepEqual((await findMetadata(file(bytes))).sort(), ['place', 'text', 'time']);
  assert.deepEqual(await bytesOf(await stripMetadata(file(bytes))), [...start, ...end]);
});

test('WebP: chunks, and the flags that tell of them', async () => {
  const le = (value) => be(value, 4).reverse();
  const chunk = (kind, body) => [...ascii(kind), ...le(body.length), ...body, ...(body.length % 2 ? [0] : [])];
  const riff = (chunks) => [...ascii('RIFF'), ...le(chunks.length + 4), ...ascii('WEBP'), ...chunks];
  const picture = [...chunk('ICCP', [1]), ...chunk('VP8 ', [2, 3, 4])];
  const bytes = riff([...chunk('VP8X', [0x2c, 0, 0, 0]), ...picture, ...chunk('EXIF', tiff([[0x0110, 0]])), ...chunk('XMP ', ascii('exif:GPSLatitude'))]);
  assert.deepEqual((await findMetadata(file(bytes))).sort(), ['camera', 'place', 'text']);
  assert.deepEqual(await bytesOf(await stripMetadata(file(bytes))), riff([...chunk('VP8X', [0x20, 0, 0, 0]), ...picture]));
});

test('what is not known is said to be that, and is not passed off as clean', async () => {
  const heic = [0, 0, 0, 24, ...ascii('ftypheic'), 1, 2, 3];
  assert.deepEqual(await findMetadata(file(heic, 'a.heic')), ['unknown']);
  await assert.rejects(stripMetadata(file(heic, 'a.heic')));
  assert.deepEqual(await findMetadata(file(ascii('BM rest'), 'a.bmp')), []);
});

test('a broken picture ends in a word, wherever it is cut or changed', async () => {
  const bytes = [...SOI, ...exif([[0x8769, 8], [0x0112, 3], [0x8825, 0]], 8), ...JFIF, ...TABLE, ...SCANS, ...EOI];
  for (let cut = 0; cut < bytes.length; cut += 1) {
    const part = file(bytes.slice(0, cut));
    assert.ok(Array.isArray(await findMetadata(part)));
    await assert.rejects(stripMetadata(part), `cut at ${cut}`);
  }
  for (let at = 2; at < bytes.length; at += 1) {
    const changed = file(bytes.with(at, bytes[at] ^ 0xff));
    await findMetadata(changed);
    const stripped = await stripMetadata(changed).catch(() => null);
    if (stripped) assert.ok(stripped.size <= bytes.length);
  }
});
