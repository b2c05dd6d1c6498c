// @ts-check
/** From files that were dropped or chosen to a torrent that others can open. */
import { collected as collect, droppedEntries, fromEntries, fromHandle, fromInput } from './collect.js';
import { byId } from './dom.js';
import { ShareSheet, whyNotShared } from './share.js';
import { t } from './text.js';

/** @typedef {import('./collect.js').Collected} Collected */
/**
 * @typedef {object} Hooks
 * @property {() => Promise<any>} node the running node
 * @property {(name: string, cancel: () => void) => {progress: (progress: any) => void, end: () => void}} job shows what is hashed
 * @property {(torrent: any) => void} shared
 * @property {(text: string) => void} say
 * @property {(text: string) => void} fail
 */

export class Sharing {
  /** Whether this node can share at all. */
  available = false;

  /** @param {Hooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    this.folderInput = /** @type {HTMLInputElement} */ (byId('folder-to-share'));
    this.filesInput = /** @type {HTMLInputElement} */ (byId('files-to-share'));
    for (const input of [this.folderInput, this.filesInput]) {
      input.addEventListener('change', () => {
        const files = Array.from(input.files ?? []);
        input.value = '';
        if (files.length > 0) void this.#offer(async () => fromInput(files));
      });
    }
    byId('share-files').addEventListener('click', () => this.filesInput.click());
    byId('share-folder').addEventListener('click', () => void this.#chooseFolder());
  }

  /** Shows its controls, where the node and the browser can. */
  offer() {
    this.available = true;
    byId('dropzone').textContent = t('dropToShare');
    byId('share-files').hidden = byId('share-lead').hidden = false;
    // Most phones have no folders to choose.
    byId('share-folder').hidden = !('showDirectoryPicker' in globalThis) && !('webkitdirectory' in this.folderInput);
  }

  async #chooseFolder() {
    const picker = /** @type {any} */ (globalThis).showDirectoryPicker;
    if (typeof picker !== 'function') {
      this.folderInput.click();
      return;
    }
    let handle;
    try {
      handle = await picker.call(globalThis, { mode: 'read' });
    } catch (error) {
      // Put away by the user, or not for this page: then there is the older way.
      if (/** @type {any} */ (error)?.name !== 'AbortError') this.folderInput.click();
      return;
    }
    await this.#offer(() => fromHandle(handle));
  }

  /**
   * What was dropped. To be called within the event, for the browser takes it back after.
   * @param {DataTransfer} transfer
   */
  drop(transfer) {
    const entries = droppedEntries(transfer);
    const files = Array.from(transfer.files);
    void this.#offer(async () => (entries.length > 0 ? fromEntries(entries) : collect(files.map((file) => ({ path: [file.name], file })))));
  }

  /** @param {() => Promise<Collected>} gather */
  async #offer(gather) {
    try {
      const found = await gather();
      if (found.items.length === 0) {
        this.hooks.fail(t('shareNothing'));
        return;
      }
      new ShareSheet(found, (items, name) => void this.#share(items, name));
    } catch (error) {
      this.hooks.fail(whyNotShared(error));
    }
  }

  /**
   * @param {import('./collect.js').Item[]} items
   * @param {string} name
   */
  async #share(items, name) {
    const own = new AbortController();
    const job = this.hooks.job(name, () => own.abort());
    try {
      const node = await this.hooks.node();
      const files = items.map(({ path, file }) => ({ path: path.join('/'), file }));
      const torrent = await node.share(files, { name, signal: own.signal, onprogress: job.progress });
      job.end();
      this.hooks.say(t('hashingDone', { name }));
      this.hooks.shared(torrent);
    } catch (error) {
      job.end();
      if (own.signal.aborted) this.hooks.say(t('hashingCancelled'));
      else this.hooks.fail(whyNotShared(error));
    }
  }
}
