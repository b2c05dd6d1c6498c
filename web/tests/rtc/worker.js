// @ts-check
// Holds channels as the node does, and moves bytes: `{channel}` or `{port}`, `{send, size}`, `{close}`.
import { PortChannel } from '/channel.js';

const LOW_WATER_BYTES = 128 * 1024;
const HIGH_WATER_BYTES = 512 * 1024;

/** @type {Map<number, any>} */
const channels = new Map();

self.onmessage = async ({ data }) => {
  const { link } = data;
  if (data.rtc === 'channel') {
    const channel = data.channel ?? new PortChannel(data.port);
    const moved = data.channel !== undefined;
    channels.set(link, channel);
    let received = 0;
    let sum = 0;
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = LOW_WATER_BYTES;
    channel.onopen = () => self.postMessage({ opened: link, moved });
    channel.onclose = () => self.postMessage({ over: link });
    channel.onmessage = (/** @type {any} */ event) => {
      const bytes = new Uint8Array(event.data);
      received += bytes.length;
      // The first byte of each message, in order: one lost or exchanged changes the sum.
      sum = (Math.imul(sum, 31) + bytes[0]) | 0;
      // An empty last message ends a transfer.
      if (bytes.length === 1) {
        self.postMessage({ received, sum, link });
        received = 0;
        sum = 0;
      }
    };
  } else if (data.send !== undefined) {
    const channel = channels.get(link);
    const began = performance.now();
    const message = new Uint8Array(data.size);
    let sum = 0;
    let most = 0;
    let waits = 0;
    const put = (/** @type {Uint8Array} */ bytes) => {
      channel.send(bytes);
      sum = (Math.imul(sum, 31) + bytes[0]) | 0;
    };
    for (let sent = 0, count = 0; sent < data.send; sent += data.size, count += 1) {
      message[0] = count;
      put(message);
      most = Math.max(most, channel.bufferedAmount);
      if (channel.bufferedAmount >= HIGH_WATER_BYTES) {
        waits += 1;
        await new Promise((resolve) => (channel.onbufferedamountlow = resolve));
      }
    }
    put(new Uint8Array(1));
    self.postMessage({ sent: link, sum, most, waits, ms: performance.now() - began });
  } else if (data.close) {
    channels.get(link)?.close();
  }
};
