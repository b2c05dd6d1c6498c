// @ts-check
/** A torrent and its files, as pages have them: `chive.js` gives them out. */
import { typeOf } from './types.js';

/** @typedef {import('./chive.js').TorrentStatus} TorrentStatus */

/**
 * @typedef {object} WorkerFile a file as the node tells of it
 * @property {number} index
 * @property {string[]} path
 * @property {number} length
 * @property {number} offset
 */

/**
 * @typedef {object} Access what a torrent needs of its node
 * @property {number} id
 * @property {(path: string) => string | null} address
 * @property {(port: MessagePort, request: object) => void} read
 * @property {() => Promise<void>} close
 * @property {() => TorrentStatus | undefined} status
 * @property {(paused: boolean) => Promise<void>} pause
 * @property {(forget: boolean) => Promise<void>} remove
 */

/** `blob()` holds all of a file at once; a larger one is for `url` and `stream()`. */
export const MAX_BLOB_BYTES = 2 ** 31 - 1;

/**
 * One torrent. `files` is there once {@link Chive.open} has given it.
 */
export class Torrent extends EventTarget {
  name = '';
  /** In hex; of a hybrid torrent the v1 one. */
  infohash = '';
  /** Bytes of all files together. */
  length = 0;
  /** @type {TorrentFile[]} */
  files = [];
  /** The link to hand on. */
  magnet = '';
  /** @type {Error | null} why it does not go on, while it does not */
  error = null;
  #access;
  /** @type {() => void} */
  #resolve = () => {};
  /** @type {(error: Error) => void} */
  #reject = () => {};
  /** @type {Promise<void>} settled when the metadata is here or cannot be had */
  ready;

  /** @param {Access} access */
  constructor(access) {
    super();
    this.#access = access;
    this.ready = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ready.catch(() => {});
  }

  /** This torrent's number in `status().torrents`. */
  get id() {
    return this.#access.id;
  }

  /** What is being done: 'finding', 'downloading', 'paused', 'sharing' (by choice), 'complete'. */
  get state() {
    const status = this.#access.status();
    if (status?.paused) return 'paused';
    if (status?.complete) return status.shared ? 'sharing' : 'complete';
    return this.files.length > 0 ? 'downloading' : 'finding';
  }

  /** Stops fetching. What is here is read and served all the same. */
  pause() {
    return this.#access.pause(true);
  }

  /** Fetches on, all of it. */
  resume() {
    return this.#access.pause(false);
  }

  /** Lets the torrent go; what was kept of it too, unless `forget` is false: then it is back in the next session. */
  async remove({ forget = true } = {}) {
    this.#reject(new DOMException('The torrent was removed.', 'AbortError'));
    await this.#access.remove(forget);
  }

  /** Lets the torrent go for this session; what is kept of it stays. */
  async close() {
    this.#reject(new DOMException('The torrent was closed.', 'AbortError'));
    await this.#access.close();
  }

  /** @param {string} type @param {any} detail */
  _handle(type, detail) {
    if (type === 'metadata') {
      this.name = detail.name;
      this.infohash = detail.infohash;
      this.magnet = detail.magnet ?? '';
      this.length = detail.total_bytes;
      this.files = detail.files.map((/** @type {WorkerFile} */ file) => new TorrentFile(file, this.#access));
      this.#resolve();
    } else if (type === 'progress') {
      this.error = null;
    } else if (type === 'failed') {
      const { message, reason, final = false } = detail;
      this.error = Object.assign(new Error(message), { reason, final });
      this.#reject(this.error);
    }
  }
}

/** One file of a torrent. */
export class TorrentFile {
  #access;

  /**
   * @param {WorkerFile} file
   * @param {Access} access
   */
  constructor(file, access) {
    this.#access = access;
    /** Its number within the torrent. */
    this.index = file.index;
    /** With its folders, joined by `/`. */
    this.path = file.path.join('/');
    /** The last part of the path. */
    this.name = file.path.at(-1) ?? '';
    /** In bytes. */
    this.length = file.length;
    /** Where it begins in the ranges of `status().torrents[].verified`. */
    this.offset = file.offset;
    const { type, kind } = typeOf(this.name);
    /** Its MIME type, by the end of its name. */
    this.type = type;
    /** What can be done with it. */
    this.kind = kind;
  }

  /**
   * An address for `<video>`, `<img>` or `fetch`, which answers ranges and lives
   * as long as this tab; null where {@link Chive.streaming} is false.
   * With `?save` added it is saved instead of shown.
   */
  get url() {
    return this.#access.address(`${this.index}/${encodeURIComponent(this.name.toWellFormed?.() ?? this.name)}`);
  }

  /**
   * The bytes in order, as fast as they are read and verified.
   * @param {{start?: number, end?: number}} [range] `end` is one past the last byte
   * @returns {ReadableStream<Uint8Array>}
   */
  stream({ start = 0, end = this.length } = {}) {
    return this.#stream(start, end, false);
  }

  /**
   * @param {number} start
   * @param {number} end
   * @param {boolean} save it may wait for what plays
   * @returns {ReadableStream<Uint8Array>}
   */
  #stream(start, end, save) {
    if (!(start >= 0 && start <= end && end <= this.length)) {
      throw new RangeError(`${start} to ${end} is not within a file of ${this.length} bytes.`);
    }
    const { port1, port2 } = new MessageChannel();
    /** @param {string} [message] */
    const ask = (message) =>
      new Promise((/** @type {(reply: any) => void} */ resolve) => {
        port1.onmessage = ({ data }) => resolve(data);
        if (message) port1.postMessage(message);
      });
    return new ReadableStream({
      start: async (controller) => {
        if (start === end) return controller.close();
        const range = `bytes=${start}-${end - 1}`;
        const head = ask();
        this.#access.read(port2, { file: this.index, method: 'GET', range, ifRange: null, save });
        const { error } = await head;
        if (error) throw new Error(error);
      },
      pull: async (controller) => {
        const { bytes, error } = await ask('pull');
        if (bytes) return controller.enqueue(bytes);
        port1.close();
        if (error) throw new Error(error);
        controller.close();
      },
      cancel: () => {
        port1.postMessage('cancel');
        port1.close();
      },
    });
  }

  /**
   * The whole file, once all of it is here.
   * @returns {Promise<Blob>}
   */
  async blob() {
    if (this.length > MAX_BLOB_BYTES) throw new Error('This file is too large to be held in memory.');
    const parts = [];
    const reader = this.#stream(0, this.length, true).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) parts.push(part.value);
    return new Blob(/** @type {BlobPart[]} */ (parts), { type: this.type });
  }
}
