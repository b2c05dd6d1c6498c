// @ts-check
/// <reference lib="webworker" />
/**
 * Hashes pieces for `share.js`, over the port that the page gives: `{parts: [{blob, shapes}, …]}`
 * is answered by `{hashed: [[piece, SHA-1 and then SHA-256 of each chunk], …]}` or `{error}`.
 *
 * The browser's own hashes run beside this thread and by the processor's
 * instructions for them: several times what wasm does.
 */

const CHUNK_BYTES = 16 * 1024;
const SHA1_BYTES = 20;
const SHA256_BYTES = 32;

self.onmessage = ({ data: { port } }) => {
  port.onmessage = (/** @type {MessageEvent} */ { data }) => hear(port, data);
};

/** @param {MessagePort} port @param {any} data */
async function hear(port, data) {
  try {
    /** @type {[number, Uint8Array][]} */
    const hashed = [];
    for (const { blob, shapes } of data.parts) {
      const bytes = await read(blob);
      let at = 0;
      // All of a part at once: it is bounded, and the browser has more threads than this.
      const pieces = shapes.map((/** @type {{length: number, padded: number}} */ { length, padded }) => {
        const start = at;
        at += length;
        return hashesOf(bytes.subarray(start, at), padded);
      });
      const all = await Promise.all(pieces);
      for (const [place, { piece }] of shapes.entries()) hashed.push([piece, all[place]]);
    }
    port.postMessage({ hashed });
  } catch (error) {
    port.postMessage({ error: error instanceof Error ? error.message : String(error) });
  }
}

/**
 * @param {Uint8Array<ArrayBuffer>} bytes of a piece
 * @param {number} padded how long v1 has it
 */
async function hashesOf(bytes, padded) {
  let whole = bytes;
  if (padded > bytes.length) {
    whole = new Uint8Array(padded);
    whole.set(bytes);
  }
  const made = [crypto.subtle.digest('SHA-1', whole)];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    made.push(crypto.subtle.digest('SHA-256', bytes.subarray(at, at + CHUNK_BYTES)));
  }
  const [v1, ...leaves] = await Promise.all(made);
  const hashes = new Uint8Array(SHA1_BYTES + leaves.length * SHA256_BYTES);
  hashes.set(new Uint8Array(v1));
  for (const [chunk, leaf] of leaves.entries()) hashes.set(new Uint8Array(leaf), SHA1_BYTES + chunk * SHA256_BYTES);
  return hashes;
}

/** @param {Blob} blob */
async function read(blob) {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch {
    throw new Error('A file could not be read: it was moved or changed.');
  }
}
