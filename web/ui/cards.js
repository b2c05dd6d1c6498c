// @ts-check
/** The list of torrents: what is fetched, what is shared, what is being made ready. */
import { Bar } from './bar.js';
import { button, make, words } from './dom.js';
import { percent, plain, size, total } from './format.js';
import { Rates } from './rates.js';
import { language, t } from './text.js';

/** @typedef {import('../chive.js').Torrent} Torrent */
/** @typedef {import('../chive.js').Status} Status */
/** @typedef {Status['torrents'][number]} TorrentStatus */
/** @typedef {import('./text.js').Key} Key */
/**
 * @typedef {object} Actions what can be done with a torrent; null where this node cannot
 * @property {(torrent: any) => void} open
 * @property {((torrent: any) => void) | null} toggle pauses or resumes
 * @property {(torrent: any) => void} handOn
 * @property {(torrent: any) => void} remove
 */

/** @type {Record<string, Key>} */
const STATES = {
  finding: 'stateFinding',
  hashing: 'stateHashing',
  open: 'stateOpen',
  downloading: 'stateDownloading',
  paused: 'statePaused',
  sharing: 'stateSharing',
  complete: 'stateComplete',
  failed: 'stateFailed',
};

/**
 * Where a torrent stands, in a word of {@link STATES}.
 * @param {any} torrent
 * @param {TorrentStatus | undefined} own
 */
export function stateOf(torrent, own) {
  // Paused by hand comes first: it is the user who ends it.
  if (torrent.state === 'paused') return 'paused';
  if (own?.state === 'failed' || torrent.error) return 'failed';
  const state = torrent.state ?? own?.state ?? 'finding';
  return Object.hasOwn(STATES, state) ? state : 'open';
}

/** @param {any} torrent */
export function nameOf(torrent) {
  return plain(torrent.name || torrent.infohash || '');
}

export class Cards {
  #rates = new Rates();
  /** @type {Map<any, Card>} */
  #cards = new Map();
  /** @type {Set<Job>} */
  #jobs = new Set();
  /** Up rates of this moment by torrent, for who shows one alone. @type {Map<number, number>} */
  up = new Map();

  /**
   * @param {HTMLElement} element
   * @param {Actions} actions
   */
  constructor(element, actions) {
    this.element = element;
    this.actions = actions;
  }

  get size() {
    return this.#cards.size + this.#jobs.size;
  }

  /**
   * @param {Torrent[]} torrents
   * @param {Status} status
   * @param {boolean} visible nothing is drawn that nobody sees
   */
  update(torrents, status, visible) {
    const now = performance.now();
    const hashing = this.#jobs.size > 0;
    const shown = torrents.filter((torrent) => !(hashing && /** @type {any} */ (torrent).state === 'hashing'));
    for (const [torrent, card] of this.#cards) {
      if (shown.includes(torrent)) continue;
      card.element.remove();
      this.#cards.delete(torrent);
      this.up.delete(torrent.id);
    }
    for (const torrent of shown) {
      let card = this.#cards.get(torrent);
      if (!card) {
        card = new Card(torrent, this.actions);
        this.#cards.set(torrent, card);
        this.element.append(card.element);
      }
      const own = status.torrents.find(({ id }) => id === torrent.id);
      const sent = /** @type {any} */ (own)?.sent_bytes;
      if (typeof sent === 'number') this.up.set(torrent.id, this.#rates.of(torrent.id, sent, now));
      if (visible) card.update(own, this.up.get(torrent.id));
    }
  }

  /**
   * Something that is being hashed. @param {string} name @param {() => void} cancel
   */
  addJob(name, cancel) {
    const job = new Job(name, () => {
      cancel();
      end();
    });
    const end = () => {
      job.element.remove();
      this.#jobs.delete(job);
    };
    this.#jobs.add(job);
    this.element.prepend(job.element);
    return { progress: job.progress.bind(job), end };
  }
}

/** The buttons of one torrent, on its card and on its own page. */
export class TorrentActions {
  /**
   * @param {any} torrent
   * @param {Actions} actions
   */
  constructor(torrent, actions) {
    this.torrent = torrent;
    this.toggle = actions.toggle && typeof torrent.pause === 'function' ? button('', () => actions.toggle?.(torrent)) : null;
    this.hand = button(t('handOn'), () => actions.handOn(torrent));
    this.remove = button(t('remove'), () => actions.remove(torrent), 'quiet away');
    this.element = make('div', { class: 'actions' }, this.toggle, this.hand, this.remove);
  }

  /** @param {string} state */
  update(state) {
    const name = nameOf(this.torrent);
    this.hand.setAttribute('aria-label', t('handOnName', { name }));
    this.remove.setAttribute('aria-label', t('removeName', { name }));
    this.hand.hidden = !this.torrent.infohash;
    if (!this.toggle) return;
    const paused = state === 'paused';
    words(this.toggle, t(paused ? 'resume' : 'pause'));
    this.toggle.setAttribute('aria-label', t(paused ? 'resumeName' : 'pauseName', { name }));
    // What is complete is served while it is in the list: there is nothing to pause.
    this.toggle.hidden = !['paused', 'downloading', 'failed'].includes(state);
  }
}

class Card {
  /**
   * @param {any} torrent
   * @param {Actions} actions
   */
  constructor(torrent, actions) {
    this.torrent = torrent;
    this.title = make('button', { type: 'button', class: 'title' }, make('bdi', { dir: 'auto' }));
    this.title.addEventListener('click', () => actions.open(torrent));
    this.state = make('span', { class: 'state' });
    this.why = make('p', { class: 'why', dir: 'auto', hidden: true });
    const canvas = make('canvas', { class: 'strip', role: 'img' });
    this.bar = new Bar(canvas, 'stripLabel');
    this.numbers = make('dl', { class: 'facts' });
    this.have = new Availability();
    this.actions = new TorrentActions(torrent, actions);
    this.element = make(
      'li',
      { class: 'card torrent' },
      make('div', { class: 'head' }, make('h3', {}, this.title), this.state),
      canvas,
      this.numbers,
      this.why,
      this.have.element,
      this.actions.element,
    );
  }

