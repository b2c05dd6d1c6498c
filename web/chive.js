// @ts-check
/**
 * Chive in a page: torrents through onion routers, with nothing installed.
 *
 * ```js
 * import { Chive } from './chive.js';
 *
 * const chive = await Chive.start();
 * const torrent = await chive.open('magnet:?xt=urn:btih:…');
 * video.src = torrent.files[0].url;                       // plays and seeks
 * const head = torrent.files[1].stream({ end: 4096 });    // a ReadableStream
 * const whole = await torrent.files[1].blob();
 * console.log(chive.status());                            // routers, rates, verified bytes
 * ```
 *
 * This is the only way in; the other files beside it are its parts. The page
 * that uses it must lie in the folder of `sw.js` or below for addresses
 * (`file.url`) to work; `stream()` and `blob()` work anywhere.
 *
 * Every byte has been verified against the infohash before it comes out here.
 *
 * @module
 */
import { addressOf, defaultBridges, isAtHome, keepEntries, keptEntries } from './entering.js';
import { hashed, laidOut } from './making.js';
import { Connections } from './rtc.js';
import { Torrent } from './torrent.js';

export { MAX_BLOB_BYTES, Torrent, TorrentFile } from './torrent.js';

/**
 * @typedef {object} StartOptions
 * @property {string[]} [bridges] where to enter: `wss://HOST:PORT/link#ED25519.NTOR`, each with
 *   the keys that prove it. Without them they are read from `bridge.json` beside this file.
 * @property {string[]} [peers] where else to enter, by WebRTC: `IP:PORT:CERTHASH#ED25519.NTOR`. With
 *   them alone `bridge.json` is not read.
 * @property {number} [hops] routers in a circuit: 3, or 2 for speed at the cost of being easier to follow
 * @property {boolean} [store] whether what is fetched and shared is kept for the next session: true, unless it is said otherwise
 * @property {number} [storeBytes] how much of it at most
 * @property {number} [memoryBytes] how much verified content is kept; what was played longest ago goes first
 * @property {number} [maxMetadataBytes] the longest info dictionary that is accepted
 * @property {number} [findTimeoutMs] how long a torrent is looked for
 * @property {boolean} [route] whether this tab is a router for others too, which it is unless told otherwise
 * @property {string[]} [stun] `stun:HOST:PORT`, who tell this tab how it is seen from outside; the
 *   first of the peers, of those in `bridge.json`, and of those where circuits begin, unless others are named
 */

/**
 * @typedef {object} Hop
 * @property {'bridge' | 'facilitator' | 'tab' | 'entry' | 'middle' | 'ordb'} role the first is what it is, `entry` while that is not known
 * @property {string} fingerprint
 * @property {string} [address]
 */

/**
 * @typedef {object} TorrentStatus
 * @property {number} id
 * @property {string} infohash
 * @property {string} name
 * @property {string} state
 * @property {number} total_bytes
 * @property {number} verified_bytes
 * @property {boolean} [paused]
 * @property {boolean} [complete] every chunk is here
 * @property {boolean} [full] there is no room to keep more of it, for now
 * @property {boolean} [shared] by the user's choice
 * @property {boolean} [stored] it is there in the next session
 * @property {number} rate_bytes_per_second
 * @property {[number, number][]} verified first byte and one past the last, where the content is one long string
 * @property {{router: string, rate_bytes_per_second: number, window_chunks: number, delay_ms: number, unanswered_chunks: number, state: string}[]} sources
 * @property {string | null} [error]
 */

/**
 * @typedef {object} Status
 * @property {{url: string, state: string, error?: string | null}[]} bridges
 * @property {{id: number | string, state: string, hops: Hop[], torrent?: number | null}[]} circuits
 * @property {TorrentStatus[]} torrents
 * @property {{sent: number, received: number}} link_bytes
 * @property {number} [routers_known] routers that the bridges told of
 * @property {string | null} [id] who this tab is for others, in this session; null if it only asks
 * @property {{circuits: number, bytes: number}} [carried] of others' circuits
 * @property {number[]} [buckets] contacts in each of Kademlia's 160 buckets
 * @property {number} [peers_known] contacts in all of them
 * @property {{kind: 'bridge' | 'facilitator' | 'tab', id: string, state: string, sent: number, received: number}[]} [links]
 * @property {string | null} [asks_only] why this tab is no router for others, in a sentence
 */

