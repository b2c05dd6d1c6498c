import assert from 'node:assert/strict';
import test from 'node:test';
import { PortChannel, servePort } from '../channel.js';

/** A data channel whose network takes what it is told to take. */
class Channel {
  readyState = 'connecting';
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  /** @type {ArrayBuffer[]} */
  sent = [];

  open() {
    this.readyState = 'open';
    this.onopen();
  }

  send(data) {
    if (this.readyState !== 'open') throw new Error('not open');
    this.sent.push(data);
    this.bufferedAmount += data.byteLength;
  }

  drain(bytes) {
    const before = this.bufferedAmount;
    this.bufferedAmount -= bytes;
    const low = this.bufferedAmountLowThreshold;
    if (before > low && this.bufferedAmount <= low) this.onbufferedamountlow();
  }

  close() {
    this.readyState = 'closed';
    this.onclose();
  }
}

/** Until a message that was posted has been taken, and its answer. */
const settled = async () => {
  for (let turn = 0; turn < 4; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

test('a channel over a port behaves as one', async (t) => {
  const { port1, port2 } = new MessageChannel();
  t.after(() => port1.close());
  const channel = new Channel();
  servePort(/** @type {any} */ (channel), port1);
  const end = new PortChannel(port2);
  const events = [];
  end.onopen = () => events.push('open');
  end.onmessage = ({ data }) => events.push(data.byteLength);
  end.onclose = () => events.push('close');
  end.onbufferedamountlow = () => events.push(`low ${end.bufferedAmount}`);
  end.bufferedAmountLowThreshold = 1000;

  assert.throws(() => end.send(new Uint8Array(1)), { name: 'InvalidStateError' });
  channel.open();
  await settled();
  assert.deepEqual([end.readyState, events.splice(0)], ['open', ['open']]);

  channel.onmessage({ data: new ArrayBuffer(7) });
  channel.onmessage({ data: 'text is no message of ours' });
  await settled();
  assert.deepEqual(events.splice(0), [7]);

  // A view: what lies around it in the wasm's memory stays there.
  const memory = new Uint8Array(200_000).fill(1);
  const view = memory.subarray(100, 100_100);
  end.send(view);
  assert.equal(end.bufferedAmount, 100_000);
  assert.equal(memory.byteLength, 200_000);
  await settled();
  assert.equal(channel.sent[0].byteLength, 100_000);
  assert.equal(end.bufferedAmount, 100_000, 'the browser still holds it');
  assert.deepEqual(events, []);
  channel.drain(100_000);
  await settled();
  assert.deepEqual([end.bufferedAmount, events.splice(0)], [0, ['low 0']]);

  end.close();
  await settled();
  assert.deepEqual([end.readyState, channel.readyState, events.splice(0)], ['closed', 'closed', ['close']]);
  assert.throws(() => end.send(new Uint8Array(1)), { name: 'InvalidStateError' });
});
