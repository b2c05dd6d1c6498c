// A page of a browser that nobody drives: sharing, storing, and what a tab holds in memory. What
// it is to do comes over a WebSocket, `{do, …}`; what came of it goes back as `{done}` or `{error}`.
import { Chive } from './chive.js';

/** @type {{ report: string }} */
const task = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const socket = new WebSocket(task.report);
const say = (/** @type {object} */ message) => socket.send(JSON.stringify(message));

// The node's worker says what memory it has.
const Plain = Worker;
self.Worker = /** @type {any} */ (class extends Plain {
  /** @param {string | URL} url @param {WorkerOptions} [options] */
  constructor(url, options) {
    const isNode = String(url).endsWith('/worker.js');
    super(isNode ? new URL('tapped.js', location.href) : url, options);
  }
});

/** @param {object} what */
async function work(what) {
  const worker = new Plain('storing-worker.js', { type: 'module' });
  try {
    worker.postMessage(what);
    const { data } = await new Promise((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = (event) => reject(new Error(event.message));
    });
    if (data.error) throw new Error(data.error);
    return data.done;
  } finally {
    worker.terminate();
  }
}

/** A file on the disk, as one that a user drops. */
async function input() {
  const folder = await navigator.storage.getDirectory();
  return (await folder.getFileHandle('bench-input')).getFile();
}

/** @type {Chive | null} */
let chive = null;

/** What the page and its workers hold: their heaps, and beside them the node's wasm memory. */
async function memory() {
  const { bytes: heaps, breakdown } = await /** @type {any} */ (performance).measureUserAgentSpecificMemory();
  const channel = new BroadcastChannel('chive-bench-memory');
  const answer = new Promise((resolve) => { channel.onmessage = ({ data }) => resolve(data); });
  channel.postMessage('tell');
  const wasm = await answer;
  channel.close();
  const parts = breakdown.map((/** @type {any} */ { bytes, types, attribution }) => ({ bytes, of: `${attribution[0]?.scope ?? ''} ${types}` }));
  return { heaps, wasm, parts };
}

/** @type {Record<string, (what: any) => any>} */
const tasks = {
  make: ({ bytes }) => work({ do: 'make', bytes }),
  write: (what) => work(what),
  async start({ options }) {
    chive = await Chive.start(options);
  },
  /** Milliseconds until all is hashed; what comes after is the copying into the store. */
  async share() {
    const file = await input();
    const began = performance.now();
    let hashed = 0;
    const torrent = await chive?.share([file], {
      onprogress({ hashed_bytes, total_bytes }) {
        if (hashed_bytes === total_bytes) hashed = performance.now();
      },
    });
    const ms = (hashed || performance.now()) - began;
    return { ms, bytes: file.size, id: torrent?.id };
  },
  /** Waits until so many bytes are claimed in the store. */
  async kept({ bytes }) {
    let used = 0;
    while (used < bytes) {
      await new Promise((resolve) => setTimeout(resolve, 250));
      used = (await chive?.store())?.used_bytes ?? 0;
    }
    return used;
  },
  async forget() {
    for (const torrent of chive?.torrents ?? []) await torrent.remove();
    await chive?.forgetEverything();
  },
  status: () => chive?.status(),
  memory,
};

await new Promise((open) => { socket.onopen = open; });
socket.onmessage = async ({ data }) => {
  const what = JSON.parse(data);
  try {
    say({ done: (await tasks[what.do](what)) ?? null });
  } catch (error) {
    say({ error: String(error) });
  }
};
