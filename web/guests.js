// @ts-check
/// <reference lib="webworker" />
/**
 * One tab of an origin owns the store, and the others, its guests, use it
 * through that one: each over a `BroadcastChannel` of its own, so that what is
 * written passes nobody else.
 *
 * A guest says hello on the channel that all share. On its own: `{keep: torrent}`,
 * answered by `{name, have}`; `{write: name, chunk, bytes}` by `{kept}`;
 * `{read: name, chunk}` by `{bytes}`; each with an `id`, which its answer has too;
 * `{forget: name}`. The owner says `welcome`, and `{changes: [{name, gone, have}]}`.
 */

/** A guest holds the lock of this name and its id while it lives, and speaks on the channel of it. */
const GUEST = 'chive-store-guest-';
/** What the owner does not answer so soon it does not have: it may have ended in the middle. */
const ANSWER_MS = 10_000;
/** Further tabs than these keep nothing: each may have some MiB under way. */
const MAX_GUESTS = 32;

/** @param {string} id */
const channelOf = (id) => new BroadcastChannel(GUEST + id);

/** What the tab that has the store does for the others. */
export class Lender {
  #host;
  #tell;
  /** Each guest's channel, and which torrents it has open. @type {Map<string, {channel: BroadcastChannel, names: Set<string>}>} */
  #guests = new Map();

  /**
   * @param {any} host the node
   * @param {(event: object) => void} tell tells the page
   */
  constructor(host, tell) {
    this.#host = host;
    this.#tell = tell;
  }

