// @ts-check
/// <reference lib="webworker" />
/**
 * What outlives the tab, as its worker opens it: one file of OPFS for the
 * bytes, IndexedDB for what is known of them. One tab of an origin owns it at a
 * time (a Web Lock), and the others use it through that one (`guests.js`); the
 * next one takes it over when that tab ends.
 */
import { Guest, Lender } from './guests.js';

/** Who holds it owns the store. */
const LOCK = 'chive-store';
/** The slab. */
const FILE = 'chive-chunks';
/** Tabs of this origin tell each other who has the store, and to forget. */
const CHANNEL = 'chive-store';
/** How often it is tried to open the slab while somebody holds it, and after which time. */
const OPEN_TRIES = 20;
const OPEN_PAUSE_MS = 250;
/** How long the tab that has the store may take to answer another. */
const ANSWER_MS = 10_000;
/** How often what was written is claimed: a killed tab loses no more than this. */
const COMMIT_MS = 1000;
/** What is used where the browser promises more, unless the user says otherwise. */
const DEFAULT_BYTES = 8 * 2 ** 30;
/** Of what the browser promises: the rest is left to the other things of this origin. */
const QUOTA_PART = 0.8;
/** Piece reads for a copy into the store are made one at a time; after each there is time for others. */
const COPY_PAUSE_MS = 5;

export class Store {
  #host;
  /** @type {number | null} what the user allows; null: what is usual */
  #limit;
  #tell;
  #open = false;
  #timer = 0;
  /** The last claiming that was asked for. @type {Promise<void>} */
  #claimed = Promise.resolve();
  /** @type {(() => void) | null} lets the lock go */
  #release = null;
  #channel = new BroadcastChannel(CHANNEL);
  /** Files by torrent, and by their number in it. @type {Map<number, Map<number, File>>} */
  #files = new Map();
  /** Torrents whose files are being copied. @type {Set<number>} */
  #copying = new Set();
  /** What this tab shares by the one that has the store; shared from here should that end. @type {{bytes: Uint8Array, files: File[]}[]} */
  #elsewhere = [];
  /** Who waits for the tab that has the store. @type {Map<string, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
  #asked = new Map();
  #onkeep;
  /** While this tab has the store. @type {Lender | null} */
  #lender = null;
  /** While another has it. @type {Guest | null} */
  #guest = null;

