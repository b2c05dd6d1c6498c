// A page of a browser that nobody drives. What it is to do comes over a WebSocket, `{do, …}`, and
// what came of it goes back as `{done}` or `{error}`; signals, which the benchmark hands to the
// other page, as `{signal}`.
import { Chive } from './chive.js';
import { Connections } from './rtc.js';

/** @type {{ report: string, more: number }} */
const task = JSON.parse(decodeURIComponent(location.hash.slice(1)));
for (let page = 0; page < task.more; page += 1) {
  const address = new URL(location.href);
  address.hash = encodeURIComponent(JSON.stringify({ ...task, more: 0 }));
  window.open(address, '_blank', 'noopener');
}
const socket = new WebSocket(task.report);
const say = (/** @type {object} */ message) => socket.send(JSON.stringify(message));

/** When connections were asked for, and how long they took, of nodes and of bare pages alike. */
const began = new Map();
/** @type {number[]} milliseconds from the offer to the open channel, by introduction */
let introduced = [];

const handle = Connections.prototype.handle;
Connections.prototype.handle = function (message) {
  if (message.rtc === 'offer') began.set(message.link, performance.now());
  if (message.rtc === 'opened' && began.has(message.link)) {
    introduced.push(performance.now() - began.get(message.link));
    began.delete(message.link);
  }
  handle.call(this, message);
};

// Without a node.

/** @type {Worker | null} */
let worker = null;
/** @type {Connections | null} */
let connections = null;
/** @type {Map<string, (message: any) => void>} */
const waiting = new Map();

/** @param {string} key */
const heard = (key) => new Promise((resolve) => waiting.set(key, resolve));

async function bare() {
  if (worker) return;
  worker = new Worker('link-worker.js', { type: 'module' });
  const own = worker;
  connections = await Connections.create((message, transfer = []) => {
    const { rtc } = /** @type {any} */ (message);
    if (rtc === 'channel') own.postMessage(message, transfer);
    else if (rtc === 'signal') say({ signal: message });
    else say({ error: JSON.stringify(message) });
  });
  own.onmessage = ({ data }) => {
    if (data.opened !== undefined) connections?.handle({ rtc: 'opened', link: data.opened });
    const key = Object.keys(data)[0];
    waiting.get(key)?.(data);
    waiting.delete(key);
  };
}

// With one.

/** @type {Chive | null} */
let chive = null;

/** @param {any} torrent @param {number} bytes */
async function read(torrent, bytes) {
  const file = torrent.files[0];
  const reader = file.stream({ start: 0, end: Math.min(file.length, bytes) }).getReader();
  let got = 0;
  let first = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    got += value.byteLength;
    if (!first) first = performance.now();
  }
  return { bytes: got, ms: performance.now() - first };
}

/** @type {Record<string, (what: any) => any>} */
const tasks = {
  bare: () => bare(),
  /** Who connects waits until the channel is open, and says how long that took. */
  async offer({ link }) {
    await bare();
    const opened = heard('opened');
    connections?.handle({ rtc: 'offer', link });
    await opened;
    return introduced.at(-1);
  },
  async dial({ link, addresses, certificate_sha256 }) {
    await bare();
    const opened = heard('opened');
    const start = performance.now();
    connections?.handle({ rtc: 'dial', link, addresses, certificate_sha256 });
    await opened;
    return performance.now() - start;
  },
  close({ link }) {
    connections?.handle({ rtc: 'close', link });
  },
  async ask({ link, bytes }) {
    const received = heard('received');
    worker?.postMessage({ ask: link, bytes });
    return received;
  },
  async listen({ link, bytes }) {
    const listening = heard('listening');
    waiting.set('received', (result) => say({ received: result }));
    worker?.postMessage({ receive: link, bytes });
    await listening;
  },
  send({ link, bytes }) {
    worker?.postMessage({ send: link, bytes });
  },

  async start({ options, circuits }) {
    introduced = [];
    chive = await Chive.start(options);
    const ready = () => chive?.status().circuits.filter(({ state }) => state === 'open').length >= circuits;
    while (!ready()) await new Promise((next) => chive?.addEventListener('circuits', next, { once: true }));
  },
  stop() {
    chive?.close();
    chive = null;
  },
  status: () => chive?.status(),
  introduced: () => introduced,
  async fetch({ magnet, bytes }) {
    const torrent = await chive?.open(magnet);
    const result = await read(torrent, bytes);
    const circuits = chive?.status().circuits.filter((circuit) => circuit.torrent === torrent.id);
    await torrent.close();
    return { ...result, circuits };
  },
};

await new Promise((open) => { socket.onopen = open; });
socket.onmessage = async ({ data }) => {
  const what = JSON.parse(data);
  if (what.signal) {
    // The benchmark carries what the two browsers say to each other.
    const { signal, link } = what.signal;
    await bare();
    if (signal.form === 'offer') connections?.handle({ rtc: 'answer', link, description: signal });
    else connections?.handle({ rtc: 'signal', link, signal });
    return;
  }
  try {
    say({ done: (await tasks[what.do](what)) ?? null });
  } catch (error) {
    say({ error: String(error) });
  }
};
