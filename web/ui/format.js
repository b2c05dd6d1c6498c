// @ts-check
/** Numbers and names as people read them. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/**
 * @param {number} bytes
 * @param {string} [language]
 */
export function size(bytes, language) {
  let unit = 0;
  let value = Math.max(0, bytes);
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.5 ? 0 : 1;
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
  return `${number}\u00a0${UNITS[unit]}`;
}

/**
 * @param {number} part
 * @param {number} whole
 * @param {string} [language]
 */
export function percent(part, whole, language) {
  // Rounded down: a hundred is said when all is there and not before.
  const value = whole > 0 ? Math.floor((part / whole) * 100) / 100 : 0;
  return new Intl.NumberFormat(language, { style: 'percent' }).format(value);
}

/**
 * A router's fingerprint, short enough to compare at a glance.
 * @param {string} fingerprint
 */
export function short(fingerprint) {
  const plain = fingerprint.replace(/^\$/, '');
  return plain.length <= 9 ? plain : `${plain.slice(0, 4)}…${plain.slice(-4)}`;
}

/**
 * A name from a torrent without the marks that turn text round: with them
 * `photo\u202Egnp.exe` reads as `photoexe.png`.
 * @param {string} text
 */
export function plain(text) {
  return text.replace(/[\p{Cc}\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/gu, '');
}

/**
 * The part of each range that lies in a window, moved to the window's start.
 * @param {[number, number][]} ranges first, one past the last
 * @param {number} start
 * @param {number} end
 * @returns {[number, number][]}
 */
export function clip(ranges, start, end) {
  /** @type {[number, number][]} */
  const inside = [];
  for (const [first, last] of ranges) {
    const from = Math.max(first, start);
    const to = Math.min(last, end);
    if (from < to) inside.push([from - start, to - start]);
  }
  return inside;
}

/** @param {[number, number][]} ranges */
export function total(ranges) {
  return ranges.reduce((sum, [first, last]) => sum + last - first, 0);
}
