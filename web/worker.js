// @ts-check
/**
 * The thread that the node lives in. It owns the wasm and everything that the
 * wasm holds; the page and the service worker reach it by messages only.
 *
 * From the page: `{id, call, args}`, answered by `{id, value}` or `{id, error}`;
 * `{stream, port}`, after which the port is spoken to as in `serve`; `{rtc}`.
 * To the page: `{status}`, `{event}`, `{streams: how many are open}`, `{rtc}`.
 * What is said of WebRTC stands in `rtc.js`.
 */
import { PortChannel } from './channel.js';
import { headFor } from './http.js';
import { Identity } from './identity.js';
import { Store } from './store.js';
import { typeOf } from './types.js';

/** The most that one pull gives. */
const MAX_READ_BYTES = 256 * 1024;
/** How often the page is told of the state while it changes. */
const STATUS_INTERVAL_MS = 250;
/** How often while nothing is known to have changed. */
const STATUS_AT_LEAST_MS = 1000;
/**
 * A stream that nobody pulled from for so long gives its read back, and takes
 * another at the next pull. A paused film keeps its own long, for the node goes
 * on fetching what it will play.
 */
const IDLE_MS = 10 * 60_000;
/**
 * The same for a stream of a service worker that the browser has stopped and
 * started anew since: it does not come back, and says so to nobody.
 */
const ORPHAN_IDLE_MS = 30_000;
/**
 * Open streams. The browser opens one for each range it asks, and forgets some;
 * at the limit the one that was idle longest is ended.
 */
const MAX_STREAMS = 64;

/** Events after which the state is told at once. */
const CHANGES = new Set(['metadata', 'failed', 'bridge', 'circuits', 'source-dropped', 'torrents', 'forgotten']);

/** @typedef {import('./torrent.js').WorkerFile} WorkerFile */

/** @type {any} the node, once it is started */
let host = null;
/** @type {Identity | null} who this tab is, where it carries for others */
let identity = null;
/** Why this tab only asks, in a sentence, if it does. @type {string | null} */
let asksOnly = null;
/** @type {Store | null} what is kept for the next session */
let store = null;
/** What the user allows; what is not named stays as it was. */
const limits = { up: 0, down: 0, carry: true, carry_rate: 0 };
/** @type {Map<number, {infohash: string, files: WorkerFile[]}>} */
const torrents = new Map();
/** Torrents to be fetched whole once this tab has the store. @type {Set<number>} */
const wanted = new Set();
/** @type {Map<number, () => void>} who waits for which read */
const waiting = new Map();
/** Reads that became readable before anybody waited: what the store has comes within the call that asks. @type {Set<number>} */
const readable = new Set();
/** @type {Set<Stream>} in the order they were last used */
const streams = new Set();
/** @type {any[]} events that the page has not been told of */
let events = [];
let changed = false;
/** When the page was last told of the state. */
let told = -Infinity;
/** The service worker's latest life. @type {string | undefined} */
let life;

/** @param {unknown} message @param {Transferable[]} [transfer] */
const tell = (message, transfer = []) => self.postMessage(message, { transfer });

/** @type {Record<string, (args: any) => unknown>} */
const calls = {
  async start({ store: keeps = true, store_bytes: limit = null, ...settings }) {
    const [module, wasm] = await load().catch((error) => {
      throw new Error(`The onion router could not be loaded (${clause(error)}). Check the connection and reload.`);
    });
    try {
      await module.default({ module_or_path: wasm });
    } catch (error) {
      throw new Error(`This browser could not start the onion router: ${clause(error)}.`);
    }
    // The node's own, and its onion key.
    const seed = crypto.getRandomValues(new Uint8Array(64));
    identity = await whoWeAre(settings);
    const keys = identity && { rsa: hex(identity.rsa), ed25519: hex(identity.ed25519) };
    try {
      host = new module.Host({ ...settings, identity: keys }, seed, onEvent);
    } catch (error) {
      throw new Error(`The onion router did not start: ${clause(error)}.`);
    }
    if (keeps) {
      store = new Store(host, limit, onEvent, () => {
        for (const torrent of wanted) host.set_wanted(torrent, true);
        wanted.clear();
      });
      await store.start();
    }
    setInterval(tick, STATUS_INTERVAL_MS);
    changed = true;
    tick();
  },
  open: ({ link, download }) => opened(host.open(link), download),
  openFile: ({ bytes, download }) => opened(host.open_torrent_file(bytes), download),
  share({ bytes, files }) {
    if (!store) throw new Error('Sharing needs the store, and this page was started without it.');
    const shared = store.owns ? store.share(bytes, files) : store.shareElsewhere(bytes, files);
    tickNow();
    return shared;
  },
  pause({ torrent, paused }) {
    host.set_paused(torrent, paused);
    if (!paused) want(torrent);
    store?.changed(torrent);
    tickNow();
  },
  remove({ torrent, forget }) {
    store?.drop(torrent, forget);
    if (forget) host.forget_torrent(torrent);
    calls.close({ torrent });
    tickNow();
    return store?.commit();
  },
  async setLimits({ store_bytes: bytes, ...others }) {
    for (const name of /** @type {(keyof typeof limits)[]} */ (Object.keys(limits))) {
      const value = others[name];
      if (value === undefined) continue;
      if (name !== 'carry' && !(value >= 0)) throw new Error(`A limit is a number of bytes, or 0 for none: ${name} is not.`);
      Object.assign(limits, { [name]: value });
    }
    host.set_limits(limits.up, limits.down, limits.carry, limits.carry_rate);
    if (bytes !== undefined) await store?.setLimit(bytes);
  },
  store: () => store?.status() ?? { used_bytes: 0, quota_bytes: 0, kept: 'memory', error: null },
  forget: () => store?.forget(),
  close({ torrent }) {
    for (const stream of [...streams]) if (stream.torrent === torrent) stream.close();
    torrents.delete(torrent);
    wanted.delete(torrent);
    store?.drop(torrent);
    host.close_torrent(torrent);
    changed = true;
  },
};

