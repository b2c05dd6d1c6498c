// @ts-check
/** The sheet before sharing: what will be published, read once more by who publishes it. */
import { cleanPart, MAX_FILES, TooMany, Unread } from './collect.js';
import { button, icon, make } from './dom.js';
import { plain, size } from './format.js';
import { foot, Sheet } from './sheet.js';
import { language, t } from './text.js';
import { findMetadata, stripMetadata } from '../exif.js';
import { typeOf } from '../types.js';

/** @typedef {import('./collect.js').Collected} Collected */
/** @typedef {import('./collect.js').Item} Item */

const ICONS = { video: 'film', audio: 'note', image: 'picture', text: 'page', other: 'box' };
/** Rows shown at once. */
const ROWS = 100;
/** Pictures that browsers do not show, and that tell as much. */
const MORE_PICTURES = /\.(?:heic|heif|tiff?|dng|cr2|cr3|nef|arw|orf|rw2|raf)$/i;
/** @type {Record<import('../exif.js').Finding, import('./text.js').Key>} */
const FINDINGS = {
  place: 'exifPlace',
  time: 'exifTime',
  camera: 'exifCamera',
  author: 'exifAuthor',
  software: 'exifSoftware',
  text: 'exifText',
  thumbnail: 'exifThumbnail',
  more: 'exifMore',
  unknown: 'exifUnknown',
};
/** Names told in one sentence. */
const NAMES = 5;

export class ShareSheet {
  #told = make('p', { class: 'told', role: 'status' });
  #list = make('ul', { class: 'names' });
  #sum = make('p', { class: 'caption' });
  #exif = make('div', { class: 'exif', hidden: true });
  #strip = make('input', { type: 'checkbox', checked: true });
  #looking = new AbortController();
  #shown = ROWS;
  /** Nothing is published before it was looked into. */
  #looked = false;
  /** @type {Set<Item>} pictures that tell something */
  #telling = new Set();

  /**
   * @param {Collected} collected
   * @param {(items: Item[], name: string) => void} share with paths from the torrent's name on
   */
  constructor({ name, folder, items, left }, share) {
    this.items = items;
    this.folder = folder;
    this.share = share;
    this.sheet = new Sheet(t('shareTitle'), () => this.#looking.abort());
    this.name = make('input', { type: 'text', dir: 'auto', maxlength: '200', value: name || t('shareManyName'), autocomplete: 'off' });
    // A file that lies in no folder has no name but the torrent's.
    if (!folder) this.name.addEventListener('input', () => this.#draw());
    this.start = button(t('shareStart'), () => void this.#go(), 'main');
    this.sheet.open(
      make('p', {}, t('shareSays')),
      make('label', { class: 'row-field' }, make('span', {}, t('shareName')), this.name),
      this.#sum,
      this.#list,
      left.length === 0 ? null : make('p', { class: 'caption' }, t('shareLeftOut', { names: some(left) })),
      this.#exif,
      this.#told,
      foot(this.start, button(t('cancelIt'), () => this.sheet.close())),
    );
    this.#draw();
    void this.#look().finally(() => {
      this.#looked = true;
      this.#draw();
    });
  }

  #draw() {
    const bytes = this.items.reduce((sum, { file }) => sum + file.size, 0);
    const values = { count: this.items.length, size: size(bytes, language) };
    this.#sum.textContent = this.items.length === 1 ? t('shareOne', values) : t('shareCount', values);
    this.#list.replaceChildren(...this.items.slice(0, this.#shown).map((item) => this.#row(item)));
    const more = this.items.length - this.#shown;
    if (more > 0) {
      const show = button(t('moreFiles', { count: Math.min(more, ROWS) }), () => {
        this.#shown += ROWS;
        this.#draw();
      });
      this.#list.append(make('li', { class: 'more' }, show));
    }
    this.start.disabled = bytes === 0 || !this.#looked;
    if (bytes === 0) this.#told.textContent = this.items.length === 0 ? t('shareNothing') : t('shareEmpty');
  }

