// Before the node's worker: says, when it is asked over the channel, how much wasm memory this thread has.
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
  channel.postMessage(memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0));
};
