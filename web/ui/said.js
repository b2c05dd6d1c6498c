// @ts-check
/** What the page says: how things stand, what went wrong, what is good to know. */
import { button, byId, make, words } from './dom.js';
import { t } from './text.js';

export class Said {
  #status = byId('status');
  #error = byId('error');
  #notice = byId('notice');
  #pinned = false;
  /** Whose error is shown, if it goes by itself once they are back. @type {'bridge' | 'torrent' | null} */
  passing = null;

  /** How things stand. @param {string} text */
  say(text) {
    words(this.#status, text);
  }

  /**
   * @param {string} text
   * @param {...Node} actions
   */
  fail(text, ...actions) {
    this.passing = null;
    this.#error.replaceChildren(make('p', { dir: 'auto' }, text));
    if (actions.length > 0) this.#error.append(make('div', { class: 'actions' }, ...actions));
    this.#error.hidden = false;
  }

  /** Whether an error is shown. */
  get failed() {
    return !this.#error.hidden;
  }

  clearError() {
    this.passing = null;
    this.#error.hidden = true;
    this.#error.replaceChildren();
  }

  /**
   * Something that the user should know and need not act on.
   * @param {string} text each line a paragraph
   * @param {...Node} actions
   */
  note(text, ...actions) {
    const close = button(t('dismiss'), () => (this.#notice.hidden = true));
    this.#pinned = false;
    const paragraphs = text.split('\n').map((line) => make('p', { dir: 'auto' }, line));
    this.#notice.replaceChildren(...paragraphs, make('div', { class: 'actions' }, ...actions, close));
    this.#notice.hidden = false;
  }

  /**
   * The same, and it stays until it is put away by hand.
   * @param {string} text
   * @param {...Node} actions
   */
  pin(text, ...actions) {
    this.note(text, ...actions);
    this.#pinned = true;
  }

  clearNotice() {
    if (!this.#pinned) this.#notice.hidden = true;
  }
}

/** @param {string} text */
export function endSentence(text) {
  return text === '' || /[.!?。]$/.test(text) ? text : `${text}.`;
}
