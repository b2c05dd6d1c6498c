// @ts-check
/** Files to share, out of what was dropped or chosen, with the folders they lie in. */
import { plain } from './format.js';

/** @typedef {{path: string[], file: File}} Item */
/** @typedef {{name: string, folder: boolean, items: Item[], left: string[]}} Collected `name` is '' where several things were given; `left` is what was left out */

/** A folder may hold any number; more is not a torrent that anybody could open. */
export const MAX_FILES = 50_000;
/** Folders within folders: a link of a folder to itself would have no end. */
const MAX_DEPTH = 64;

/** What systems put into folders and nobody means to share. */
const SYSTEM = /^(?:\.DS_Store|\._.*|Thumbs\.db|ehthumbs\.db|desktop\.ini|\.directory|\.Trashes|\.Spotlight-V100|\.fseventsd|__MACOSX)$/i;

/** There are more than {@link MAX_FILES}. */
export class TooMany extends Error {}
/** A file or folder that the system does not let be read. */
export class Unread extends Error {
  /** @param {string} name @param {unknown} cause */
  constructor(name, cause) {
    super(cause instanceof Error ? cause.message : String(cause));
    this.file = name;
  }
}

/**
 * Takes hold of what was dropped. To be called before the event is over: after
 * it the browser gives nothing any more.
 * @param {DataTransfer} transfer
 * @returns {FileSystemEntry[]}
 */
export function droppedEntries(transfer) {
  const entries = Array.from(transfer.items, (item) => (item.kind === 'file' ? item.webkitGetAsEntry() : null));
  return entries.filter((entry) => entry !== null);
}

/**
 * @param {FileSystemEntry[]} entries
 * @returns {Promise<Collected>}
 */
export async function fromEntries(entries) {
  /** @type {Item[]} */
  const items = [];
  const walk = async (/** @type {FileSystemEntry} */ entry, /** @type {string[]} */ folders) => {
    const path = [...folders, entry.name];
    if (path.length > MAX_DEPTH) throw new Unread(entry.name, '…');
    try {
      if (entry.isFile) {
        add(items, { path, file: await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject)) });
        return;
      }
    } catch (error) {
      throw error instanceof TooMany ? error : new Unread(entry.name, error);
    }
    if (SYSTEM.test(entry.name)) return void add(items, { path, file: new File([], entry.name) });
    for (const child of await children(/** @type {FileSystemDirectoryEntry} */ (entry))) await walk(child, path);
  };
  for (const entry of entries) await walk(entry, []);
  return collected(items);
}

/** @param {FileSystemDirectoryEntry} folder @returns {Promise<FileSystemEntry[]>} */
async function children(folder) {
  const reader = folder.createReader();
  const all = [];
  // A reader gives some at a time, and none when it is through.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch((error) => {
      throw new Unread(folder.name, error);
    });
    if (some.length === 0) return all;
    all.push(...some);
    if (all.length > MAX_FILES) throw new TooMany();
  }
}

/**
 * @param {any} handle a FileSystemDirectoryHandle
 * @returns {Promise<Collected>}
 */
export async function fromHandle(handle) {
  /** @type {Item[]} */
  const items = [];
  const walk = async (/** @type {any} */ folder, /** @type {string[]} */ path) => {
    if (path.length > MAX_DEPTH) throw new Unread(folder.name, '…');
    for await (const child of folder.values()) {
      if (child.kind === 'directory') {
        if (SYSTEM.test(child.name)) add(items, { path: [...path, child.name], file: new File([], child.name) });
        else await walk(child, [...path, child.name]);
        continue;
      }
      const file = await child.getFile().catch((/** @type {unknown} */ error) => {
        throw new Unread(child.name, error);
      });
      add(items, { path: [...path, child.name], file });
    }
  };
  await walk(handle, [handle.name]);
  return collected(items);
}

/**
 * @param {Iterable<File>} files of an `<input>`, with their folders where it chose one
 * @returns {Collected}
 */
export function fromInput(files) {
  /** @type {Item[]} */
  const items = [];
  for (const file of files) add(items, { path: (file.webkitRelativePath || file.name).split('/'), file });
  return collected(items);
}

/** @param {Item[]} items @param {Item} item */
function add(items, item) {
  if (items.length >= MAX_FILES) throw new TooMany();
  items.push(item);
}

/**
 * Leaves out what nobody means, cleans names, and takes the folder that all
 * lie in as the torrent's name.
 * @param {Item[]} items paths with the chosen folder's name first
 * @returns {Collected}
 */
export function collected(items) {
  const meant = items.filter(({ path }) => !path.some((part) => SYSTEM.test(part)));
  const left = [...new Set(items.filter((item) => !meant.includes(item)).map(({ path }) => plain(path.at(-1) ?? '')))];
  const clean = meant.map(({ path, file }) => ({ path: path.map((part) => cleanPart(part) || '_'), file }));
  // Systems give them in any order; people read them in theirs.
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  clean.sort((a, b) => compare(a.path.join('/'), b.path.join('/')));
  const top = clean[0]?.path[0] ?? '';
  const folder = clean.length > 0 && clean.every(({ path }) => path.length > 1 && path[0] === top);
  if (folder) for (const item of clean) item.path = item.path.slice(1);
  const name = folder || clean.length === 1 ? top : '';
  return { name, folder: folder || clean.length > 1, items: distinct(clean), left };
}

/** A name as it is published: as it is shown, so that nobody publishes what he did not see. @param {string} part */
export function cleanPart(part) {
  const clean = plain(part).replace(/[/\\]/g, '_').trim();
  return /^\.+$/.test(clean) ? '_' : clean;
}

/** Two files of one path get names of their own. @param {Item[]} items */
function distinct(items) {
  const taken = new Set();
  for (const item of items) {
    const name = item.path.at(-1) ?? '_';
    const dot = name.lastIndexOf('.') > 0 ? name.lastIndexOf('.') : name.length;
    for (let n = 2; taken.has(item.path.join('/')); n += 1) {
      item.path = [...item.path.slice(0, -1), `${name.slice(0, dot)} (${n})${name.slice(dot)}`];
    }
    taken.add(item.path.join('/'));
  }
  return items;
}
