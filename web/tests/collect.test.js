import assert from 'node:assert/strict';
import test from 'node:test';
import { collected, fromEntries, fromInput, MAX_FILES, TooMany, Unread } from '../ui/collect.js';

const blob = (name, relative = '') => ({ name, size: 1, webkitRelativePath: relative });
const paths = ({ items }) => items.map(({ path }) => path.join('/'));

/** As a browser gives a dropped folder: some children at a time. */
function folder(name, children) {
  const left = [...children];
  return {
    name,
    isFile: false,
    createReader: () => ({ readEntries: (resolve) => queueMicrotask(() => resolve(left.splice(0, 2))) }),
  };
}
const file = (name) => ({ name, isFile: true, file: (resolve) => resolve(blob(name)) });

test('a folder gives the torrent its name and keeps its folders', async () => {
  const found = await fromEntries([folder('Trip', [file('a.jpg'), folder('day 2', [file('b.jpg'), file('c.jpg'), file('d10.jpg')]), file('e.txt')])]);
  assert.equal(found.name, 'Trip');
  assert.deepEqual(paths(found), ['a.jpg', 'day 2/b.jpg', 'day 2/c.jpg', 'day 2/d10.jpg', 'e.txt']);
});

test('a single file is named by itself, several by nobody', async () => {
  const one = await fromEntries([file('film.mp4')]);
  assert.deepEqual([one.name, one.folder, paths(one)], ['film.mp4', false, ['film.mp4']]);
  const several = await fromEntries([file('a'), folder('F', [file('a')])]);
  assert.deepEqual([several.name, several.folder, paths(several)], ['', true, ['a', 'F/a']]);
  const alone = await fromEntries([folder('F', [file('a')])]);
  assert.deepEqual([alone.name, alone.folder, paths(alone)], ['F', true, ['a']]);
});

test('what an input chose', () => {
  const found = fromInput([blob('a.jpg', 'Trip/a.jpg'), blob('b.jpg', 'Trip/sub/b.jpg')]);
  assert.deepEqual([found.name, paths(found)], ['Trip', ['a.jpg', 'sub/b.jpg']]);
  assert.deepEqual(paths(fromInput([blob('x'), blob('y')])), ['x', 'y']);
});

test('what systems leave lying about is left out, and told', async () => {
  const found = await fromEntries([folder('T', [file('.DS_Store'), file('a'), folder('__MACOSX', [file('._a')]), file('Thumbs.db')])]);
  assert.deepEqual(paths(found), ['a']);
  assert.deepEqual(found.left, ['.DS_Store', '__MACOSX', 'Thumbs.db']);
  assert.deepEqual(paths(collected([{ path: ['T', '__MACOSX', 'x'], file: blob('x') }])), []);
});

test('names are published as they are shown', () => {
  const found = fromInput([blob('photo\u202Egnp.exe'), blob('..'), blob('a\\b'), blob('\u0000')]);
  assert.deepEqual(paths(found), ['_', '_ (2)', 'a_b', 'photognp.exe']);
});

test('two of one name are told apart', () => {
  assert.deepEqual(paths(fromInput([blob('a.txt'), blob('a.txt'), blob('a.txt'), blob('.rc'), blob('.rc')])), [
    '.rc', '.rc (2)', 'a.txt', 'a (2).txt', 'a (3).txt',
  ]);
});

test('no more than the limit, and what cannot be read has its name told', async () => {
  const many = Array.from({ length: MAX_FILES + 1 }, (_, i) => blob(String(i)));
  assert.throws(() => fromInput(many), TooMany);
  const locked = { name: 'locked', isFile: true, file: (_, reject) => reject(new Error('not allowed')) };
  await assert.rejects(fromEntries([folder('T', [locked])]), (error) => error instanceof Unread && error.file === 'locked');
});
