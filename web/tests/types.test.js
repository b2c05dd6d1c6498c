import assert from 'node:assert/strict';
import test from 'node:test';
import { mayPlay, typeOf } from '../types.js';

test('known ends of names', () => {
  assert.deepEqual(typeOf('A film.MP4'), { type: 'video/mp4', kind: 'video', inline: true });
  assert.equal(typeOf('a.flac').kind, 'audio');
  assert.equal(typeOf('a.b.jpeg').kind, 'image');
  assert.deepEqual(typeOf('read.me.txt'), { type: 'text/plain; charset=utf-8', kind: 'text', inline: true });
});

test('what could run is only ever saved', () => {
  for (const name of ['a.html', 'a.htm', 'a.xhtml', 'a.svg', 'a.xml', 'a.js', 'a.mjs', 'a.pdf', 'a.swf', 'a.mp4.html', 'html', '', '.', 'a.', 'a.constructor', 'a.__proto__', 'a.toString']) {
    assert.deepEqual(typeOf(name), { type: 'application/octet-stream', kind: 'other', inline: false }, name);
  }
});

test('containers that browsers deny and play', () => {
  const none = { canPlayType: () => '' };
  assert.equal(mayPlay(none, 'video/x-matroska'), true);
  assert.equal(mayPlay(none, 'video/x-msvideo'), false);
  assert.equal(mayPlay({ canPlayType: () => 'maybe' }, 'video/mp4'), true);
});
