// @ts-check
/**
 * Data channels where the browser cannot move one to a worker: it stays with
 * the page, and its bytes go over a port. What the worker then holds behaves
 * as a data channel does, as far as a link needs it.
 *
 * From the worker: ArrayBuffers to send, `'close'`. To it: ArrayBuffers that
 * came, `{open}`, `{sent}` (all bytes that the browser has let go of), `{closed}`.
 */

/** How much may be left unsent when the worker is told of it. */
const LOW_WATER_BYTES = 64 * 1024;

/**
 * Serves a channel of the page's to a worker.
 * @param {RTCDataChannel} channel
 * @param {MessagePort} port
 */
export function servePort(channel, port) {
  let taken = 0;
  let told = 0;
  const tellSent = () => {
    const sent = taken - channel.bufferedAmount;
    if (sent > told) port.postMessage({ sent });
    told = sent;
  };
  channel.binaryType = 'arraybuffer';
  channel.bufferedAmountLowThreshold = LOW_WATER_BYTES;
  channel.onopen = () => port.postMessage({ open: true });
  channel.onmessage = ({ data }) => {
    if (data instanceof ArrayBuffer) port.postMessage(data, [data]);
  };
  channel.onbufferedamountlow = tellSent;
  channel.onclose = () => port.postMessage({ closed: true });
  port.onmessage = ({ data }) => {
    if (data === 'close') {
      channel.close();
      return;
    }
    try {
      channel.send(data);
      taken += data.byteLength;
    } catch {
      // It is closing, and says so by its own event, or it is full, which a link's high water forbids.
      if (channel.readyState === 'open') channel.close();
    }
    if (channel.bufferedAmount <= LOW_WATER_BYTES) tellSent();
  };
}

/** The worker's end: a data channel to whoever holds it. */
export class PortChannel {
  #port;
  #handed = 0;
  #sent = 0;
  readyState = 'connecting';
  binaryType = 'arraybuffer';
  bufferedAmountLowThreshold = 0;
  /** @type {(() => void) | null} */
  onopen = null;
  /** @type {((event: {data: ArrayBuffer}) => void) | null} */
  onmessage = null;
  /** @type {(() => void) | null} */
  onclose = null;
  /** @type {(() => void) | null} */
  onbufferedamountlow = null;

  /** @param {MessagePort} port */
  constructor(port) {
    this.#port = port;
    port.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) {
        if (this.readyState === 'open') this.onmessage?.({ data });
      } else if (data.open) {
        if (this.readyState !== 'connecting') return;
        this.readyState = 'open';
        this.onopen?.();
      } else if (data.sent !== undefined) {
        const before = this.bufferedAmount;
        this.#sent = data.sent;
        const low = this.bufferedAmountLowThreshold;
        if (before > low && this.bufferedAmount <= low) this.onbufferedamountlow?.();
      } else if (data.closed && this.readyState !== 'closed') {
        this.readyState = 'closed';
        this.onclose?.();
      }
    };
  }

  get bufferedAmount() {
    return this.#handed - this.#sent;
  }

  /** @param {Uint8Array} bytes */
  send(bytes) {
    if (this.readyState !== 'open') throw new DOMException('The channel is not open.', 'InvalidStateError');
    // A view into the wasm's memory cannot be handed over.
    const own = bytes.slice().buffer;
    this.#handed += own.byteLength;
    this.#port.postMessage(own, [own]);
  }

  close() {
    if (this.readyState === 'closing' || this.readyState === 'closed') return;
    this.readyState = 'closing';
    this.#port.postMessage('close');
  }
}