  /**
   * @param {any} own of the status
   * @param {number | undefined} up
   */
  update(own, up) {
    const { torrent } = this;
    const state = stateOf(torrent, own);
    words(/** @type {HTMLElement} */ (this.title.firstElementChild), nameOf(torrent) || '…');
    words(this.state, t(STATES[state]));
    this.state.dataset.state = state;
    this.actions.update(state);
    const why = torrent.error?.message ?? own?.error ?? (own?.full && state !== 'paused' ? t('noRoom') : '');
    this.why.hidden = why === '';
    words(this.why, plain(why));
    if (!own) return;
    const { verified = [], verified_bytes: part, total_bytes: whole } = own;
    this.bar.update(verified, { offset: 0, length: whole || total(verified) }, null);
    facts(this.numbers, torrentFacts(own, state, up, part, whole));
    this.have.update(own.availability, state);
  }
}

/**
 * @param {any} own
 * @param {string} state
 * @param {number | undefined} up
 * @param {number} part
 * @param {number} whole
 * @returns {[Key, string][]}
 */
function torrentFacts(own, state, up, part, whole) {
  const rate = (/** @type {number} */ bytes) => t('perSecond', { size: size(bytes, language) });
  /** @type {[Key, string][]} */
  const rows = [];
  const all = whole > 0 && part >= whole;
  if (all) rows.push(['size', size(whole, language)]);
  else rows.push(['verified', `${percent(part, whole, language)} · ${t('verifiedOf', { part: size(part, language), whole: size(whole, language) })}`]);
  if (!all) rows.push(['down', rate(state === 'paused' ? 0 : own.rate_bytes_per_second)]);
  if (up !== undefined && (up > 0 || own.shared)) rows.push(['up', rate(up)]);
  if (own.sent_bytes > 0) rows.push(['sent', size(own.sent_bytes, language)]);
  if (!all) rows.push(['sources', new Intl.NumberFormat(language).format(own.sources?.length ?? 0)]);
  return rows;
}

/**
 * Fills a list of names and values; elements stay, so that what is selected or read stays.
 * @param {HTMLElement} list
 * @param {[Key, string][]} rows
 */
function facts(list, rows) {
  while (list.children.length > rows.length) list.lastElementChild?.remove();
  for (const [index, [key, value]] of rows.entries()) {
    const row = list.children[index] ?? list.appendChild(make('div', {}, make('dt'), make('dd', {}, make('bdi'))));
    words(/** @type {HTMLElement} */ (row.firstElementChild), t(key));
    words(/** @type {HTMLElement} */ (row.querySelector('bdi')), value);
  }
}

/** Who has how much: how many others have told that they have 25, 50, 75 and 100 %. */
export class Availability {
  #drawn = '';
  element = make('div', { class: 'have', hidden: true });

  /**
   * @param {{percent: number, count: number}[] | undefined} levels
   * @param {string} state
   */
  update(levels, state) {
    const drawn = JSON.stringify([levels, state]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.element.hidden = !Array.isArray(levels) || state === 'hashing';
    if (!Array.isArray(levels)) return;
    const most = Math.max(1, ...levels.map(({ count }) => count));
    if (levels.every(({ count }) => count === 0)) {
      // Only who shares waits for others to have it.
      this.element.hidden = state !== 'sharing';
      this.element.replaceChildren(make('p', { class: 'caption' }, t('availabilityNone')));
      return;
    }
    const number = new Intl.NumberFormat(language);
    const list = make('dl', {});
    for (const { percent: least, count } of levels) {
      const level = make('dd', {}, number.format(count));
      const column = make('div', {}, make('dt', {}, percent(least, 100, language)), level);
      column.style.setProperty('--part', String(count / most));
      list.append(column);
    }
    this.element.replaceChildren(make('p', { class: 'caption' }, t('availability')), list);
  }
}

/** A share that is being hashed: it is no torrent yet. */
class Job {
  /**
   * @param {string} name
   * @param {() => void} cancel
   */
  constructor(name, cancel) {
    this.bar = make('progress', { max: '1', value: '0', 'aria-label': t('stateHashing') });
    this.amount = make('p', { class: 'caption' });
    const stop = button(t('cancel'), cancel);
    this.element = make(
      'li',
      { class: 'card torrent' },
      make('div', { class: 'head' }, make('h3', {}, make('bdi', { dir: 'auto' }, name)), make('span', { class: 'state', 'data-state': 'hashing' }, t('stateHashing'))),
      this.bar,
      this.amount,
      make('div', { class: 'actions' }, stop),
    );
  }

  /** @param {{hashed_bytes: number, total_bytes: number}} progress */
  progress({ hashed_bytes: part, total_bytes: whole }) {
    this.bar.value = whole > 0 ? part / whole : 0;
    words(this.amount, t('hashed', { part: size(part, language), whole: size(whole, language) }));
  }
}
