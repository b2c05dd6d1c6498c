// @ts-check
/** Rates out of counters, evened over a few seconds. */

/** How long a count weighs in its rate. */
const WINDOW_MS = 4_000;
/** Counters that are followed; one that is not asked for is forgotten when this is passed. */
const MAX_FOLLOWED = 1_000;

export class Rates {
  /** @type {Map<string | number, [number, number][]>} moments and counts, oldest first */
  #seen = new Map();

  /**
   * Bytes a second, of a counter that now stands at `bytes`.
   * @param {string | number} name
   * @param {number} bytes
   * @param {number} now in milliseconds
   */
  of(name, bytes, now) {
    const seen = this.#seen.get(name) ?? [];
    this.#seen.delete(name);
    if (this.#seen.size >= MAX_FOLLOWED) this.#seen.delete(this.#seen.keys().next().value ?? '');
    // A counter that went back began anew.
    if (seen.length > 0 && seen[seen.length - 1][1] > bytes) seen.length = 0;
    if (seen.length === 0 || seen[seen.length - 1][0] < now) seen.push([now, bytes]);
    while (seen.length > 2 && seen[1][0] <= now - WINDOW_MS) seen.shift();
    this.#seen.set(name, seen);
    const [first, last] = [seen[0], seen[seen.length - 1]];
    return last[0] > first[0] ? ((last[1] - first[1]) / (last[0] - first[0])) * 1000 : 0;
  }
}
