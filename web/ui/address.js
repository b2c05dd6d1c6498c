// @ts-check
/** What the page's address brings, and what of it stays there. */
import { button } from './dom.js';
import { readAddress, withoutRouters } from './invitation.js';
import { t } from './text.js';

/** @typedef {{bridges: string[], peers: string[]}} Routers */

/** The routers of an invitation are kept for a reload of this tab, and no longer. */
const KEPT = 'chive:invitation';
/** For browsers that keep nothing. @type {Routers} */
let unkept = { bridges: [], peers: [] };

/** By which routers this tab enters, if it was invited: then by them and no others. @returns {Partial<Routers>} */
export function entry() {
  const { bridges, peers } = keptRouters();
  return bridges.length + peers.length > 0 ? { bridges, peers } : {};
}

/**
 * Takes the routers out of the address at once: who looks at the screen or is
 * sent the address later shall not learn them.
 * @param {import('./said.js').Said} said
 * @param {boolean} running whether the node has been started, with the routers known then
 * @returns {string | null} the torrent that the address names
 */
export function takeAddress(said, running) {
  const address = readAddress(location.hash, { secure: location.protocol === 'https:' });
  const { bridges, peers, magnet, faults } = address;
  const says = faults.map(({ key, values }) => t(key, values));
  if (bridges.length + peers.length === 0) {
    const routers = faults.some(({ key }) => key !== 'faultMagnet');
    if (says.length > 0) said.pin([...says, ...(routers ? [t('invitedNone')] : [])].join('\n'));
  } else if (running) {
    const use = () => {
      keepRouters(address);
      location.reload();
    };
    said.pin([...says, t('invitedLater')].join('\n'), button(t('invitedUse'), use, 'main'));
  } else {
    keepRouters(address);
    said.pin([...says, t('invited')].join('\n'));
  }
  if (/^#(?:bridge|peer|magnet)=/.test(location.hash)) {
    history.replaceState(null, '', location.pathname + location.search + withoutRouters(address));
  }
  return magnet;
}

/** @param {Routers} routers */
function keepRouters({ bridges, peers }) {
  unkept = { bridges, peers };
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(unkept));
  } catch {
    // They hold until the page is left.
  }
}

/** @returns {Routers} */
function keptRouters() {
  try {
    const { bridges = [], peers = [] } = JSON.parse(sessionStorage.getItem(KEPT) ?? JSON.stringify(unkept));
    return { bridges: bridges.map(String), peers: peers.map(String) };
  } catch {
    return unkept;
  }
}
