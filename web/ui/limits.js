// @ts-check
/** What is allowed to others and to this tab, as people write it and as the node takes it. */

/** @typedef {{carry: boolean, up: number | null, down: number | null, carry_rate: number | null, store: number | null}} Limits rates in MB/s, storage in GB; null is none */

/** @type {Limits} */
export const DEFAULTS = { carry: true, up: null, down: null, carry_rate: null, store: null };

const KEY = 'chive:limits';
/** Above this, a number is a slip of the hand. */
const MOST = 1_000_000;

/**
 * A limit as it is typed, in the digits and with the sign of any script.
 * @param {string} text
 * @returns {number | null | undefined} null for none, undefined where it is no limit
 */
export function readLimit(text) {
  const digits = text
    .trim()
    .replace(/[\u0660-\u0669]/g, (digit) => String(digit.charCodeAt(0) - 0x660))
    .replace(/[\u06f0-\u06f9]/g, (digit) => String(digit.charCodeAt(0) - 0x6f0))
    .replace(/[,\u066b]/, '.');
  if (digits === '') return null;
  const value = /^\d*\.?\d+$|^\d+\.$/.test(digits) ? Number(digits) : Number.NaN;
  return value > 0 && value <= MOST ? value : undefined;
}

/**
 * As `Chive.setLimits` takes them: 0 is none.
 * @param {Limits} limits
 */
export function forNode({ carry, up, down, carry_rate, store }) {
  const rate = (/** @type {number | null} */ value) => Math.max(value === null ? 0 : 1, Math.round((value ?? 0) * 1e6));
  return { carry, up: rate(up), down: rate(down), carry_rate: rate(carry_rate), ...(store === null ? {} : { store_bytes: Math.round(store * 1e9) }) };
}

/**
 * What was kept; whatever else may lie there is not believed.
 * @param {string | null} text
 * @returns {Limits}
 */
export function parseLimits(text) {
  const limits = { ...DEFAULTS };
  let kept;
  try {
    kept = JSON.parse(text ?? '{}');
  } catch {
    return limits;
  }
  if (typeof kept?.carry === 'boolean') limits.carry = kept.carry;
  for (const name of /** @type {const} */ (['up', 'down', 'carry_rate', 'store'])) {
    const value = kept?.[name];
    if (typeof value === 'number' && value > 0 && value <= MOST) limits[name] = value;
  }
  return limits;
}

/** Kept on this device; a browser that keeps nothing has none. */
export function loadLimits() {
  try {
    return parseLimits(localStorage.getItem(KEY));
  } catch {
    return { ...DEFAULTS };
  }
}

/** @param {Limits} limits */
export function saveLimits(limits) {
  try {
    localStorage.setItem(KEY, JSON.stringify(limits));
  } catch {
    // They hold while the tab is open.
  }
}

/** Forgets what the page itself has written down. */
export function forgetPage() {
  for (const name of /** @type {const} */ (['localStorage', 'sessionStorage'])) {
    try {
      const kept = globalThis[name];
      for (const key of Object.keys(kept)) if (key.startsWith('chive:')) kept.removeItem(key);
    } catch {
      // What could not be written needs no forgetting.
    }
  }
}
