import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import test from 'node:test';
import { has } from '../ui/text.js';

const web = new URL('..', import.meta.url);
const read = (name) => readFile(new URL(name, web), 'utf8');
const index = await read('index.html');
const modules = (await readdir(new URL('ui/', web))).map((name) => `ui/${name}`);
const scripts = [...modules, ...(await readdir(web)).filter((name) => name.endsWith('.js'))];

test('the page has every word that it names', async () => {
  const named = [...index.matchAll(/data-t(?:-aria-label|-placeholder)?="(\w+)"/g)].map(([, key]) => key);
  for (const name of [...modules, 'app.js']) {
    for (const [, key] of (await read(name)).matchAll(/\bt\(\s*'(\w+)'/g)) named.push(key);
  }
  assert.ok(named.length > 100);
  assert.deepEqual(named.filter((key) => !has(key)), []);
});

test('whatever a hop or a link is has a word', async () => {
  const [, roles] = /@property \{([^}]+)\} role/.exec(await read('chive.js')) ?? [];
  const names = [...(roles ?? '').matchAll(/'(\w+)'/g)].map(([, name]) => name);
  assert.deepEqual(names, ['bridge', 'facilitator', 'tab', 'entry', 'middle', 'ordb']);
  assert.deepEqual(names.filter((name) => !has(name)), []);
});

test('every module is fetched at once, not one after the other', () => {
  const preloaded = [...index.matchAll(/modulepreload" href="(ui\/[^"]+)"/g)].map(([, name]) => name);
  assert.deepEqual(preloaded.toSorted(), modules.toSorted());
});

test('what only workers load is kept for when the server is gone', async () => {
  const [, parts] = /const PARTS = \[([^\]]*)\]/.exec(await read('chive.js'));
  const [, later] = /const PARTS_LATER = \[([^\]]*)\]/.exec(await read('chive.js'));
  const kept = new Set([...`${parts}${later}`.matchAll(/'([^']+)'/g)].map(([, name]) => name));
  const loaded = new Set(['chive.js']);
  for (const name of loaded) {
    if (name.startsWith('chive_node') || name === 'bridge.json') continue;
    for (const [, next] of (await read(name)).matchAll(/(?:from |import\(|new URL\()'\.\/([^']+)'/g)) {
      if (next !== 'sw.js') loaded.add(next);
    }
  }
  assert.deepEqual([...kept].toSorted(), [...loaded].toSorted());
  // Whoever copies the module into a page of his own is told of each file of it.
  const manual = await read('../docs/developers.md');
  assert.deepEqual([...kept].filter((name) => !manual.includes(`\`${name}\``)), []);
});

test('every element that a module asks for is in the page', async () => {
  for (const name of [...modules, 'app.js']) {
    for (const [, id] of (await read(name)).matchAll(/\bbyId\('([\w-]+)'\)/g)) {
      assert.ok(index.includes(`id="${id}"`), `${name} asks for #${id}`);
    }
  }
});

test('no markup is made of text, and nothing comes from elsewhere', async () => {
  for (const name of scripts) {
    const source = await read(name);
    assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/, name);
    assert.doesNotMatch(source.replace('http://www.w3.org/2000/svg', ''), /(?:src|href|import|fetch)\W{1,3}https?:/, name);
  }
  const policy = /Content-Security-Policy" content="([^"]+)"/.exec(index)?.[1];
  assert.equal(`${policy}; frame-ancestors 'none'`, (await read('csp.txt')).trim());
});

test('directions are logical: what stands at the start does so in every script', async () => {
  const style = (await read('style.css')).replace(/\/\*.*?\*\//gs, '');
  assert.doesNotMatch(style, /(?:margin|padding|border)-(?:left|right)|(?:^|[;{\s])(?:left|right)\s*:|text-align:\s*(?:left|right)|float:/);
});
