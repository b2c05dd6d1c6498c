// @ts-check
/**
 * A scripted stand-in of chive.js, for looking at the page's states without a
 * network: `node web/tests/gallery.js`, then open what it prints. It is served
 * to developers only and is no part of the page.
 *
 * What it plays stands in the address: `?scene=home`, `mesh`, `busy`, `bare`
 * (a node without the newer methods), `failed`.
 */
import { typeOf } from '../types.js';

export const FIND_TIMEOUT_MS = 90_000;
export const MAX_BLOB_BYTES = 2 ** 31 - 1;

const scene = new URLSearchParams(location.search).get('scene') ?? 'mesh';
const id = (/** @type {number} */ n) => (n * 2654435761).toString(16).padStart(40, '9695dfc35f').slice(0, 40).toUpperCase();

class Torrent extends EventTarget {
  error = null;
  state = 'downloading';

  /** @param {number} number @param {string} name @param {[string, number][]} files */
  constructor(number, name, files) {
    super();
    this.id = number;
    this.name = name;
    this.infohash = id(number).toLowerCase();
    this.magnet = `magnet:?xt=urn:btih:${this.infohash}&dn=${encodeURIComponent(name)}`;
    let offset = 0;
    this.files = files.map(([path, length], index) => {
      const fileName = path.split('/').at(-1) ?? '';
      const file = { index, path, name: fileName, length, offset, ...typeOf(fileName), url: null, blob: () => new Promise(() => {}), stream: () => new ReadableStream() };
      offset += length;
      return file;
    });
    this.length = offset;
    this.ready = Promise.resolve();
    if (scene === 'bare') this.state = /** @type {any} */ (undefined);
    else {
      Object.assign(this, {
        pause: async () => (this.state = 'paused'),
        resume: async () => (this.state = 'downloading'),
        remove: async () => all.splice(all.indexOf(this), 1),
      });
    }
  }

  async close() {
    all.splice(all.indexOf(this), 1);
  }
}

/** @type {any[]} */
const all = [];
if (scene === 'busy' || scene === 'mesh') {
  all.push(
    new Torrent(1, 'Sintel, the durian open movie project', [['Sintel/sintel.en.srt', 1514], ['Sintel/sintel.mkv', 129_000_000], ['Sintel/poster.jpg', 46_115]]),
    Object.assign(new Torrent(2, 'عکس‌های سفر به شیراز', [['باغ/نارنج.jpg', 4_000_000], ['حافظیه.jpg', 3_100_000]]), { state: 'sharing' }),
    Object.assign(new Torrent(3, 'A name so long that no card has room for it, with a_word_that_has_no_place_to_break_at_all_in_it.tar.zst', [['archive.tar.zst', 5_400_000_000]]), { state: 'paused' }),
    Object.assign(new Torrent(4, 'Lecture notes', [['notes.txt', 20_000]]), { state: 'complete' }),
    Object.assign(new Torrent(5, 'Nobody has this', [['gone.mp4', 700_000_000]]), { error: Object.assign(new Error('Those who had it are gone.'), { reason: 'gone', final: false }) }),
  );
}

const parts = [0.43, 1, 0.12, 1, 0.02];
const started = performance.now();

export class Chive extends EventTarget {
  streaming = true;
  torrents = all;

