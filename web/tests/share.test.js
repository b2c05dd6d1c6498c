// @ts-check
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { laidOut } from '../making.js';

const file = (/** @type {string} */ name, folder = '') =>
  Object.assign(new File(['x'], name), { webkitRelativePath: folder && `${folder}/${name}` });
const paths = (/** @type {ReturnType<typeof laidOut>} */ { folder, items }) => [folder, ...items.map(({ path }) => path.join('/'))];

test('one file is shared by its own name', () => {
  assert.deepEqual(paths(laidOut([file('a.txt')])), [undefined, 'a.txt']);
  assert.deepEqual(paths(laidOut([file('a.txt')], 'a name')), [undefined, 'a.txt']);
});

test('a folder that all files lie in is the torrent, also around one file', () => {
  assert.deepEqual(paths(laidOut([file('a', 'top'), file('b', 'top/in')])), ['top', 'a', 'in/b']);
  assert.deepEqual(paths(laidOut([file('a', 'top')])), ['top', 'a']);
  assert.deepEqual(paths(laidOut([file('a', 'top')], 'called so')), ['called so', 'a']);
});

test('what lies side by side keeps its folders', () => {
  const given = [{ path: 'one/a', file: file('a') }, { path: ['two', 'b'], file: file('b') }, file('c')];
  assert.deepEqual(paths(laidOut(given, 'all')), ['all', 'one/a', 'two/b', 'c']);
});
