// @ts-check
/** The network as this tab sees it: its links, its circuits, what it carries, whom it knows of. */
import { make, words } from './dom.js';
import { plain, short, size } from './format.js';
import { isOpen } from './route.js';
import { has, language, t } from './text.js';

/** @typedef {import('../chive.js').Status} Status */
/** @typedef {import('./text.js').Key} Key */

/** Rows of one kind that are drawn; the number beside counts all. */
const ROWS = 20;
/** Contacts that fill a bucket. */
const BUCKET = 8;
/** Buckets drawn at least; the near ones are always empty and left out. */
const MIN_BUCKETS = 16;
const SVG = 'http://www.w3.org/2000/svg';

/** @type {[kind: string, label: Key][]} */
const KINDS = [
  ['bridge', 'linkBridge'],
  ['facilitator', 'linkFacilitator'],
  ['tab', 'linkTab'],
];
/** @type {Record<string, Key>} */
const LINK_STATES = { open: 'linkStateOpen', connecting: 'linkStateConnecting', closing: 'linkStateClosing' };

export class Network {
  #drawn = '';

  /**
   * @param {HTMLDetailsElement} element
   */
  constructor(element) {
    this.element = element;
    this.counts = /** @type {HTMLElement} */ (element.querySelector('.counts'));
    this.links = section('links');
    this.circuits = section('circuits');
    this.carried = section('carried');
    this.buckets = section('buckets');
    element.append(make('div', { class: 'network' }, this.links.element, this.circuits.element, this.carried.element, this.buckets.element));
  }

  /** @param {Status} status */
  update(status) {
    const { links: all, carried, buckets } = /** @type {any} */ (status);
    const links = Array.isArray(all) ? together(all) : all;
    const open = status.circuits.filter(isOpen);
    const counts = [t('networkCircuits', { count: open.length })];
    if (Array.isArray(links)) counts.unshift(t('networkLinks', { count: links.length }));
    words(this.counts, counts.join(' · '));
    // What is folded away is not drawn: a phone has better to do.
    if (!this.element.open) return;
    const names = new Map(status.torrents.map(({ id, name }) => [id, name]));
    const drawn = JSON.stringify([links, carried, buckets, status.circuits, [...names], /** @type {any} */ (status).asks_only]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.links.element.hidden = !Array.isArray(links);
    if (Array.isArray(links)) this.links.fill(...drawLinks(links));
    this.circuits.fill(...drawCircuits(status.circuits, names));
    const why = /** @type {any} */ (status).asks_only;
    this.carried.element.hidden = !carried && !why;
    this.carried.fill(
      ...(carried ? [make('p', {}, t('carriedSays', { circuits: carried.circuits, bytes: size(carried.bytes, language) }))] : []),
      ...(why ? [make('p', { class: 'caption', dir: 'auto' }, t('carriedNot', { why: plain(String(why)) }))] : []),
    );
    this.buckets.element.hidden = !Array.isArray(buckets);
    if (Array.isArray(buckets)) this.buckets.fill(...drawBuckets(buckets));
  }
}

/** @param {Key} title */
function section(title) {
  const body = make('div', {});
  const element = make('section', {}, make('h3', {}, t(title)), body);
  return { element, fill: (/** @type {Node[]} */ ...children) => body.replaceChildren(...children) };
}

/**
 * One for each router: a bridge may be linked by WebSocket and by WebRTC.
 * @param {any[]} links
 */
function together(links) {
  /** @type {Map<string, any>} */
  const byRouter = new Map();
  for (const link of links) {
    const key = `${link.kind} ${link.id}`;
    const known = byRouter.get(key);
    if (!known) byRouter.set(key, { ...link });
    else {
      if (link.state === 'open') known.state = 'open';
      known.sent = (known.sent ?? 0) + (link.sent ?? 0);
      known.received = (known.received ?? 0) + (link.received ?? 0);
    }
  }
  return [...byRouter.values()];
}

/** @param {any[]} links */
function drawLinks(links) {
  if (links.length === 0) return [make('p', { class: 'caption' }, t('linksNone'))];
  const known = new Set(KINDS.map(([kind]) => kind));
  /** @type {[string, Key][]} */
  const kinds = [...KINDS, ['', 'linkOther']];
  return kinds.flatMap(([kind, label]) => {
    const own = links.filter((link) => (kind === '' ? !known.has(link.kind) : link.kind === kind));
    if (own.length === 0) return [];
    const count = new Intl.NumberFormat(language).format(own.length);
    const rows = own.slice(0, ROWS).map((link) => {
      const state = LINK_STATES[link.state];
      const bytes = t('linkBytes', { sent: size(link.sent ?? 0, language), received: size(link.received ?? 0, language) });
      return make(
        'li',
        {},
        make('code', { dir: 'ltr' }, short(plain(String(link.id ?? '…')))),
        make('span', {}, state && link.state !== 'open' ? `${t(state)} · ${bytes}` : bytes),
      );
    });
    return [make('h4', {}, `${t(label)} `, make('b', {}, count)), make('ul', { class: 'lines', 'data-kind': kind || 'other' }, ...rows)];
  });
}

/**
 * @param {Status['circuits']} circuits
 * @param {Map<number, string>} names
 */
function drawCircuits(circuits, names) {
  if (circuits.length === 0) return [make('p', { class: 'caption' }, t('circuitsNone'))];
  const rows = circuits.slice(0, ROWS).map((circuit) => {
    const hops = circuit.hops.map(({ role, fingerprint }) =>
      make('li', {}, make('span', {}, has(role) ? t(/** @type {Key} */ (role)) : plain(role)), make('code', { dir: 'ltr' }, short(plain(fingerprint)))),
    );
    const name = circuit.torrent == null ? null : names.get(circuit.torrent);
    const use = !isOpen(circuit) ? t('circuitBuilding') : name == null ? t('circuitSpare') : plain(name);
    return make(
      'li',
      { class: isOpen(circuit) ? null : 'dim' },
      make('ol', { class: 'hops' }, make('li', { class: 'you' }, make('span', {}, t('you'))), ...hops),
      make('p', { class: 'caption', dir: 'auto' }, use),
    );
  });
  const more = circuits.length - ROWS;
  return [
    make('ul', { class: 'circuits' }, ...rows),
    ...(more > 0 ? [make('p', { class: 'caption' }, t('shareMore', { count: more }))] : []),
  ];
}

/** @param {number[]} buckets */
function drawBuckets(buckets) {
  const count = buckets.reduce((sum, fill) => sum + fill, 0);
  const nearest = buckets.findIndex((fill) => fill > 0);
  const from = Math.max(0, Math.min(nearest < 0 ? buckets.length : nearest, buckets.length - MIN_BUCKETS));
  const drawn = buckets.slice(from);
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${drawn.length * 6 - 1} 32`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', t('bucketsLabel', { fills: drawn.join(', ') }));
  for (const [index, fill] of drawn.entries()) {
    svg.append(bar('track', index, BUCKET));
    if (fill > 0) svg.append(bar('fill', index, Math.min(fill, BUCKET)));
  }
  return [make('div', { class: 'buckets' }, svg), make('p', { class: 'caption' }, t('bucketsSays', { count }))];
}

/** @param {string} kind @param {number} index @param {number} fill */
function bar(kind, index, fill) {
  const rect = document.createElementNS(SVG, 'rect');
  const height = (fill / BUCKET) * 32;
  for (const [name, value] of Object.entries({ class: kind, x: index * 6, y: 32 - height, width: 5, height })) {
    rect.setAttribute(name, String(value));
  }
  return rect;
}