/** How long a torrent is looked for, unless it is said otherwise. */
export const FIND_TIMEOUT_MS = 90_000;
/** How long a service worker may take before the page goes on without. */
const SERVICE_WORKER_TIMEOUT_MS = 5_000;
/** Browsers stop a service worker that heard nothing for 30 seconds. */
const KEEP_ALIVE_MS = 15_000;
/** A `.torrent` larger than this is not read. */
const MAX_TORRENT_FILE_BYTES = 32 * 1024 * 1024;
/** Peers that are asked how they see us: each learns our address, as whoever is dialled does. */
const MAX_STUN = 2;
/** Routers that an invitation names: a QR code has no room for many. */
const MAX_INVITED = 6;
/** What is loaded only when somebody shares. */
const PARTS_LATER = ['share.js', 'hash.js'];
/** The files of this module that workers load: the service worker keeps them. */
const PARTS = [
  'chive.js',
  'rtc.js',
  'sdp.js',
  'worker.js',
  'channel.js',
  'http.js',
  'identity.js',
  'store.js',
  'guests.js',
  'entering.js',
  'making.js',
  'torrent.js',
  'types.js',
  'chive_node.js',
  'chive_node_bg.wasm',
  'bridge.json',
  ...PARTS_LATER,
];

/** @type {Map<string, Chive>} the instances of this page by their ids */
const instances = new Map();

/**
 * A running node.
 *
 * Events, each a `CustomEvent` with a plain object as its `detail`; those about
 * a torrent are dispatched on the {@link Torrent} too:
 * - `progress` `{torrent, verified_bytes, rate_bytes_per_second}`
 * - `torrents` `{}`: the set of {@link Chive.torrents} changed
 * - `store` `{torrent?, message}`: something could not be kept, in a sentence
 * - `metadata` `{torrent, name, infohash, total_bytes}`
 * - `failed` `{torrent?, message, reason?, final?}`, the reason in a word: `not-found`, `gone`,
 *   `too-large`, `unavailable`, `unusable`. It goes on if somebody comes who has it, unless it is
 *   `final`. Without a torrent the node itself has stopped.
 * - `source-dropped` `{torrent, router, message}`: a router sent wrong bytes
 * - `bridge` `{url, state: 'connecting' | 'connected' | 'failed', message?}`
 * - `circuits` `{}`: routes were opened or lost; `status()` has them
 */
export class Chive extends EventTarget {
  /** Names this instance among all the tabs that the service worker serves. */
  #id = randomId();
  #worker;
  #nextCall = 1;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
  #calls = new Map();
  /** @type {Map<number, Torrent>} */
  #torrents = new Map();
  /** @type {Status} */
  #status = { bridges: [], circuits: [], torrents: [], link_bytes: { sent: 0, received: 0 } };
  /** @type {string | null} the folder that the service worker serves */
  #scope = null;
  #keepAlive = 0;
  /** @type {Connections | null} */
  #connections = null;
  /** Where others can enter too, in the order in which they were learned of. @type {{bridges: string[], peers: string[], entries: string[], stun: string[] | undefined}} */
  #routers = { bridges: [], peers: [], entries: [], stun: undefined };
  /** @type {Error | null} */
  #ended = null;

