// @ts-check
/**
 * What a file is, by the end of its name and by nothing else: a stranger chose
 * the bytes, so the bytes are not asked. What is not in this list is only ever
 * saved; html, svg, xml and scripts are kept out of it for good.
 */

/** @typedef {'video' | 'audio' | 'image' | 'text' | 'other'} Kind */

const OTHER = 'application/octet-stream';
const TEXT = 'text/plain; charset=utf-8';

/** @type {Record<string, string>} */
const TYPES = {
  mp4: 'video/mp4', m4v: 'video/mp4', mov: 'video/quicktime', webm: 'video/webm',
  mkv: 'video/x-matroska', ogv: 'video/ogg', avi: 'video/x-msvideo', wmv: 'video/x-ms-wmv',
  flv: 'video/x-flv', mpg: 'video/mpeg', mpeg: 'video/mpeg', m2ts: 'video/mp2t', ts: 'video/mp2t',
  '3gp': 'video/3gpp', vob: 'video/mpeg',
  mp3: 'audio/mpeg', m4a: 'audio/mp4', m4b: 'audio/mp4', aac: 'audio/aac', oga: 'audio/ogg',
  ogg: 'audio/ogg', opus: 'audio/ogg', flac: 'audio/flac', wav: 'audio/wav', weba: 'audio/webm',
  wma: 'audio/x-ms-wma', ape: 'audio/x-ape',
  png: 'image/png', apng: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg', gif: 'image/gif',
  webp: 'image/webp', avif: 'image/avif', bmp: 'image/bmp', ico: 'image/x-icon',
  txt: TEXT, md: TEXT, nfo: TEXT, log: TEXT, csv: TEXT, srt: TEXT, vtt: TEXT, ass: TEXT,
  sub: TEXT, cue: TEXT, m3u: TEXT, m3u8: TEXT, ini: TEXT, json: TEXT, toml: TEXT, yml: TEXT,
  yaml: TEXT, sha256: TEXT, md5: TEXT, sfv: TEXT,
};

/**
 * `canPlayType` says no to these containers, though many browsers play what is
 * usually inside them.
 */
const WORTH_A_TRY = new Set(['video/quicktime', 'video/x-matroska']);

/**
 * @param {string} name
 * @returns {{type: string, kind: Kind, inline: boolean}} `inline`: may be shown rather than saved
 */
export function typeOf(name) {
  const dot = name.lastIndexOf('.');
  const extension = dot < 0 ? '' : name.slice(dot + 1).toLowerCase();
  const type = Object.hasOwn(TYPES, extension) ? TYPES[extension] : undefined;
  if (type === undefined) return { type: OTHER, kind: 'other', inline: false };
  return { type, kind: /** @type {Kind} */ (type.slice(0, type.indexOf('/'))), inline: true };
}

/**
 * Whether it is worth asking this browser to play a type.
 * @param {{canPlayType(type: string): string}} element
 * @param {string} type
 */
export function mayPlay(element, type) {
  return WORTH_A_TRY.has(type) || element.canPlayType(type) !== '';
}