  /** @param {Item} item */
  #row(item) {
    const path = [...item.path];
    const name = this.folder ? (path.pop() ?? '') : this.#named();
    if (!this.folder) path.length = 0;
    const leave = button('×', () => this.#leave(item), 'close');
    leave.setAttribute('aria-label', t('shareLeave', { name }));
    const folder = path.length > 0 ? make('bdi', { class: 'folder' }, `${path.join('/')}/`) : null;
    return make(
      'li',
      {},
      icon(ICONS[typeOf(name).kind]),
      make('span', { class: 'name' }, folder, make('bdi', {}, name)),
      make('bdi', { class: 'size' }, size(item.file.size, language)),
      this.folder && this.items.length > 1 ? leave : null,
    );
  }

  /** @param {Item} item */
  #leave(item) {
    const at = this.items.indexOf(item);
    this.items = this.items.filter((other) => other !== item);
    this.#telling.delete(item);
    this.#draw();
    // The key that left one out can leave the next out.
    const rows = this.#list.querySelectorAll('.close');
    /** @type {HTMLElement} */ (rows[Math.min(at, rows.length - 1)] ?? this.name).focus();
  }

  /** Looks into the pictures while the names are read. */
  async #look() {
    const candidates = this.items.filter(({ file: { name } }) => typeOf(name).kind === 'image' || MORE_PICTURES.test(name));
    if (candidates.length === 0) return;
    const found = make('ul', {});
    const says = make('p', {});
    this.#exif.append(says, found);
    this.#exif.hidden = false;
    for (const [index, item] of candidates.entries()) {
      if (this.#looking.signal.aborted) return;
      says.textContent = t('exifLooking', { part: index, whole: candidates.length });
      const tells = await findMetadata(item.file).catch(() => /** @type {import('../exif.js').Finding[]} */ (['unknown']));
      if (tells.length === 0) continue;
      this.#telling.add(item);
      if (this.#telling.size <= NAMES) {
        found.append(make('li', {}, make('bdi', {}, item.path.join('/')), `: ${tells.map((tell) => t(FINDINGS[tell])).join(', ')}`));
      } else if (this.#telling.size === NAMES + 1) {
        found.append(make('li', { class: 'rest' }));
      }
      const rest = found.querySelector('.rest');
      if (rest) rest.textContent = t('shareMore', { count: this.#telling.size - NAMES });
    }
    const { size: count } = this.#telling;
    says.textContent = count === 0 ? t('exifNone') : t('exifFound', { count });
    if (count === 0) return;
    this.#exif.append(
      make('label', { class: 'tick' }, this.#strip, make('span', {}, t('exifStrip'))),
      make('p', { class: 'caption' }, t('exifStripSays')),
    );
  }

  async #go() {
    this.start.disabled = true;
    let { items } = this;
    if (this.#strip.checked && this.#telling.size > 0) {
      /** @type {string[]} */
      const kept = [];
      // One after the other: each is held in memory while it is taken apart.
      items = [];
      for (const item of this.items) items.push(await this.#stripped(item, kept));
      if (kept.length > 0) {
        // Said before anything is published: the second press shares them as they are.
        this.#told.textContent = t('exifKept', { names: some(kept) });
        this.#strip.checked = false;
        this.start.disabled = false;
        this.items = items;
        this.#telling.clear();
        this.#exif.hidden = true;
        this.#draw();
        this.#told.scrollIntoView({ block: 'nearest' });
        return;
      }
    }
    this.sheet.close();
    const name = this.#named();
    this.share(this.folder ? items.map(({ path, file }) => ({ path: [name, ...path], file })) : items.map(({ file }) => ({ path: [name], file })), name);
  }

  /** The name as it is published. */
  #named() {
    return cleanPart(this.name.value) || t('shareManyName');
  }

  /**
   * @param {Item} item
   * @param {string[]} kept
   */
  async #stripped(item, kept) {
    if (!this.#telling.has(item)) return item;
    try {
      return { ...item, file: await stripMetadata(item.file) };
    } catch {
      kept.push(item.path.join('/'));
      return item;
    }
  }
}

/** @param {string[]} names */
function some(names) {
  const more = names.length - NAMES;
  return names.slice(0, NAMES).join(', ') + (more > 0 ? ` ${t('shareMore', { count: more })}` : '');
}

/**
 * Why something that was given cannot be shared.
 * @param {unknown} error
 */
export function whyNotShared(error) {
  if (error instanceof TooMany) return t('shareTooMany', { count: MAX_FILES });
  if (error instanceof Unread) return t('shareUnread', { name: plain(error.file), message: error.message });
  return error instanceof Error ? error.message : String(error);
}