  /** Use {@link Chive.start}. */
  constructor() {
    super();
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'chive' });
    this.#worker.onmessage = ({ data }) => this.#handle(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const why = event.message ? ` (${event.message})` : '';
      this.#end(new Error(`The onion router stopped${why}. Reload the page to go on.`));
    };
    instances.set(this.#id, this);
  }

  /**
   * Starts a node and its service worker.
   * @param {StartOptions} [options]
   * @returns {Promise<Chive>} rejects with a sentence for the user
   */
  static async start(options = {}) {
    const peers = options.peers ?? [];
    const named = options.bridges?.length || peers.length;
    const { bridges, seers } = named ? { bridges: options.bridges ?? [], seers: peers } : await defaultBridges();
    const chive = new Chive();
    const entries = keptEntries();
    chive.#routers = { bridges, peers: seers, entries, stun: options.stun };
    try {
      const serving = chive.#serve();
      chive.#connections = await Connections.create(
        (message, transfer = []) => chive.#worker.postMessage(message, transfer),
        chive.#seers(),
      );
      await chive.#call('start', {
        bridges,
        peers,
        entries,
        // Who comes in by a router at home may meet others there.
        allow_private: [...bridges, ...peers.map((line) => `ws://${addressOf(line)}`)].some(isAtHome),
        hops: options.hops ?? 3,
        memory_bytes: options.memoryBytes ?? defaultMemoryBytes(),
        max_metadata_bytes: options.maxMetadataBytes,
        find_timeout_ms: options.findTimeoutMs ?? FIND_TIMEOUT_MS,
        route: options.route ?? true,
        dtls_sha256: chive.#connections?.certificate_sha256,
        store: options.store ?? true,
        store_bytes: options.storeBytes ?? null,
      });
      await serving;
      return chive;
    } catch (error) {
      chive.close();
      throw error;
    }
  }

  /**
   * Whether files have addresses here. Without a service worker (an insecure
   * origin, some private modes) there are only `blob()` and `stream()`.
   */
  get streaming() {
    return this.#scope !== null;
  }

  /**
   * Opens a torrent and waits for its list of files.
   * @param {string | Uint8Array | Blob} source a magnet link, an infohash, or a `.torrent` file
   * @param {{signal?: AbortSignal, download?: boolean}} [options] `download: false` fetches no more than
   *   is read; else all of it is fetched, where it can be kept
   * @returns {Promise<Torrent>} rejects with a sentence for the user
   */
  async open(source, { signal, download } = {}) {
    signal?.throwIfAborted();
    let id;
    if (typeof source === 'string') {
      id = await this.#call('open', { link: source, download });
    } else {
      const length = source instanceof Blob ? source.size : source.byteLength;
      if (length > MAX_TORRENT_FILE_BYTES) throw new Error('This file is too large to be a .torrent file.');
      const bytes = source instanceof Blob ? new Uint8Array(await source.arrayBuffer()) : source;
      id = await this.#call('openFile', { bytes, download });
    }
    const isNew = !this.#torrents.has(id);
    const opened = this.#torrent(id);
    const abort = () => void (isNew && opened.close());
    signal?.addEventListener('abort', abort, { once: true });
    try {
      await opened.ready;
    } catch (error) {
      if (isNew && !signal?.aborted && !this.#ended) void opened.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
    return opened;
  }

  /**
   * Bridges, circuits with their routers, torrents with their rates and
   * verified ranges, as plain JSON of a quarter of a second ago at most.
   * @returns {Status}
   */
  status() {
    return this.#status;
  }

  /** All torrents: those that were opened or shared, and those that are kept from earlier sessions. */
  get torrents() {
    return [...this.#torrents.values()];
  }

  /**
   * Shares files: hashes them, and serves them from now on. They are copied into the store where
   * they fit, and then are there in the next session; what does not fit is shared from the files
   * themselves while this tab is open.
   * @param {(File | {path: string | string[], file: File})[]} files
   * @param {{name?: string, signal?: AbortSignal, onprogress?: (progress: {hashed_bytes: number, total_bytes: number}) => void}} [options]
   *   `name` is the folder's, where there are several files
   * @returns {Promise<Torrent>} rejects with a sentence for the user
   */
  async share(files, { name, signal, onprogress } = {}) {
    signal?.throwIfAborted();
    // Browsers hash for pages that came securely, and for those alone.
    if (!globalThis.crypto?.subtle) throw new Error('Sharing needs a page that came by https. Open Chive from an https address.');
    const { folder, items } = laidOut(files, name);
    const { bytes, order } = await hashed({ folder, files: items }, signal, onprogress);
    void navigator.storage?.persist?.();
    const { torrent: id } = await this.#call('share', { bytes, files: order.map((/** @type {number} */ place) => items[place].file) });
    const torrent = this.#torrent(id);
    await torrent.ready;
    return torrent;
  }

  /**
   * @param {{up?: number, down?: number, carry?: boolean, carry_rate?: number, store_bytes?: number}} limits
   *   bytes and bytes a second; 0 is no limit
   */
  async setLimits(limits) {
    await this.#call('setLimits', limits);
  }

  /**
   * What an invitation says, behind the page's address: whoever opens it enters where this tab does.
   * @param {{bridges?: boolean, peers?: boolean}} [what] bridges, and routers that are entered by WebRTC
   * @returns {string} `#bridge=…&peer=…`
   */
  invite({ bridges = true, peers = true } = {}) {
    const { bridges: ways, peers: named, entries } = this.#routers;
    const lines = [
      ...(bridges ? ways.map((line) => `bridge=${encodeURIComponent(line)}`) : []),
      ...(peers ? [...new Set([...named, ...entries])].map((line) => `peer=${encodeURIComponent(line)}`) : []),
    ];
    if (lines.length === 0) throw new Error('This tab does not know yet where others could enter. Try again in a minute.');
    return `#${lines.slice(0, MAX_INVITED).join('&')}`;
  }

  /** Who tell this tab how it is seen from outside. */
  #seers() {
    const { peers, entries, stun } = this.#routers;
    return stun ?? [...new Set([...peers, ...entries])].slice(0, MAX_STUN).map((line) => `stun:${addressOf(line)}`);
  }

  /** @returns {Promise<{used_bytes: number, quota_bytes: number, kept: 'opfs' | 'indexeddb' | 'memory', error: string | null}>} */
  store() {
    return this.#call('store', {});
  }

  /** Deletes all that this page keeps: torrents, their bytes, settings. */
  async forgetEverything() {
    await this.#call('forget', {});
    for (const key of Object.keys(localStorage)) if (key.startsWith('chive')) localStorage.removeItem(key);
    for (const key of (await globalThis.caches?.keys()) ?? []) if (key.startsWith('chive')) await caches.delete(key);
  }

  /** @param {number} id */
  #torrent(id) {
    let torrent = this.#torrents.get(id);
    if (!torrent) {
      torrent = new Torrent({
        id,
        address: (path) => (this.#scope === null ? null : new URL(`stream/${this.#id}/${id}/${path}`, this.#scope).href),
        read: (port, request) => this.#worker.postMessage({ stream: { torrent: id, ...request }, port }, [port]),
        close: () => this.#close(id),
        status: () => this.#status.torrents.find((one) => one.id === id),
        pause: (paused) => this.#call('pause', { torrent: id, paused }),
        remove: (forget) => this.#remove(id, forget),
      });
      this.#torrents.set(id, torrent);
      this.dispatchEvent(new CustomEvent('torrents', { detail: {} }));
    }
    return torrent;
  }

  /** Stops the node; everything of it ends. */
  close() {
    this.#end(new Error('Chive was closed.'), true);
  }

  /** @param {number} id */
  async #close(id) {
    this.#torrents.delete(id);
    this.dispatchEvent(new CustomEvent('torrents', { detail: {} }));
    await this.#call('close', { torrent: id });
  }

  /** @param {number} id @param {boolean} forget */
  async #remove(id, forget) {
    this.#torrents.delete(id);
    this.dispatchEvent(new CustomEvent('torrents', { detail: {} }));
    await this.#call('remove', { torrent: id, forget });
  }

  /**
   * @param {string} call
   * @param {object} args
   * @returns {Promise<any>}
   */
  #call(call, args) {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#nextCall++;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call, args });
    });
  }

  /** @param {any} message from the worker */
  #handle(message) {
    if (message.status) {
      this.#status = message.status;
    } else if (message.event) {
      this.#dispatch(message.event);
    } else if (message.rtc) {
      this.#connections?.handle(message);
    } else if (message.streams !== undefined) {
      this.#stay(message.streams > 0);
    } else {
      const call = this.#calls.get(message.id);
      this.#calls.delete(message.id);
      if (message.error === undefined) call?.resolve(message.value);
      else call?.reject(new Error(message.error));
    }
  }

  /** @param {any} event from the node */
  #dispatch({ type, ...detail }) {
    if (type === 'entries') {
      this.#routers.entries = detail.lines;
      this.#connections?.setStun(this.#seers());
      keepEntries(detail.lines);
      return;
    }
    if (type === 'forgotten') {
      this.#torrents.clear();
      type = 'torrents';
    }
    if (type === 'removed') {
      // By another tab, in which it was opened.
      this.#torrents.delete(detail.torrent);
      type = 'torrents';
    }
    // One that is kept from an earlier session tells of itself so.
    const torrent = type === 'metadata' ? this.#torrent(detail.torrent) : this.#torrents.get(detail.torrent);
    torrent?._handle(type, detail);
    this.dispatchEvent(new CustomEvent(type, { detail }));
    torrent?.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {Error} error @param {boolean} [wanted] */
  #end(error, wanted = false) {
    if (this.#ended) return;
    this.#ended = error;
    this.#worker.terminate();
    this.#connections?.close();
    instances.delete(this.#id);
    this.#stay(false);
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
    for (const torrent of this.#torrents.values()) torrent._handle('failed', { message: error.message });
    this.#torrents.clear();
    if (!wanted) this.dispatchEvent(new CustomEvent('failed', { detail: { message: error.message } }));
  }

  /** Registers the service worker and waits until it serves this page. */
  async #serve() {
    const container = navigator.serviceWorker;
    if (!container) return;
    container.addEventListener('message', relay);
    container.startMessages();
    try {
      const registration = await container.register(new URL('./sw.js', import.meta.url));
      if (!location.href.startsWith(registration.scope)) return;
      await within(SERVICE_WORKER_TIMEOUT_MS, controlled(container));
      this.#scope = registration.scope;
      // The server may be gone when they are wanted next.
      container.controller?.postMessage({ keep: PARTS.map(beside), anew: PARTS_LATER.map(beside) });
    } catch (error) {
      console.warn('Chive goes on without a service worker:', error);
    }
  }

  /** @param {boolean} needed */
  #stay(needed) {
    if (!needed) {
      clearInterval(this.#keepAlive);
      this.#keepAlive = 0;
    } else if (this.#keepAlive === 0) {
      this.#keepAlive = setInterval(() => navigator.serviceWorker?.controller?.postMessage('stay'), KEEP_ALIVE_MS);
    }
  }

  /**
   * A request that the service worker caught, if it is this instance's.
   * @param {any} request
   * @param {MessagePort} port
   */
  _serve(request, port) {
    this.#worker.postMessage({ stream: request, port }, [port]);
  }
}