  /**
   * @param {any} host the node
   * @param {number | null} limit in bytes
   * @param {(event: object) => void} tell tells the page
   * @param {() => void} [onkeep] called when what comes is kept from now on
   */
  constructor(host, limit, tell, onkeep = () => {}) {
    this.#host = host;
    this.#limit = limit;
    this.#tell = tell;
    this.#onkeep = onkeep;
    this.#channel.onmessage = ({ data }) => {
      if (data === 'forget') void this.forget(true);
      else if (data === 'owner') this.#guest?.greet();
      else if (data.hello) this.#lender?.welcome(data.hello);
      else if (data.ask) void this.#answer(data);
      else this.#answered(data);
    };
  }

  /**
   * What another tab asks of the one that has the store.
   * @param {{id: string, ask: string, args: any}} question
   */
  async #answer({ id, ask, args }) {
    if (!this.#open) return;
    try {
      let value;
      if (ask === 'share') value = { magnet: this.share(args.bytes, args.files).magnet };
      else if (ask === 'status') value = await this.status();
      else if (ask === 'limit') await this.setLimit(args.bytes);
      this.#channel.postMessage({ id, value });
    } catch (error) {
      this.#channel.postMessage({ id, error: sentence(error) });
    }
  }

  /** @param {{id: string, value?: any, error?: string}} answer */
  #answered({ id, value, error }) {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (error === undefined) asked?.resolve(value);
    else asked?.reject(new Error(`${error}.`));
  }

  /**
   * Asks the tab that has the store.
   * @param {string} ask @param {object} [args] @returns {Promise<any>}
   */
  #ask(ask, args = {}) {
    const id = crypto.randomUUID();
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.#channel.postMessage({ id, ask, args });
      setTimeout(() => this.#answered({ id, error: 'The tab of this page that keeps what is stored does not answer' }), ANSWER_MS);
    });
  }

  /**
   * Shares by the tab that has the store, which reads the files from now on.
   * @param {Uint8Array} bytes the `.torrent`
   * @param {File[]} files in the order of the torrent
   * @returns {Promise<{torrent: number, magnet: string}>}
   */
  async shareElsewhere(bytes, files) {
    const { magnet } = await this.#ask('share', { bytes, files });
    this.#elsewhere.push({ bytes, files });
    return { torrent: this.#host.open_torrent_file(bytes), magnet };
  }

  /** Opens it if no other tab has it; else when that tab has ended. */
  async start() {
    // Without locks two tabs would write over each other.
    if (!navigator.locks) return;
    let taken = () => {};
    /** @type {Promise<void>} */
    const first = new Promise((resolve) => (taken = resolve));
    /** @param {Lock | null} lock */
    const own = async (lock) => {
      if (lock) {
        const done = new Promise((/** @type {(value?: unknown) => void} */ resolve) => (this.#release = resolve));
        try {
          await this.#attach();
        } catch (error) {
          this.#tell({ type: 'store', message: `Nothing is kept for later: ${sentence(error)}.` });
        }
        taken();
        await done;
        return;
      }
      taken();
      const hello = (/** @type {string} */ id) => this.#channel.postMessage({ hello: id });
      this.#guest = new Guest(this.#host, hello, this.#onkeep);
      void navigator.locks.request(LOCK, own);
    };
    void navigator.locks.request(LOCK, { ifAvailable: true }, own);
    await first;
  }

  async #attach() {
    this.#guest?.leave();
    this.#guest = null;
    const file = await openSlab();
    try {
      await this.#host.open_store(file, await this.#bytes());
    } catch (error) {
      file?.close();
      throw error;
    }
    this.#open = true;
    this.#timer = setInterval(() => void this.commit().then(() => this.#lender?.tellChanges()), COMMIT_MS);
    this.#lender = new Lender(this.#host, this.#tell);
    this.#channel.postMessage('owner');
    for (const { bytes, files } of this.#elsewhere.splice(0)) this.share(bytes, files);
    this.#onkeep();
    this.#tell({ type: 'torrents' });
  }

  /** Whether what comes is kept for the next session. */
  get keeps() {
    return this.#open || this.#guest?.keeps === true;
  }

  /** Whether it is this tab's. */
  get owns() {
    return this.#open;
  }

  /** A torrent's metadata is here. */
  tellNews() {
    this.#guest?.tellNews();
  }

  /** The user did something with a torrent. @param {number} torrent */
  changed(torrent) {
    void this.#guest?.keep(torrent);
  }

  /** The node wants something of the store that another tab has. */
  passOn() {
    this.#guest?.passOn();
  }

  /** Claims what was written before; one after another. */
  commit() {
    const next = async () => {
      if (this.#open) await this.#host.commit_store();
    };
    this.#claimed = this.#claimed.then(next, next);
    return this.#claimed;
  }

  /** How much may be kept: what the user allows, within what the browser promises. */
  async #bytes() {
    const { quota = 0 } = (await navigator.storage.estimate?.()) ?? {};
    const promised = Math.floor(quota * QUOTA_PART);
    return Math.min(this.#limit ?? DEFAULT_BYTES, promised || DEFAULT_BYTES);
  }

  /** @param {number} bytes */
  async setLimit(bytes) {
    this.#limit = bytes;
    if (this.#open) this.#host.set_store_limit(await this.#bytes());
    else if (navigator.locks) await this.#ask('limit', { bytes });
  }

  /** When it is told, what it tells of is claimed. */
  async status() {
    if (!this.#open && navigator.locks) {
      const told = await this.#ask('status').catch(() => null);
      if (told) return told;
    }
    const { used_bytes: before } = this.#host.store_status();
    await this.commit();
    const { used_bytes: now, limit_bytes, kept, error } = this.#host.store_status();
    // What was written while that was claimed is not.
    return { used_bytes: Math.min(before, now), quota_bytes: this.#open ? limit_bytes : 0, kept, error };
  }

  /**
   * Shares what was hashed: the files are read while this tab lives, and copied
   * for later where they fit.
   * @param {Uint8Array} bytes the `.torrent`
   * @param {File[]} files in the order of the torrent
   * @returns {{torrent: number, magnet: string}}
   */
  share(bytes, files) {
    const shared = this.#host.share(bytes);
    this.#files.set(shared.torrent, new Map(shared.files.map((/** @type {number} */ number, /** @type {number} */ place) => [number, files[place]])));
    void this.#copy(shared.torrent);
    return shared;
  }

  /** Reads what the node wants of files. */
  read() {
    for (const torrent of this.#host.file_reads()) {
      for (;;) {
        const place = this.#host.next_file_read(torrent);
        if (!place) break;
        void this.#readPiece(torrent, place);
      }
    }
  }

  /** @param {number} torrent @param {Float64Array} place */
  async #readPiece(torrent, place) {
    const bytes = await this.#slice(torrent, place);
    const good = this.#host.give_piece(torrent, place[0], bytes);
    if (!good) this.#lose(torrent);
    this.read();
  }

  /** @param {number} torrent @param {Float64Array} place @returns {Promise<Uint8Array | undefined>} */
  async #slice(torrent, [, file, start, length]) {
    try {
      const blob = this.#files.get(torrent)?.get(file)?.slice(start, start + length);
      return blob && new Uint8Array(await blob.arrayBuffer());
    } catch {
      // Moved, changed or deleted since.
      return undefined;
    }
  }

  /** @param {number} torrent */
  #lose(torrent) {
    if (!this.#files.delete(torrent)) return;
    this.#host.lose_files(torrent);
    this.#tell({ type: 'store', torrent, message: 'A file that is shared was changed or moved: what was not copied of it is no longer shared.' });
  }

  /** @param {number} torrent */
  async #copy(torrent) {
    if (this.#copying.has(torrent)) return;
    this.#copying.add(torrent);
    const { used_bytes, limit_bytes } = this.#host.store_status();
    const size = [...(this.#files.get(torrent)?.values() ?? [])].reduce((sum, file) => sum + file.size, 0);
    let from = 0;
    // All or nothing: half a copy would push out what others may want, and serve nobody for long.
    let fits = size + used_bytes <= limit_bytes || size <= limit_bytes / 2;
    while (fits && this.#files.has(torrent)) {
      const place = this.#host.next_to_copy(torrent, from);
      if (!place) break;
      const bytes = await this.#slice(torrent, place);
      if (!this.#files.has(torrent)) break;
      const said = bytes ? this.#host.copy_piece(torrent, place[0], bytes) : 'changed';
      if (said === 'changed') {
        this.#lose(torrent);
        break;
      }
      if (said === 'full') {
        // What makes room is free after the next commit; if nothing does, it stays with the files.
        fits = await this.#makesRoom();
        continue;
      }
      from = place[0] + 1;
      await pause(COPY_PAUSE_MS);
    }
    this.#copying.delete(torrent);
    if (!fits) this.#tell({ type: 'store', torrent, message: 'This share is larger than what may be kept: it stays only while this tab is open.' });
  }

  async #makesRoom() {
    const before = this.#host.store_status().used_bytes;
    await this.commit();
    await pause(COMMIT_MS);
    return this.#host.store_status().used_bytes < before;
  }

  /** @param {number} torrent @param {boolean} [forget] what is kept of it too */
  drop(torrent, forget = false) {
    this.#files.delete(torrent);
    this.#guest?.drop(torrent, forget);
  }

  /**
   * Deletes all that is kept, of every tab of this origin.
   * @param {boolean} [told] another tab asked for it
   */
  async forget(told = false) {
    if (!told) this.#channel.postMessage('forget');
    clearInterval(this.#timer);
    this.#files.clear();
    const owned = this.#open;
    this.#open = false;
    this.#lender?.close();
    this.#lender = null;
    // A transaction that is under way would keep the database from being deleted.
    await this.#claimed;
    if (owned) {
      await this.#host.forget_store();
      const folder = await navigator.storage.getDirectory?.().catch(() => null);
      await folder?.removeEntry(FILE).catch(() => {});
      await this.#attach().catch(() => {});
    } else {
      this.#elsewhere = [];
      this.#guest?.forget();
    }
    this.#tell({ type: 'forgotten' });
  }

  /** Lets go of it for another tab. */
  async close() {
    await this.commit();
    clearInterval(this.#timer);
    this.#lender?.close();
    this.#guest?.leave();
    this.#channel.close();
    this.#release?.();
  }
}

/**
 * The file for the bytes; nothing where the browser has no such files: then IndexedDB holds them.
 * @returns {Promise<any>}
 */
async function openSlab() {
  for (let tries = 1; ; tries += 1) {
    try {
      const folder = await navigator.storage.getDirectory();
      const handle = await folder.getFileHandle(FILE, { create: true });
      // @ts-ignore: only workers have it
      return await handle.createSyncAccessHandle();
    } catch (error) {
      // One that ended a moment ago may hold it still. To go on without it would lose all that is in it.
      const held = error instanceof DOMException && ['NoModificationAllowedError', 'InvalidStateError'].includes(error.name);
      if (!held) return undefined;
      if (tries >= OPEN_TRIES) throw error;
      await pause(OPEN_PAUSE_MS);
    }
  }
}

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {unknown} error */
function sentence(error) {
  return (error instanceof Error ? error.message : String(error)).replace(/\.$/, '');
}
