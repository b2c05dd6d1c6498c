// @ts-check
// As much of a WebSocket's client as driving a browser takes: texts, to a server that we trust.
// Node has one of its own from version 22 on.
import { randomBytes } from 'node:crypto';
import { request } from 'node:http';

/**
 * @param {string} url
 * @param {(text: string) => void} onText
 * @param {() => void} onClose
 * @returns {Promise<(text: string) => void>} sends a text
 */
export function connect(url, onText, onClose) {
  return new Promise((resolve, reject) => {
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(16).toString('base64'),
    };
    const asked = request(url.replace(/^ws:/, 'http:'), { headers });
    asked.on('error', reject);
    asked.on('response', ({ statusCode }) => reject(new Error(`no WebSocket: ${statusCode}`)));
    asked.on('upgrade', (_, socket, head) => {
      /** @type {Buffer[]} */
      let message = [];
      let waiting = head;
      const read = (/** @type {Buffer} */ bytes) => {
        waiting = Buffer.concat([waiting, bytes]);
        for (;;) {
          const frame = cut(waiting);
          if (!frame) return;
          waiting = waiting.subarray(frame.end);
          // A text, or what continues it; of the rest only the end matters, and the socket tells of it.
          if (frame.opcode > 1) continue;
          message.push(frame.payload);
          if (!frame.isLast) continue;
          onText(Buffer.concat(message).toString());
          message = [];
        }
      };
      socket.on('data', read);
      socket.on('error', () => {});
      socket.on('close', onClose);
      resolve((text) => socket.write(mask(Buffer.from(text))));
      read(Buffer.alloc(0));
    });
    asked.end();
  });
}

/** The first frame (RFC 6455, 5.2), once all of it is there. @param {Buffer} bytes */
function cut(bytes) {
  if (bytes.length < 2) return null;
  const short = bytes[1] & 0x7f;
  const start = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < start) return null;
  const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const end = start + length;
  if (bytes.length < end) return null;
  return { opcode: bytes[0] & 0xf, isLast: bytes[0] >= 0x80, payload: bytes.subarray(start, end), end };
}

/** A text as a client's frame, its length as short as can be. @param {Buffer} payload */
function mask(payload) {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = 0x81;
  head[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  else if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  const key = randomBytes(4);
  return Buffer.concat([head, key, payload.map((byte, index) => byte ^ key[index % 4])]);
}