  /** @param {string} id of a guest */
  welcome(id) {
    if (this.#guests.has(id) || this.#guests.size >= MAX_GUESTS) return;
    const channel = channelOf(id);
    const guest = { channel, names: new Set() };
    this.#guests.set(id, guest);
    channel.onmessage = ({ data }) => void this.#answer(guest, data);
    channel.postMessage('welcome');
    // It is given to us when the guest ends.
    void navigator.locks.request(GUEST + id, () => this.#goodbye(id));
  }

  /** Tells guests what is stored that they do not know, and what is not any more. */
  tellChanges() {
    if (this.#guests.size === 0) return;
    const changes = this.#host.lending_changes();
    if (changes.length === 0) return;
    for (const { channel } of this.#guests.values()) channel.postMessage({ changes });
  }

  close() {
    for (const { channel } of this.#guests.values()) channel.close();
    this.#guests.clear();
  }

  /** @param {string} id */
  #goodbye(id) {
    const guest = this.#guests.get(id);
    this.#guests.delete(id);
    guest?.channel.close();
    for (const name of guest?.names ?? []) this.#end(name);
  }

  /** @param {string} name */
  #end(name) {
    if (![...this.#guests.values()].some(({ names }) => names.has(name))) this.#host.end_lending(name);
  }

  /** @param {{channel: BroadcastChannel, names: Set<string>}} guest @param {any} data */
  async #answer({ channel, names }, data) {
    const { id, chunk } = data;
    if (data.keep) {
      const { magnet, name, info, layers, wanted, paused } = data.keep;
      try {
        const have = this.#host.lend(magnet, info, layers, wanted, paused);
        names.add(name);
        channel.postMessage({ id, name, have });
      } catch {
        channel.postMessage({ id });
      }
    } else if (data.write) {
      channel.postMessage({ id, kept: this.#host.write_lent(data.write, chunk, data.bytes) });
    } else if (data.read) {
      channel.postMessage({ id, bytes: await this.#host.read_lent(data.read, chunk) });
    } else if (data.close || data.forget) {
      const name = data.close ?? data.forget;
      names.delete(name);
      this.#end(name);
      const torrent = data.forget && this.#host.forget_lent(name);
      if (torrent !== undefined) this.#tell({ type: 'removed', torrent });
    }
  }
}

/** A tab that uses the store of another. */
export class Guest {
  #host;
  #id = crypto.randomUUID();
  #channel = channelOf(this.#id);
  #hello;
  #onwelcome;
  #welcome = false;
  #next = 0;
  /** Lets its lock go. */
  #release = () => {};
  /** What the owner knows of it. @type {Map<number, string>} torrents to their names */
  #names = new Map();
  /** Who waits for the owner. Bounded by what the node has under way. @type {Map<number, (answer: any) => void>} */
  #asked = new Map();

  /**
   * @param {any} host the node
   * @param {(id: string) => void} hello tells the owner of this tab
   * @param {() => void} onwelcome there is an owner that keeps what comes
   */
  constructor(host, hello, onwelcome) {
    this.#host = host;
    this.#hello = hello;
    this.#onwelcome = onwelcome;
    this.#channel.onmessage = ({ data }) => {
      if (data === 'welcome') this.#enter();
      else if (data.changes) this.#take(data.changes);
      else this.#answered(data.id, data);
    };
    void navigator.locks.request(GUEST + this.#id, () => {
      this.#hello(this.#id);
      return new Promise((/** @type {(value?: unknown) => void} */ resolve) => (this.#release = () => resolve()));
    });
  }

  /** Whether somebody keeps what comes. */
  get keeps() {
    return this.#welcome;
  }

  /** There is another owner, which knows nothing of this tab. */
  greet() {
    this.#part();
    this.#hello(this.#id);
  }

  /** It is this tab's turn to own the store. */
  leave() {
    this.#part();
    this.#channel.close();
    this.#release();
  }

  /** Tells the owner what it does not know of the torrents here. */
  tellNews() {
    if (!this.#welcome) return;
    for (const torrent of this.#host.guest_news()) void this.keep(torrent);
  }

  /** Tells the owner of a torrent, or what was done with it. @param {number} torrent */
  async keep(torrent) {
    const keep = this.#welcome && this.#host.guest_torrent(torrent);
    if (!keep) return;
    // What is written at once comes after it.
    this.#names.set(torrent, keep.name);
    const { have } = await this.#ask({ keep });
    if (have) this.#host.guest_have(torrent, new Uint32Array(), have);
  }

  /** Hands the owner what the node wants of it. */
  passOn() {
    // Piece layers come later than metadata.
    this.tellNews();
    for (;;) {
      const want = this.#host.next_guest_want();
      if (!want) return;
      void this.#pass(want);
    }
  }

  /** @param {number} torrent @param {boolean} forget */
  drop(torrent, forget) {
    const name = this.#names.get(torrent);
    this.#names.delete(torrent);
    if (name) this.#channel.postMessage(forget ? { forget: name } : { close: name });
  }

  /** @param {{torrent: number, chunk: number, bytes?: Uint8Array}} want */
  async #pass({ torrent, chunk, bytes }) {
    const name = this.#names.get(torrent);
    if (bytes) {
      const { kept = false } = name ? await this.#ask({ write: name, chunk, bytes }) : {};
      this.#host.guest_written(torrent, chunk, kept);
    } else {
      const { bytes: read } = name ? await this.#ask({ read: name, chunk }) : {};
      this.#host.guest_read(torrent, chunk, read);
    }
  }

  /** @param {object} question @returns {Promise<any>} nothing is in it where the owner says nothing */
  #ask(question) {
    const id = this.#next++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#answered(id, {}), ANSWER_MS);
      this.#asked.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.#channel.postMessage({ ...question, id });
    });
  }

  /** @param {number} id @param {any} answer */
  #answered(id, answer) {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    asked?.(answer);
  }

  /** @param {{name: string, gone: Uint32Array, have: Uint32Array}[]} changes */
  #take(changes) {
    for (const { name, gone, have } of changes) {
      for (const [torrent, known] of this.#names) {
        if (known === name) this.#host.guest_have(torrent, gone, have);
      }
    }
  }

  /** The owner forgets all; it will say when it keeps something again. */
  forget() {
    this.#part();
    this.#host.forget_guest();
  }

  #enter() {
    if (this.#welcome) return;
    this.#welcome = true;
    this.#host.enter_store();
    this.#onwelcome();
    this.tellNews();
  }

  #part() {
    if (!this.#welcome) return;
    this.#welcome = false;
    this.#names.clear();
    this.#host.leave_store();
    for (const id of [...this.#asked.keys()]) this.#answered(id, {});
  }
}
