// Holds data channels as the node's worker does, without a node: `{rtc: 'channel', link, channel}`,
// `{send: link, bytes}`, `{ask: link, bytes}`, `{receive: link, bytes}`.
import { PortChannel } from './channel.js';

// As the node's own links (node/src/web/channel.rs).
const MESSAGE_BYTES = 16 * 1024;
const LOW_WATER_BYTES = 128 * 1024;
const HIGH_WATER_BYTES = 512 * 1024;

/** @type {Map<number, any>} */
const channels = new Map();

self.onmessage = async ({ data }) => {
  if (data.rtc === 'channel') {
    const channel = data.channel ?? new PortChannel(data.port);
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = LOW_WATER_BYTES;
    channel.onopen = () => self.postMessage({ opened: data.link });
    channel.onclose = () => self.postMessage({ closed: data.link });
    channels.set(data.link, channel);
    return;
  }
  const link = data.send ?? data.ask ?? data.receive;
  const channel = channels.get(link);
  if (data.send !== undefined) {
    const message = new Uint8Array(MESSAGE_BYTES);
    for (let sent = 0; sent < data.bytes; sent += MESSAGE_BYTES) {
      channel.send(message);
      if (channel.bufferedAmount >= HIGH_WATER_BYTES) {
        await new Promise((resolve) => { channel.onbufferedamountlow = resolve; });
      }
    }
    return;
  }
  // The clock runs from the first message that comes, which was there before it was asked for.
  let received = 0;
  let began = 0;
  channel.onmessage = (event) => {
    if (began === 0) began = performance.now();
    else received += event.data.byteLength;
    if (received < data.bytes - MESSAGE_BYTES) return;
    channel.onmessage = null;
    self.postMessage({ received, ms: performance.now() - began });
  };
  if (data.ask !== undefined) channel.send(new Float64Array([data.bytes]));
  else self.postMessage({ listening: link });
};
