// Before the node's worker: says, when it is asked over the channel, what memory this thread holds.
const channel = new BroadcastChannel('chive-bench-memory');
/** @type {WebAssembly.Memory[]} */
const memories = [];

for (const name of /** @type {const} */ (['instantiate', 'instantiateStreaming'])) {
  const plain = /** @type {any} */ (WebAssembly[name]);
  /** @type {any} */ (WebAssembly)[name] = async (/** @type {any[]} */ ...given) => {
    const made = await plain.apply(WebAssembly, given);
    const { exports } = made.instance ?? made;
    if (exports.memory) memories.push(exports.memory);
    return made;
  };
}

channel.onmessage = () => {
  const wasm = memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
  const heap = /** @type {any} */ (performance).memory?.usedJSHeapSize ?? null;
  channel.postMessage({ name: self.name, wasm, heap });
};
