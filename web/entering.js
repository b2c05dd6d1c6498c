// @ts-check
/** Where a tab enters: the bridges that the page's server names, and where circuits began before. */

/** Where the routers that circuits begin at are written down. */
const ENTRIES_KEY = 'chive:entries';

/**
 * The bridges that the page's server names, and who of them tells a tab how it is seen: they know its
 * address already.
 * @returns {Promise<{bridges: string[], seers: string[]}>}
 */
export async function defaultBridges() {
  const missing = 'No bridge is known: this page was opened from a place that names none. Give one in bridge.json.';
  let answer;
  try {
    answer = await fetch(new URL('./bridge.json', import.meta.url), { cache: 'no-cache' });
  } catch {
    throw new Error('The list of bridges (bridge.json) could not be fetched. Check the connection and reload.');
  }
  const { bridges, peers = [] } = answer.ok ? await answer.json().catch(() => ({})) : {};
  if (!Array.isArray(bridges) || bridges.length === 0) throw new Error(missing);
  return { bridges: bridges.map(String), seers: Array.isArray(peers) ? peers.map(String) : [] };
}

/** Where circuits began in earlier sessions: a new place each time would be an adversary's some time. */
export function keptEntries() {
  try {
    const kept = JSON.parse(localStorage.getItem(ENTRIES_KEY) ?? '[]');
    return Array.isArray(kept) ? kept.filter((line) => typeof line === 'string') : [];
  } catch {
    return [];
  }
}

/** @param {string[]} lines */
export function keepEntries(lines) {
  try {
    localStorage.setItem(ENTRIES_KEY, JSON.stringify(lines));
  } catch {
    // They hold while the tab is open.
  }
}

/** Where a peer's line leads: `IP:PORT`. @param {string} line */
export function addressOf(line) {
  return line.replace(/#.*$/, '').replace(/:[^:]*$/, '');
}

/** Whether an address exists only on this machine or in its local network. @param {string} url */
export function isAtHome(url) {
  if (!URL.canParse(url)) return false;
  const { hostname } = new URL(url);
  return /^((.*\.)?localhost|127\..*|10\..*|192\.168\..*|172\.(1[6-9]|2\d|3[01])\..*|\[(::1|f[cde].*)\])$/.test(hostname);
}
