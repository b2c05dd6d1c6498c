// @ts-check
// The page's half of a tab without a node: the connections are those of rtc.js, and whoever drives
// this page is the node and the introducer.
import { Connections } from '/rtc.js';

const worker = new Worker('worker.js', { type: 'module' });
/** @type {any[]} */
const said = [];
/** @type {((message: any) => void) | null} */
let waiting = null;

/** @param {any} message */
function say(message) {
  said.push(message);
  waiting?.(undefined);
  waiting = null;
}

if (new URLSearchParams(location.search).has('unmovable')) {
  // As where a browser cannot move a channel.
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (/** @type {any} */ message, /** @type {any} */ transfer) {
    if (message.channel) throw new DOMException('RTCDataChannel cannot be moved', 'DataCloneError');
    post.call(this, message, transfer);
  };
}

const connections = await Connections.create((message, transfer = []) => {
  const { rtc } = /** @type {any} */ (message);
  if (rtc === 'channel') worker.postMessage(message, transfer);
  else say(message);
});
worker.onmessage = ({ data }) => say(data);

Object.assign(window, {
  certificate_sha256: connections?.certificate_sha256,
  /** @param {any} message as of the node */
  ask: (message) => connections?.handle(message),
  /** @param {any} message to whoever holds the channels */
  tellWorker: (message) => worker.postMessage(message),
  /** What was said since the last time; waits for something. */
  async hear() {
    if (said.length === 0) await new Promise((resolve) => (waiting = resolve));
    return said.splice(0);
  },
});
