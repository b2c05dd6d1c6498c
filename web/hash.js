// @ts-check
/// <reference lib="webworker" />
/**
 * Hashes pieces for `share.js`: `{wasm}` once, then `{parts: [{blob, shapes}, …]}`,
 * each answered by `{hashed: [[piece, 52 bytes], …]}` or `{error}`.
 */

/** @type {Promise<any> | null} */
let node = null;

/** @param {WebAssembly.Module} wasm */
async function load(wasm) {
  // @ts-ignore: the build lays it beside this file
  const module = await import('./chive_node.js');
  await module.default({ module_or_path: wasm });
  return module;
}

self.onmessage = async ({ data }) => {
  try {
    if (data.wasm) {
      node = load(data.wasm);
      return;
    }
    const { hash_piece: hashPiece } = await node;
    /** @type {[number, Uint8Array][]} */
    const hashed = [];
    for (const { blob, shapes } of data.parts) {
      const bytes = await read(blob);
      let at = 0;
      for (const { piece, length, padded, height } of shapes) {
        hashed.push([piece, hashPiece(bytes.subarray(at, at + length), padded, height)]);
        at += length;
      }
    }
    self.postMessage({ hashed });
  } catch (error) {
    self.postMessage({ error: error instanceof Error ? error.message : String(error) });
  }
};

/** @param {Blob} blob */
async function read(blob) {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch {
    throw new Error('A file could not be read: it was moved or changed.');
  }
}
