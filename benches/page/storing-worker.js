// Files of OPFS and the store, without the page's node: `{do: 'make', bytes}`, `{do: 'write', …}`.
import init, { Creation, Host } from './chive_node.js';

const INPUT = 'bench-input';
const RAW = 'bench-raw';
const SLAB = 'bench-slab';
/** Of the store, which is what it writes at a time. */
const CHUNK_BYTES = 16 * 1024;
const BLOCK_BYTES = 1024 * 1024;
/** The page's worker claims so often what was written. */
const COMMIT_MS = 1000;

/** @param {string} name */
async function open(name) {
  const folder = await navigator.storage.getDirectory();
  await folder.removeEntry(name).catch(() => {});
  const handle = await folder.getFileHandle(name, { create: true });
  return /** @type {any} */ (handle).createSyncAccessHandle();
}

/** Noise that no file system makes smaller. @param {Uint32Array} words @param {number} state */
function noise(words, state) {
  for (let at = 0; at < words.length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return state;
}

/** @param {number} bytes */
async function make(bytes) {
  const file = await open(INPUT);
  const words = new Uint32Array(BLOCK_BYTES / 4);
  let state = 0x2545f491;
  for (let at = 0; at < bytes; at += BLOCK_BYTES) {
    state = noise(words, state);
    file.write(words, { at });
  }
  file.flush();
  file.close();
}

/** Has `add` know how long each flush of a file takes. @param {any} file @param {(ms: number) => void} add */
function timeFlushes(file, add) {
  const flush = file.flush.bind(file);
  file.flush = () => {
    const began = performance.now();
    flush();
    add(performance.now() - began);
  };
}

/** SHA-1, then SHA-256 of each chunk. @param {Uint8Array<ArrayBuffer>} piece */
async function hashesOf(piece) {
  const made = [crypto.subtle.digest('SHA-1', piece)];
  for (let at = 0; at < piece.length; at += CHUNK_BYTES) {
    made.push(crypto.subtle.digest('SHA-256', piece.subarray(at, at + CHUNK_BYTES)));
  }
  return new Uint8Array(await new Blob(await Promise.all(made)).arrayBuffer());
}

/**
 * MB/s of the store and of a plain file, which write the same in turn, a piece at a time: so both
 * have the same share of a busy machine. What checking a piece takes is not the store's: a piece
 * that is there already is checked all the same, and that is taken off.
 * @param {number} bytes
 * @param {string} bridge any: it is not reached
 */
async function both(bytes, bridge) {
  const block = new Uint8Array(BLOCK_BYTES);
  noise(new Uint32Array(block.buffer), 2);
  const creation = new Creation(undefined, JSON.stringify([{ path: ['noise.bin'], length: bytes }]));
  const content = (/** @type {number} */ length) => {
    const whole = new Uint8Array(length);
    for (let at = 0; at < length; at += BLOCK_BYTES) whole.set(block.subarray(0, Math.min(BLOCK_BYTES, length - at)), at);
    return whole;
  };
  /** @type {number[]} */
  const lengths = [];
  for (let number = 0; number < creation.piece_count(); number += 1) {
    const [, , length] = creation.shape(number);
    lengths.push(length);
    creation.set_piece(number, await hashesOf(content(length)));
  }
  const host = new Host({ bridges: [bridge], route: false }, crypto.getRandomValues(new Uint8Array(64)), () => {});
  let ours = 0;
  let peer = 0;
  let checking = 0;
  const slab = await open(SLAB);
  timeFlushes(slab, (ms) => { ours += ms; });
  const plain = await open(RAW);
  timeFlushes(plain, (ms) => { peer += ms; });
  await host.open_store(slab, 2 * bytes);
  const { torrent } = host.share(creation.finish());
  const copy = (/** @type {number} */ number, /** @type {Uint8Array} */ piece) => {
    const began = performance.now();
    const said = host.copy_piece(torrent, number, piece);
    if (said !== 'kept') throw new Error(`the store says ${said}`);
    return performance.now() - began;
  };
  let at = 0;
  let claimed = performance.now();
  for (const [number, length] of lengths.entries()) {
    const piece = content(length);
    ours += copy(number, piece);
    const check = copy(number, piece);
    ours -= check;
    checking += check;
    const began = performance.now();
    for (let from = 0; from < length; from += CHUNK_BYTES) {
      plain.write(piece.subarray(from, from + CHUNK_BYTES), { at: at + from });
    }
    peer += performance.now() - began;
    at += length;
    if (performance.now() - claimed < COMMIT_MS) continue;
    // IndexedDB does its part beside the worker.
    plain.flush();
    await host.commit_store();
    claimed = performance.now();
  }
  plain.flush();
  await host.commit_store();
  const { used_bytes } = host.store_status();
  if (used_bytes < bytes) throw new Error(`${used_bytes} of ${bytes} were kept`);
  await host.forget_store();
  host.close();
  plain.close();
  await (await navigator.storage.getDirectory()).removeEntry(RAW);
  const rate = (/** @type {number} */ ms) => bytes / 1e3 / ms;
  return { ours: rate(ours), peer: rate(peer), checking: rate(checking) };
}

self.onmessage = async ({ data }) => {
  try {
    if (data.do === 'make') {
      await make(data.bytes);
      self.postMessage({ done: true });
      return;
    }
    const wasm = await WebAssembly.compileStreaming(fetch(new URL('./chive_node_bg.wasm', import.meta.url)));
    await init({ module_or_path: wasm });
    const results = [];
    for (let run = 0; run < data.runs; run += 1) {
      results.push(await both(data.bytes, data.bridge));
    }
    self.postMessage({ done: results });
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};