/**
 * What is opened is fetched whole where it can be kept.
 * @param {number} torrent
 * @param {boolean} [download]
 */
function opened(torrent, download = true) {
  if (download) want(torrent);
  return torrent;
}

/** @param {number} torrent */
function want(torrent) {
  if (store?.keeps) host.set_wanted(torrent, true);
  else wanted.add(torrent);
}

self.onmessage = async ({ data }) => {
  if (data.stream) {
    serve(data.port, data.stream);
    return;
  }
  if (data.rtc) {
    // A channel is taken in the turn in which it came, or its first event is missed.
    if (data.rtc === 'channel') host.rtc_channel(data.link, data.channel ?? new PortChannel(data.port));
    else if (data.rtc === 'signal') host.rtc_signal(data.link, data.signal);
    else if (data.rtc === 'closed') host.rtc_closed(data.link, data.why);
    return;
  }
  try {
    let value = calls[data.call](data.args);
    // Answered in the same turn where possible, so that a torrent's number
    // arrives before the first event about it.
    if (value instanceof Promise) value = await value;
    tell({ id: data.id, value });
  } catch (error) {
    tell({ id: data.id, error: sentence(error) });
  }
};

/**
 * The node's own events. It may be in the middle of a call, so it is not
 * called back before it has returned.
 * @param {any} event
 */
function onEvent(event) {
  if (event.type === 'readable') {
    const wake = waiting.get(event.read);
    if (wake) wake();
    else readable.add(event.read);
    waiting.delete(event.read);
    return;
  }
  if (event.type === 'rtc') {
    tell(event);
    return;
  }
  if (event.type === 'sign') {
    void sign(event);
    return;
  }
  if (event.type === 'file-reads') {
    queueMicrotask(() => store?.read());
    return;
  }
  if (event.type === 'guest-wants') {
    queueMicrotask(() => store?.passOn());
    return;
  }
  if (event.type === 'metadata') {
    torrents.set(event.torrent, event);
    queueMicrotask(() => store?.tellNews());
  }
  if (event.type === 'removed') torrents.delete(event.torrent);
  if (event.type === 'forgotten') torrents.clear();
  if (events.push(event) === 1) queueMicrotask(flush);
}

function flush() {
  const batch = events;
  events = [];
  changed = true;
  if (batch.some((event) => CHANGES.has(event.type))) tick();
  for (const event of batch) tell({ event });
}

function tickNow() {
  changed = true;
  tick();
}

function tick() {
  letIdleReadsGo();
  const now = performance.now();
  // Links and what is carried change without an event.
  if (!changed && torrents.size === 0 && now - told < STATUS_AT_LEAST_MS) return;
  changed = false;
  told = now;
  tell({ status: { ...host.status(), asks_only: asksOnly } });
}

/**
 * New keys for this session, where this tab is to carry for others and can.
 * @param {{route?: boolean, dtls_sha256?: string}} settings
 */
async function whoWeAre({ route = true, dtls_sha256 }) {
  asksOnly = null;
  if (!route) {
    asksOnly = 'This tab only asks: carrying for others is switched off.';
  } else if (!dtls_sha256) {
    asksOnly = 'This tab only asks: this browser has no WebRTC, by which others could reach it.';
  } else {
    try {
      return await Identity.create();
    } catch (error) {
      asksOnly = `This tab only asks: ${clause(error)}.`;
    }
  }
  return null;
}

