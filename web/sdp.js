// @ts-check
/**
 * Session descriptions, as far as a data channel needs them. What peers tell
 * each other is a few typed fields and never this text: here the text is
 * written from the fields for the browser, and the fields are read from the
 * text that the browser wrote. What does not fit is dropped.
 */

/**
 * @typedef {object} Candidate
 * @property {'host' | 'srflx' | 'prflx' | 'relay'} kind
 * @property {string} host an IP address, or `UUID.local`
 * @property {number} port on UDP
 * @property {number} priority
 */

/**
 * @typedef {object} Description
 * @property {string} ufrag
 * @property {string} password
 * @property {string} certificate_sha256 64 hex digits
 * @property {Candidate[]} candidates
 */

/** The longest description that is read; browsers write a tenth of it. */
const MAX_SDP_LENGTH = 16 * 1024;
/** The longest candidate that is read. */
const MAX_CANDIDATE_LENGTH = 512;
/** The most candidates in a description; further ones follow by themselves. */
export const MAX_CANDIDATES = 6;
/** The most bytes that we take in one message. */
const MAX_MESSAGE_BYTES = 262_144;

const KINDS = ['host', 'srflx', 'prflx', 'relay'];
const UFRAG = /^[A-Za-z0-9+/]{4,64}$/;
const PASSWORD = /^[A-Za-z0-9+/]{22,64}$/;
const SHA256 = /^[0-9a-f]{64}$/;
const MDNS = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\.local$/;
const IPV4 = /^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/;
const MAX_PRIORITY = 2 ** 31 - 1;

/**
 * The fields of a description that the browser wrote.
 * @param {string} sdp
 * @returns {Description | null} null where it is not a data channel's alone
 */
export function readDescription(sdp) {
  if (sdp.length > MAX_SDP_LENGTH) return null;
  const lines = sdp.split(/\r?\n/);
  const media = lines.filter((line) => line.startsWith('m='));
  if (media.length !== 1 || !/^m=application \d{1,5} UDP\/DTLS\/SCTP webrtc-datachannel$/.test(media[0])) return null;
  /** @param {string} name */
  const only = (name) => {
    const found = new Set(lines.filter((line) => line.startsWith(`a=${name}:`)).map((line) => line.slice(name.length + 3)));
    return found.size === 1 ? [...found][0] : '';
  };
  const print = /^sha-256 ((?:[0-9a-f]{2}:){31}[0-9a-f]{2})$/i.exec(only('fingerprint'));
  const description = {
    ufrag: only('ice-ufrag'),
    password: only('ice-pwd'),
    certificate_sha256: print ? print[1].replaceAll(':', '').toLowerCase() : '',
    candidates: /** @type {Candidate[]} */ ([]),
  };
  for (const line of lines) {
    const candidate = line.startsWith('a=candidate:') && readCandidate(line.slice(2));
    if (candidate && description.candidates.length < MAX_CANDIDATES) description.candidates.push(candidate);
  }
  return isDescription(description) ? description : null;
}

/**
 * The fields of a candidate that the browser wrote.
 * @param {string} text with or without `a=` before it
 * @returns {Candidate | null} null where it is not one over UDP that a peer could use
 */
export function readCandidate(text) {
  if (text.length > MAX_CANDIDATE_LENGTH) return null;
  const [name, component, transport, priority, host, port, typ, kind] = text.replace(/^a=/, '').split(' ');
  if (!/^candidate:[A-Za-z0-9+/]{1,32}$/.test(name) || component !== '1' || typ !== 'typ') return null;
  if (transport?.toLowerCase() !== 'udp' || !/^\d{1,10}$/.test(priority) || !/^\d{1,5}$/.test(port)) return null;
  const candidate = { kind, host: host.toLowerCase(), port: Number(port), priority: Number(priority) };
  return isCandidate(candidate) ? candidate : null;
}

/**
 * The description of a side that told its fields.
 * @param {'offer' | 'answer'} type
 * @param {Description} description
 * @returns {string | null} null where a field is not what it should be
 */
