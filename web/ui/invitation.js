// @ts-check
/**
 * What the page's address can bring: `#bridge=…&peer=…&magnet=…`, the first two
 * as often as wanted, each value percent-encoded. Whoever wrote such a link may
 * be anybody, so every value is looked at before the node gets it, and what is
 * wrong is told in a sentence.
 */
import { readHash } from './link.js';

/** @typedef {import('./text.js').Key} Key */
/** @typedef {{key: Key, values: {value: string}}} Fault a sentence of text.js */
/** @typedef {{bridges: string[], peers: string[], magnet: string | null, faults: Fault[]}} Address */

/** Routers that one link may name: more help nobody, and a stranger chose how many. */
export const MAX_NAMED = 16;
/** A router's line is well under this; a longer one is not looked at. */
const MAX_LINE_CHARS = 512;
/** Shown of a value that is wrong. */
const MAX_SHOWN_CHARS = 60;

/** Parameters that belong to a magnet link which somebody pasted behind `magnet=` as it was. */
const OF_MAGNET = /^(?:xt(?:\.\d+)?|dn|tr(?:\.\d+)?|xl|ws|as|xs|kt|mt|so|x\.pe)$/;

/** 32 bytes in base64url without padding: the last digit's two spare bits are zero. */
const KEY = '[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]';
const BRIDGE = new RegExp(`^(wss?)://[^\\s/#?@]+(?:/[^\\s#]*)?#${KEY}\\.${KEY}$`);
const PEER = new RegExp(`^([^\\s#]+):(\\d{1,5}):(?:[0-9a-fA-F]{64}|${KEY})(?:#[A-Za-z0-9_.:/~-]+)?$`);

/**
 * @param {string} hash with or without its `#`
 * @param {{secure?: boolean}} [page] whether the page came by https; then browsers
 *   refuse unencrypted links to everywhere but this machine
 * @returns {Address}
 */
export function readAddress(hash, { secure = false } = {}) {
  /** @type {Address} */
  const found = { bridges: [], peers: [], magnet: readHash(hash), faults: [] };
  if (found.magnet !== null) return found;
  const text = hash.replace(/^#/, '');
  if (!/^(?:bridge|peer|magnet)=/.test(text)) return found;
  for (const part of text.split('&')) {
    const equals = part.indexOf('=');
    const name = equals < 0 ? part : part.slice(0, equals);
    const value = equals < 0 ? '' : decode(part.slice(equals + 1));
    if (name === 'bridge') keep(found.bridges, value, bridgeFault(value, secure), found.faults);
    else if (name === 'peer') keep(found.peers, value, peerFault(value), found.faults);
    else if (name === 'magnet') readMagnet(found, value);
    else if (OF_MAGNET.test(name)) continueMagnet(found, part);
  }
  return found;
}

/** @param {Address} found @param {string} value */
function readMagnet(found, value) {
  found.magnet = readHash(value);
  if (found.magnet === null) found.faults.push({ key: 'faultMagnet', values: { value: shown(value) } });
}

/** @param {Address} found @param {string} part */
function continueMagnet(found, part) {
  if (found.magnet?.startsWith('magnet:')) found.magnet += `&${part}`;
}

/**
 * @param {string[]} list
 * @param {string} value
 * @param {Key | null} fault
 * @param {Fault[]} faults
 */
function keep(list, value, fault, faults) {
  if (fault !== null) {
    if (faults.length < MAX_NAMED) faults.push({ key: fault, values: { value: shown(value) } });
  } else if (!list.includes(value) && list.length < MAX_NAMED) {
    list.push(value);
  }
}

/**
 * What is wrong with a bridge's line, if anything is.
 * @param {string} line
 * @param {boolean} secure
 * @returns {Key | null}
 */
export function bridgeFault(line, secure) {
  const match = line.length <= MAX_LINE_CHARS ? BRIDGE.exec(line) : null;
  if (!match || !URL.canParse(line)) return 'faultBridge';
  const { hostname } = new URL(line);
  const here = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(hostname);
  return secure && match[1] === 'ws' && !here ? 'faultInsecure' : null;
}

/**
 * What is wrong with a peer's line, if anything is: an address, a port, and the
 * hash of the certificate that it shows.
 * @param {string} line
 * @returns {Key | null}
 */
export function peerFault(line) {
  const match = line.length <= MAX_LINE_CHARS ? PEER.exec(line) : null;
  if (!match || !isAddress(match[1])) return 'faultPeer';
  const port = Number(match[2]);
  return port >= 1 && port <= 65_535 ? null : 'faultPeer';
}

/** An IPv4 address, or an IPv6 one in its brackets; a name would be looked up in the open. @param {string} text */
function isAddress(text) {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (four) return four.slice(1).every((part) => Number(part) <= 255);
  return /^\[[0-9a-fA-F:.]+\]$/.test(text) && URL.canParse(`http://${text}/`);
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @param {string} value */
function shown(value) {
  return value.length > MAX_SHOWN_CHARS ? `${value.slice(0, MAX_SHOWN_CHARS)}…` : value;
}

/**
 * The address that is left once the routers have been taken out: what remains
 * in the bar names no router that a later reader could learn.
 * @param {Address} address
 */
export function withoutRouters({ magnet }) {
  return magnet === null ? '' : `#${magnet}`;
}

/**
 * The link of this page to a torrent. Encoded, since messengers cut links at
 * the signs that a magnet link is full of.
 * @param {string} page its address
 * @param {string} magnet
 */
export function pageLink(page, magnet) {
  return `${page.replace(/#.*$/, '')}#magnet=${encodeURIComponent(magnet)}`;
}

/**
 * The link of this page that invites somebody.
 * @param {string} page its address
 * @param {string} invitation as `Chive.invite` gives it
 */
export function invitationLink(page, invitation) {
  return `${page.replace(/#.*$/, '')}#${invitation.replace(/^#/, '')}`;
}
