// @ts-check
/** The list of a torrent's files. */
import { button, icon, make } from './dom.js';
import { clip, plain, size, total } from './format.js';
import { language, t } from './text.js';

/** @typedef {import('../chive.js').TorrentFile} TorrentFile */

/** Rows that are added at once: a torrent may have a hundred thousand files. */
const ROWS = 100;

const ICONS = { video: 'film', audio: 'note', image: 'picture', text: 'page', other: 'box' };

export class FileList {
  /** @type {TorrentFile[]} */
  #files = [];
  /** @type {HTMLElement[]} */
  #rows = [];
  /** @type {TorrentFile | null} */
  #current = null;

  /**
   * @param {HTMLElement} element
   * @param {{choose: (file: TorrentFile) => void, save: (file: TorrentFile) => void}} actions
   */
  constructor(element, actions) {
    this.element = element;
    this.actions = actions;
  }

  /** @param {TorrentFile[]} files */
  show(files) {
    this.#files = files;
    this.#rows = [];
    this.#current = null;
    this.element.replaceChildren();
    this.#more();
  }

  /** @param {TorrentFile} file */
  mark(file) {
    this.#current = file;
    while (this.#files.indexOf(file) >= this.#rows.length) this.#more();
    for (const [index, row] of this.#rows.entries()) {
      const choice = row.querySelector('.choose');
      if (this.#files[index] === file) choice?.setAttribute('aria-current', 'true');
      else choice?.removeAttribute('aria-current');
    }
  }

  /** @param {[number, number][]} verified */
  update(verified) {
    for (const [index, row] of this.#rows.entries()) {
      const { offset, length } = this.#files[index];
      const part = length === 0 ? 0 : total(clip(verified, offset, offset + length)) / length;
      row.style.setProperty('--part', String(part));
    }
  }

  #more() {
    this.element.querySelector('.more')?.remove();
    const from = this.#rows.length;
    for (const file of this.#files.slice(from, from + ROWS)) {
      const row = this.#row(file);
      this.#rows.push(row);
      this.element.append(row);
    }
    const left = this.#files.length - this.#rows.length;
    if (left > 0) {
      const more = button(t('moreFiles', { count: Math.min(left, ROWS) }), () => {
        this.#more();
        if (this.#current) this.mark(this.#current);
      });
      this.element.append(make('li', { class: 'more' }, more));
    }
  }

  /** @param {TorrentFile} file */
  #row(file) {
    const folder = plain(file.path.slice(0, file.path.length - file.name.length));
    const name = plain(file.name);
    const choose = make(
      'button',
      { type: 'button', class: 'choose' },
      icon(ICONS[file.kind]),
      make('span', { class: 'name' }, folder ? make('bdi', { class: 'folder' }, folder) : null, make('bdi', {}, name)),
      make('bdi', { class: 'size' }, size(file.length, language)),
    );
    choose.addEventListener('click', () => this.actions.choose(file));
    return make('li', { class: 'file' }, choose, saveLink(file, this.actions.save, icon('save')));
  }
}

/**
 * What saves a file: a plain link that the service worker answers, so that the
 * bytes go to the disk as they come; without one, a button.
 * @param {TorrentFile} file
 * @param {(file: TorrentFile) => void} save
 * @param {Node | string} face
 */
export function saveLink(file, save, face) {
  const label = t('saveName', { name: plain(file.name) });
  if (file.url !== null) return make('a', { class: 'save', href: `${file.url}?save`, 'aria-label': label }, face);
  const element = make('button', { type: 'button', class: 'save', 'aria-label': label }, face);
  element.addEventListener('click', () => save(file));
  return element;
}
