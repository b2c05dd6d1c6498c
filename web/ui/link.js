// @ts-check
/** Finding a torrent's link in what people paste, and keeping it in the address. */

const INFOHASH = /(?:^|[^0-9a-z])(1220[0-9a-f]{64}|[0-9a-f]{64}|[0-9a-f]{40}|[a-z2-7]{32})(?![0-9a-z])/i;

/**
 * Takes a magnet link or an infohash out of pasted text, which often has words
 * or quotes round it. What holds neither is given back as it is: the node says
 * what is wrong with it.
 * @param {string} text
 */
export function findLink(text) {
  const trimmed = text.trim();
  const magnet = /magnet:\?[^\s"'<>]+/i.exec(trimmed);
  if (magnet) return magnet[0];
  const infohash = INFOHASH.exec(trimmed);
  return infohash ? infohash[1] : trimmed;
}

/**
 * The link in the page's address, if there is one: `#magnet:?…`, `#infohash`,
 * or either of them percent-encoded as a protocol handler writes it.
 * @param {string} hash with or without its `#`
 * @returns {string | null}
 */
export function readHash(hash) {
  let text = hash.replace(/^#/, '');
  if (/^magnet%3a/i.test(text)) {
    try {
      text = decodeURIComponent(text);
    } catch {
      return null;
    }
  }
  if (/^magnet:/i.test(text)) return text;
  const infohash = INFOHASH.exec(text);
  return infohash && infohash[1] === text ? text : null;
}

/**
 * The address for a torrent that was opened without a link.
 * @param {string} infohash in hex
 * @param {string} name
 */
export function makeHash(infohash, name) {
  const topic = infohash.length === 64 ? `urn:btmh:1220${infohash}` : `urn:btih:${infohash}`;
  return `#magnet:?xt=${topic}&dn=${encodeURIComponent(name)}`;
}
