// @ts-check
/**
 * The picture of the routes: you, each router, whoever has it, as the stem of a
 * chive that ends in its flower. A router is drawn with as many rings as
 * layers of encryption are left when the cell arrives there.
 */
import { icon, make } from './dom.js';
import { plain, short, size } from './format.js';
import { has, language, t } from './text.js';

/** @typedef {import('../chive.js').Status} Status */
/** @typedef {Status['circuits'][number]} Circuit */

/** Routes drawn; a torrent may use more, and the numbers beside count those too. */
const MAX_SHOWN = 4;

/** The routers that are drawn before the real ones are known. */
const EXPECTED = /** @type {const} */ (['entry', 'middle', 'ordb']);

export class Route {
  #drawn = '';

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
  }

  /**
   * @param {Status} status
   * @param {number | null} torrent
   */
  update(status, torrent) {
    const open = status.circuits.filter(isOpen);
    const own = open.filter((circuit) => torrent !== null && circuit.torrent === torrent);
    const shown = (own.length > 0 ? own : open.slice(0, 1)).slice(0, MAX_SHOWN);
    const sources = status.torrents.find(({ id }) => id === torrent)?.sources ?? [];
    const rows = shown.map((circuit) => {
      const last = circuit.hops.at(-1)?.fingerprint;
      const source = sources.find(({ router }) => router === last);
      return { circuit, rate: own.length > 0 && source ? source.rate_bytes_per_second : 0 };
    });
    const drawn = JSON.stringify(rows.map(({ circuit, rate }) => [circuit.hops, rate > 0]));
    if (drawn !== this.#drawn) {
      this.#drawn = drawn;
      this.element.replaceChildren(
        ...(rows.length > 0 ? rows.map(({ circuit, rate }) => draw(circuit.hops, rate > 0)) : [draw(null, false)]),
      );
    }
    for (const [index, { rate }] of rows.entries()) {
      const swarm = this.element.children[index].querySelector('.swarm .detail');
      if (swarm) swarm.textContent = rate > 0 ? t('perSecond', { size: size(rate, language) }) : '';
    }
  }
}

/** @param {Circuit} circuit */
export function isOpen(circuit) {
  return circuit.hops.length > 0 && /^(open|ready|built|established)$/i.test(circuit.state);
}

/**
 * @param {Circuit['hops'] | null} hops
 * @param {boolean} live
 */
function draw(hops, live) {
  const routers = hops ?? EXPECTED.map((role) => ({ role, fingerprint: '' }));
  const layers = routers.length;
  return make(
    'ol',
    { class: `route${live ? ' live' : ''}${hops ? '' : ' dim'}` },
    stop('you', t('you'), String(layers), ''),
    ...routers.map(({ role, fingerprint }, index) => {
      const item = stop('router', has(role) ? t(/** @type {import('./text.js').Key} */ (role)) : plain(role), String(layers - 1 - index), short(plain(fingerprint)));
      if (fingerprint) item.title = t('fingerprint', { fingerprint: plain(fingerprint) });
      return item;
    }),
    stop('swarm', t('swarm'), null, ''),
  );
}

/**
 * @param {string} kind
 * @param {string} name
 * @param {string | null} layers
 * @param {string} detail
 */
function stop(kind, name, layers, detail) {
  return make(
    'li',
    { class: kind },
    make('span', { class: 'node', 'data-layers': layers }, layers === null ? icon('blossom') : null),
    make('span', { class: 'name' }, name),
    make('span', { class: 'detail', dir: 'ltr' }, detail),
  );
}
