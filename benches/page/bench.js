// One download in a browser that nobody drives: the task stands in the address, the result goes
// out over a WebSocket.
import { Chive } from './chive.js';

const MIB = 1 << 20;
/** @type {{ magnet: string, bytes: number, memory: number, report: string }} */
const task = JSON.parse(decodeURIComponent(location.hash.slice(1)));

async function measure() {
  const chive = await Chive.start({ memoryBytes: task.memory });
  // Circuits are built ahead of need; the user's click comes after the page has loaded.
  const ready = async () => {
    const { circuits } = await chive.status();
    return circuits.filter((circuit) => circuit.state === 'open').length >= 2;
  };
  while (!(await ready())) {
    await new Promise((done) => chive.addEventListener('circuits', done, { once: true }));
  }
  const began = performance.now();
  const torrent = await chive.open(task.magnet);
  const file = torrent.files[0];
  const reader = file.stream({ start: 0, end: Math.min(file.length, task.bytes) }).getReader();
  let bytes = 0;
  let firstMib = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.byteLength;
    if (!firstMib && bytes >= MIB) firstMib = performance.now() - began;
  }
  const all = performance.now() - began;
  return { first_mib_ms: firstMib, all_ms: all, bytes };
}

const socket = new WebSocket(task.report);
await new Promise((open) => { socket.onopen = open; });
try {
  socket.send(JSON.stringify(await measure()));
} catch (error) {
  socket.send(JSON.stringify({ error: String(error) }));
}
