// @ts-check
/** Plays or shows one file. */
import { MAX_BLOB_BYTES } from '../chive.js';
import { mayPlay } from '../types.js';
import { make } from './dom.js';
import { plain, size } from './format.js';
import { language, t } from './text.js';

/** @typedef {import('../chive.js').TorrentFile} TorrentFile */

/** Text that is shown; more is for a program that is made for it. */
const MAX_TEXT_BYTES = 256 * 1024;
/** How often in a row a film is taken up again after its stream broke. */
const MAX_RETRIES = 3;
const RETRY_MS = 1_000;
/** How often the position is noted while a film runs. */
const NOTE_INTERVAL_MS = 1_000;

/**
 * @typedef {object} Hooks
 * @property {(text: string) => void} say what goes on
 * @property {(text: string, file: TorrentFile) => void} cannot show it; saving is to be offered
 * @property {(file: TorrentFile) => void} ended
 */

export class Viewer {
  /** @type {TorrentFile | null} */
  file = null;
  /** @type {HTMLMediaElement | null} */
  media = null;
  #turn = 0;
  /** @type {string | null} */
  #objectUrl = null;

  /**
   * @param {HTMLElement} stage
   * @param {Hooks} hooks
   */
  constructor(stage, hooks) {
    this.stage = stage;
    this.hooks = hooks;
  }

