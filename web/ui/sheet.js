// @ts-check
/** A sheet over the page: what needs an answer, or is looked at and put away. */
import { button, make } from './dom.js';
import { t } from './text.js';

let count = 0;

export class Sheet {
  /**
   * @param {string} title
   * @param {() => void} [closed]
   */
  constructor(title, closed = () => {}) {
    count += 1;
    const id = `sheet-${count}`;
    const close = button('×', () => this.close(), 'close');
    close.setAttribute('aria-label', t('close'));
    this.body = make('div', { class: 'sheet-body' });
    this.dialog = make(
      'dialog',
      { class: 'sheet', 'aria-labelledby': id },
      make('header', {}, make('h2', { id, tabindex: '-1', autofocus: true }, title), close),
      this.body,
    );
    this.dialog.addEventListener('close', () => {
      this.dialog.remove();
      closed();
    });
    // A press beside the sheet puts it away; one that began inside does not.
    let outside = false;
    this.dialog.addEventListener('pointerdown', ({ target }) => (outside = target === this.dialog));
    this.dialog.addEventListener('click', ({ target }) => {
      if (outside && target === this.dialog) this.close();
    });
  }

  /** @param {...(Node | string | null)} children */
  open(...children) {
    this.body.append(...children.filter((child) => child !== null));
    document.body.append(this.dialog);
    this.dialog.showModal();
    return this;
  }

  close() {
    this.dialog.close();
  }
}

/**
 * The row of buttons at a sheet's foot.
 * @param {...(Node | null)} buttons
 */
export function foot(...buttons) {
  return make('div', { class: 'actions foot' }, ...buttons);
}