/**
 * Passes a request that the service worker caught on to the instance it names.
 * @param {MessageEvent} event
 */
function relay({ data, ports: [port] }) {
  if (data?.chive !== 'stream') return;
  const owner = instances.get(data.request.instance);
  if (owner) owner._serve(data.request, port);
  else port.postMessage(null);
}

/** The address of a file of this module. @param {string} name */
function beside(name) {
  return new URL(name, import.meta.url).href;
}

/** @param {ServiceWorkerContainer} container */
async function controlled(container) {
  if (container.controller) return;
  const changed = new Promise((resolve) => container.addEventListener('controllerchange', resolve, { once: true }));
  // A page that was reloaded past its service worker is taken on only if it asks.
  const { active } = await container.ready;
  active?.postMessage('claim');
  if (!container.controller) await changed;
}

/** A share of the memory that the device says it has; of one that does not say, a small phone's. */
function defaultMemoryBytes() {
  const gib = /** @type {any} */ (navigator).deviceMemory ?? 4;
  return Math.min(512, Math.max(64, gib * 64)) * 1024 * 1024;
}

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => (byte % 36).toString(36)).join('');
}

/**
 * @param {number} ms
 * @param {Promise<unknown>} promise
 */
function within(ms, promise) {
  return Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error('it took too long')), ms)),
  ]);
}