export function writeDescription(type, description) {
  if (!isDescription(description)) return null;
  const { ufrag, password, certificate_sha256, candidates } = description;
  return write([
    ...head(9, certificate_sha256),
    'a=ice-options:trickle',
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${password}`,
    // Who answers is DTLS's client: its first message then goes as soon as there is a way.
    `a=setup:${type === 'offer' ? 'actpass' : 'active'}`,
    ...candidates.slice(0, MAX_CANDIDATES).map((candidate) => `a=${writeCandidate(candidate)}`),
  ]);
}

/**
 * The answer that a native router would give, which is dialled by its address
 * and the hash of its certificate alone. Its name and password in ICE are the
 * hash of our own certificate, by which it knows whom to expect in DTLS.
 * @param {string} own_sha256 of our certificate, 64 hex digits
 * @param {{certificate_sha256: string, addresses: {host: string, port: number}[]}} router
 * @returns {string | null} null where a field is not what it should be
 */
export function writeRoutersAnswer(own_sha256, { certificate_sha256, addresses }) {
  if (!SHA256.test(own_sha256) || !SHA256.test(certificate_sha256)) return null;
  const candidates = addresses
    .slice(0, MAX_CANDIDATES)
    .map(({ host, port }, index) => ({ kind: 'host', host, port, priority: 2_130_706_431 - index }));
  if (candidates.length === 0 || !candidates.every(isCandidate)) return null;
  const bytes = (own_sha256.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
  const user = btoa(String.fromCharCode(...bytes)).replace(/=+$/, '');
  return write([
    ...head(candidates[0].port, certificate_sha256),
    'a=ice-lite',
    `a=ice-ufrag:${user}`,
    `a=ice-pwd:${user}`,
    'a=setup:passive',
    ...candidates.map((candidate) => `a=${writeCandidate(/** @type {Candidate} */ (candidate))}`),
    'a=end-of-candidates',
  ]);
}

/**
 * A candidate as `addIceCandidate` takes it; check it by {@link isCandidate} first.
 * @param {Candidate} candidate
 */
export function writeCandidate({ kind, host, port, priority }) {
  const related = kind === 'host' ? '' : ' raddr 0.0.0.0 rport 0';
  return `candidate:${KINDS.indexOf(kind) + 1} 1 udp ${priority} ${host} ${port} typ ${kind}${related}`;
}

/**
 * @param {any} candidate
 * @returns {candidate is Candidate}
 */
export function isCandidate(candidate) {
  const { kind, host, port, priority } = candidate ?? {};
  return (
    KINDS.includes(kind) &&
    isHost(host) &&
    Number.isInteger(port) &&
    port > 0 &&
    port < 65_536 &&
    Number.isInteger(priority) &&
    priority > 0 &&
    priority <= MAX_PRIORITY
  );
}

/** @param {any} description */
function isDescription({ ufrag, password, certificate_sha256, candidates }) {
  return (
    UFRAG.test(ufrag) &&
    PASSWORD.test(password) &&
    SHA256.test(certificate_sha256) &&
    Array.isArray(candidates) &&
    candidates.every(isCandidate)
  );
}

/** @param {unknown} host */
function isHost(host) {
  if (typeof host !== 'string' || host.length > 45) return false;
  if (MDNS.test(host) || IPV4.test(host)) return true;
  return /^[0-9a-f:.]+$/.test(host) && host.includes(':') && URL.canParse(`http://[${host}]/`);
}

/**
 * What all descriptions have.
 * @param {number} port
 * @param {string} certificate_sha256
 */
function head(port, certificate_sha256) {
  const print = certificate_sha256.toUpperCase().match(/../g) ?? [];
  return [
    'v=0',
    'o=- 1 1 IN IP4 0.0.0.0',
    's=-',
    't=0 0',
    'a=group:BUNDLE 0',
    `m=application ${port} UDP/DTLS/SCTP webrtc-datachannel`,
    'c=IN IP4 0.0.0.0',
    'a=mid:0',
    `a=fingerprint:sha-256 ${print.join(':')}`,
    'a=sctp-port:5000',
    `a=max-message-size:${MAX_MESSAGE_BYTES}`,
  ];
}

/** @param {string[]} lines */
function write(lines) {
  // What is of the session comes before the first medium.
  const lite = lines.indexOf('a=ice-lite');
  if (lite >= 0) {
    lines.splice(lite, 1);
    lines.splice(lines.indexOf('t=0 0') + 1, 0, 'a=ice-lite');
  }
  return `${lines.join('\r\n')}\r\n`;
}