  /** @param {any} options */
  static async start(options) {
    const chive = new Chive();
    Object.assign(globalThis, { startedWith: options });
    if (scene === 'bare') {
      for (const name of ['share', 'setLimits', 'invite', 'forgetEverything', 'store']) Object.assign(chive, { [name]: undefined });
      Object.assign(chive, { torrents: undefined });
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
    return chive;
  }

  /** @param {string} source */
  async open(source) {
    await new Promise((resolve) => setTimeout(resolve, scene === 'home' ? 60_000 : 100));
    if (scene === 'failed') throw Object.assign(new Error('Nobody was found who has this torrent'), { reason: 'not-found', final: false });
    const torrent = new Torrent(10, 'Opened', [['opened.txt', 5000]]);
    if (this.torrents) all.push(torrent);
    return all.find(({ magnet }) => magnet === source) ?? torrent;
  }

  /** @param {any[]} files @param {any} options */
  async share(files, { name, signal, onprogress }) {
    const whole = files.reduce((sum, { file }) => sum + file.size, 0);
    for (let step = 0; step <= 10; step += 1) {
      signal.throwIfAborted();
      onprogress({ hashed_bytes: (whole * step) / 10, total_bytes: whole });
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    Object.assign(globalThis, { sharedFiles: files });
    const torrent = Object.assign(new Torrent(20 + all.length, name, files.map(({ path, file }) => [path, file.size])), { state: 'sharing' });
    all.push(torrent);
    this.dispatchEvent(new CustomEvent('torrents', { detail: {} }));
    return torrent;
  }

  /** @param {any} limits */
  async setLimits(limits) {
    Object.assign(globalThis, { limits });
  }

  async invite() {
    const key = 'kJuwtq2bOIlHgGjhBmGs1xGPmM8CjQGT5kGg2e8xU0A';
    return `#bridge=${encodeURIComponent(`wss://bridge.example/link#${key}.${key}`)}&peer=${encodeURIComponent(`203.0.113.7:4431:${key}`)}`;
  }

  async forgetEverything() {
    all.length = 0;
  }

  async store() {
    return { used_bytes: 1.3e9, quota_bytes: 6e9, kept: 'opfs' };
  }

  status() {
    const seconds = (performance.now() - started) / 1000;
    const hop = (/** @type {string} */ role, /** @type {number} */ n) => ({ role, fingerprint: id(n) });
    const circuit = (/** @type {number} */ n, /** @type {number | null} */ torrent, state = 'open') => ({
      id: n,
      state,
      torrent,
      hops: [n === 3 ? hop('facilitator', 4) : hop('bridge', 7), hop('middle', n + 20), hop('ordb', n + 40)],
    });
    const base = {
      bridges: [{ url: 'wss://bridge.example/link', state: scene === 'failed' ? 'failed' : 'connected', error: scene === 'failed' ? 'the connection broke off.' : null }],
      circuits: scene === 'home' ? [] : [circuit(1, 1), circuit(2, 1), circuit(3, null), circuit(4, null, 'building')],
      torrents: all.map((torrent, index) => {
        const part = parts[index] ?? 1;
        const bytes = Math.round(torrent.length * part);
        return {
          id: torrent.id,
          infohash: torrent.infohash,
          name: torrent.name,
          state: torrent.state ?? 'open',
          total_bytes: torrent.length,
          verified_bytes: bytes,
          rate_bytes_per_second: index === 0 ? 1_840_000 : 0,
          verified: index === 0 ? [[0, bytes * 0.6], [torrent.length * 0.5, torrent.length * 0.5 + bytes * 0.4]] : [[0, bytes]],
          sources: index === 0 ? [{ router: id(41), rate_bytes_per_second: 1_200_000 }, { router: id(42), rate_bytes_per_second: 640_000 }] : [],
          ...(scene === 'bare'
            ? {}
            : {
                shared: torrent.state === 'sharing',
                sent_bytes: index === 1 ? 12_000_000 + seconds * 310_000 : 0,
                availability: [25, 50, 75, 100].map((percent, level) => ({ percent, count: index === 0 ? [7, 4, 4, 2][level] : index === 1 ? [3, 2, 1, 0][level] : 0 })),
              }),
        };
      }),
      routers_known: 12,
      link_bytes: { sent: 1e6, received: 5e7 },
    };
    if (scene === 'bare') return base;
    const few = scene === 'home' ? 0 : 1;
    return {
      ...base,
      links: [
        { kind: 'bridge', id: id(7), state: 'open', sent: 2_100_000, received: 61_000_000 },
        ...(few ? [4, 5].map((n) => ({ kind: 'facilitator', id: id(n), state: 'open', sent: 1e5 * n, received: 1e6 * n })) : []),
        ...(few ? [11, 12, 13, 14].map((n) => ({ kind: 'tab', id: id(n), state: n === 14 ? 'connecting' : 'open', sent: 3e5 * n, received: 2e5 * n })) : []),
      ],
      carried: { circuits: few * 3, bytes: few * 48_300_000 },
      buckets: Array.from({ length: 160 }, (_, i) => (few === 0 ? 0 : i < 148 ? 0 : [1, 0, 2, 3, 5, 4, 8, 8, 7, 8, 8, 8][i - 148])),
      peers_known: 62,
    };
  }
}