  clear() {
    this.#turn += 1;
    if (this.media) {
      this.media.removeAttribute('src');
      this.media.load();
    }
    this.media = null;
    this.file = null;
    this.stage.replaceChildren();
    if (this.#objectUrl) URL.revokeObjectURL(this.#objectUrl);
    this.#objectUrl = null;
  }

  /**
   * @param {TorrentFile} file
   * @param {string} infohash the position is kept under it
   */
  async show(file, infohash) {
    this.clear();
    const turn = this.#turn;
    this.file = file;
    this.stage.dataset.kind = file.kind;
    try {
      if (file.length === 0) this.hooks.say(t('errorEmptyFile'));
      else if (file.kind === 'video' || file.kind === 'audio') await this.#play(file, file.kind, infohash);
      else if (file.kind === 'image') await this.#picture(file);
      else if (file.kind === 'text') await this.#text(file);
      else this.hooks.cannot(t('errorOther'), file);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.hooks.cannot(t('errorRead', { message: error instanceof Error ? error.message : String(error) }), file);
    }
  }

  /** Whether what it showed broke off. */
  get isBroken() {
    return this.media !== null && this.media.error !== null;
  }

  /** Where the player is, as a part of one. */
  get position() {
    const { currentTime = 0, duration = 0 } = this.media ?? {};
    return duration > 0 && Number.isFinite(duration) ? currentTime / duration : null;
  }

  /**
   * @param {TorrentFile} file
   * @param {'video' | 'audio'} kind
   * @param {string} infohash
   */
  async #play(file, kind, infohash) {
    const media = make(kind, { id: 'player', controls: true, preload: 'auto', playsinline: true });
    media.setAttribute('aria-label', plain(file.name));
    if (!mayPlay(media, file.type)) {
      this.hooks.cannot(t('errorPlay', { type: file.type }), file);
      return;
    }
    const turn = this.#turn;
    const source = await this.#source(file);
    if (turn !== this.#turn) return;
    this.media = media;
    this.stage.replaceChildren(media);
    const key = `chive:${infohash}:${file.index}`;
    keepPosition(media, key);
    this.#sayWhatItDoes(media, file);
    this.#recover(media, file, source);
    media.src = at(source, Number(sessionStorage.getItem(key)));
    // Without a press of the user on this page the browser may refuse: then the
    // film stands at its position, with its controls.
    media.play().catch(({ name }) => {
      if (name === 'NotAllowedError' && turn === this.#turn) this.hooks.say(t('pressPlay'));
    });
  }

  /**
   * @param {HTMLMediaElement} media
   * @param {TorrentFile} file
   */
  #sayWhatItDoes(media, file) {
    media.addEventListener('playing', () => this.hooks.say(t('playing')));
    media.addEventListener('waiting', () => this.hooks.say(t('waiting')));
    media.addEventListener('pause', () => !media.ended && this.hooks.say(t('paused')));
    media.addEventListener('ended', () => this.hooks.ended(file));
    media.addEventListener('loadeddata', () => {
      if (media instanceof HTMLVideoElement && media.videoWidth === 0) this.hooks.cannot(t('errorPicture'), file);
    });
  }

  /**
   * A broken stream is taken up again where it broke; a format that the browser
   * does not know is said to be that.
   * @param {HTMLMediaElement} media
   * @param {TorrentFile} file
   * @param {string} source
   */
  #recover(media, file, source) {
    let retries = 0;
    let reached = 0;
    media.addEventListener('timeupdate', () => {
      if (media.currentTime > reached) retries = 0;
      reached = media.currentTime;
    });
    media.addEventListener('error', async () => {
      const turn = this.#turn;
      const code = media.error?.code;
      let broken = code === MediaError.MEDIA_ERR_NETWORK ? t('broken') : '';
      if (code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED) {
        // The browser says the same of a file that it could not fetch.
        await readSome(file, 1).catch((error) => (broken = error.message));
      }
      if (broken && retries < MAX_RETRIES) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      if (turn !== this.#turn) return;
      if (!broken) {
        this.hooks.cannot(t('errorPlay', { type: file.type }), file);
      } else if (retries >= MAX_RETRIES) {
        this.hooks.cannot(t('errorRead', { message: broken }), file);
      } else {
        retries += 1;
        media.src = at(source, reached);
        media.play().catch(() => {});
      }
    });
  }

  /** @param {TorrentFile} file */
  async #picture(file) {
    const turn = this.#turn;
    const source = await this.#source(file);
    if (turn !== this.#turn) return;
    const image = make('img', { alt: plain(file.name) });
    image.addEventListener('load', () => this.hooks.say(t('showing')));
    image.addEventListener('error', () => this.hooks.cannot(t('errorImage'), file));
    image.src = source;
    this.stage.replaceChildren(image);
  }

  /** @param {TorrentFile} file */
  async #text(file) {
    const turn = this.#turn;
    const bytes = await readSome(file, Math.min(file.length, MAX_TEXT_BYTES));
    if (turn !== this.#turn) return;
    this.stage.replaceChildren(make('pre', { dir: 'auto', tabindex: '0' }, decode(bytes)));
    const whole = size(file.length, language);
    const cut = file.length > bytes.length;
    this.hooks.say(cut ? t('textCut', { size: size(bytes.length, language), whole }) : t('showing'));
  }

  /** @param {TorrentFile} file */
  async #source(file) {
    if (file.url !== null) return file.url;
    if (file.length > MAX_BLOB_BYTES) throw new Error(t('errorTooLargeHere', { size: size(file.length, language) }));
    this.hooks.say(t('fetchingWhole'));
    const turn = this.#turn;
    const url = URL.createObjectURL(await file.blob());
    if (turn === this.#turn) this.#objectUrl = url;
    else URL.revokeObjectURL(url);
    return url;
  }
}

/**
 * An address that plays from a moment on: told so at once, the browser does not
 * fetch the beginning first.
 * @param {string} source
 * @param {number} moment in seconds
 */
function at(source, moment) {
  return moment > 0 ? `${source}#t=${moment}` : source;
}

/**
 * A reload goes on where the film was. Kept for this tab only, and gone with it.
 * @param {HTMLMediaElement} media
 * @param {string} key
 */
function keepPosition(media, key) {
  let noted = 0;
  const note = () => {
    if (media.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) sessionStorage.setItem(key, String(media.currentTime));
  };
  media.addEventListener('timeupdate', () => {
    if (Math.abs(performance.now() - noted) < NOTE_INTERVAL_MS) return;
    noted = performance.now();
    note();
  });
  media.addEventListener('seeked', note);
  media.addEventListener('pause', note);
  media.addEventListener('ended', () => sessionStorage.removeItem(key));
}

/**
 * @param {TorrentFile} file
 * @param {number} length
 */
async function readSome(file, length) {
  const bytes = new Uint8Array(length);
  let filled = 0;
  const reader = file.stream({ end: length }).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes.set(part.value, filled);
    filled += part.value.length;
  }
  return bytes;
}

/**
 * UTF-8 as nearly all text is; else what its mark says; else one that maps every byte.
 * @param {Uint8Array} bytes
 */
function decode(bytes) {
  const mark = bytes[0] === 0xff && bytes[1] === 0xfe ? 'utf-16le' : bytes[0] === 0xfe && bytes[1] === 0xff ? 'utf-16be' : 'utf-8';
  try {
    // As a stream: the last character may have been cut in two.
    return new TextDecoder(mark, { fatal: true }).decode(bytes, { stream: true });
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}