/** @param {{request: number, key: 'rsa' | 'ed25519', message: string}} event */
async function sign({ request, key, message }) {
  const bytes = Uint8Array.from(message.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  const signature = await identity?.sign(key, bytes).catch(() => undefined);
  asksOnly = signature ? null : 'This tab only asks for now: the browser did not sign with the keys that it keeps for it.';
  host.signed(request, signature);
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function letIdleReadsGo() {
  const now = performance.now();
  for (const stream of streams) {
    const limit = stream.life === undefined || stream.life === life ? IDLE_MS : ORPHAN_IDLE_MS;
    if (!stream.busy && now - stream.used > limit) stream.letGo();
  }
}

/** One response body, or one `stream()` of the page. */
class Stream {
  /** @type {number | null} the node's number for the read, while it has one */
  read = null;
  busy = false;
  closed = false;
  used = performance.now();

  /**
   * @param {{torrent: number, file: number, life?: string, save: boolean}} request
   * @param {number} position
   * @param {number} end
   */
  constructor({ torrent, file, life, save }, position, end) {
    this.torrent = torrent;
    this.file = file;
    this.life = life;
    this.save = save;
    this.position = position;
    this.end = end;
    if (streams.size >= MAX_STREAMS) streams.values().next().value?.close();
    streams.add(this);
    tell({ streams: streams.size });
  }

  /** @returns {Promise<Uint8Array | null>} */
  async next() {
    this.busy = true;
    streams.delete(this);
    streams.add(this);
    try {
      while (!this.closed && this.position < this.end) {
        this.read ??= host.open_read(this.torrent, this.file, this.position, this.end, this.save);
        const read = /** @type {number} */ (this.read);
        readable.delete(read);
        const bytes = host.poll_read(read, MAX_READ_BYTES);
        if (bytes === null) break;
        if (bytes !== undefined) {
          this.position += bytes.byteLength;
          return bytes;
        }
        if (readable.delete(read)) continue;
        await new Promise((/** @type {(value?: unknown) => void} */ resolve) => waiting.set(read, resolve));
      }
      if (!this.closed && this.position < this.end) throw new Error('The file ended before its end.');
      return null;
    } finally {
      this.busy = false;
      this.used = performance.now();
    }
  }

  letGo() {
    if (this.read === null) return;
    const read = this.read;
    this.read = null;
    host.close_read(read);
    readable.delete(read);
    waiting.get(read)?.();
    waiting.delete(read);
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.letGo();
    streams.delete(this);
    tell({ streams: streams.size });
  }
}

/**
 * Answers one request over a port: first its head, then `{bytes}` for each
 * `'pull'`, `{}` at the end, `{error}` where it fails; `'cancel'` ends it.
 * @param {MessagePort} port
 * @param {any} request
 */
function serve(port, request) {
  life = request.life ?? life;
  const torrent = torrents.get(request.torrent);
  const file = torrent?.files.find(({ index }) => index === request.file);
  if (!torrent || !file) {
    port.postMessage({ status: 404, error: 'There is no such file, or its torrent has been closed.' });
    return;
  }
  const name = file.path.at(-1) ?? '';
  const etag = `"${torrent.infohash}-${file.index}"`;
  const head = headFor(request, { name, ...typeOf(name), length: file.length, etag });
  port.postMessage(head);
  if (head.start === head.end) return;

  const stream = new Stream(request, head.start, head.end);
  port.onmessage = async ({ data }) => {
    if (data !== 'pull') {
      stream.close();
      return;
    }
    try {
      const bytes = await stream.next();
      if (bytes === null) {
        const cut = stream.position < stream.end;
        stream.close();
        port.postMessage(cut ? { error: 'The read was closed.' } : {});
      } else {
        // The buffer is handed over, not copied; a view into the wasm's memory cannot be.
        const own = bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice();
        port.postMessage({ bytes: own }, [own.buffer]);
      }
    } catch (error) {
      stream.close();
      port.postMessage({ error: sentence(error) });
    }
  };
  // Told where the tab or the page let go of it; a stopped service worker does not tell: ORPHAN_IDLE_MS.
  port.addEventListener('close', () => stream.close());
}

/** The node and its glue, both fetched at once. @returns {Promise<[any, Response]>} */
async function load() {
  return Promise.all([
    // @ts-ignore: the build lays it beside this file
    import('./chive_node.js'),
    fetch(new URL('./chive_node_bg.wasm', import.meta.url)).then((answer) => {
      if (answer.ok) return answer;
      throw new Error(`its server says ${answer.status}`);
    }),
  ]);
}

/** @param {unknown} error */
function sentence(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {unknown} error */
function clause(error) {
  return sentence(error).replace(/\.$/, '');
}
