// @ts-check
/** Limits, storage, and forgetting it all. */
import { button, make, words } from './dom.js';
import { size } from './format.js';
import { forNode, forgetPage, loadLimits, readLimit, saveLimits } from './limits.js';
import { foot, Sheet } from './sheet.js';
import { language, t } from './text.js';

/** @typedef {import('./text.js').Key} Key */
/** @typedef {import('./limits.js').Limits} Limits */

/** How often storage is asked for while it is looked at. */
const STORE_INTERVAL_MS = 2_000;

/** @type {{name: 'up' | 'down' | 'carry_rate' | 'store', label: Key, unit: Key}[]} */
const FIELDS = [
  { name: 'up', label: 'limitUp', unit: 'unitRate' },
  { name: 'down', label: 'limitDown', unit: 'unitRate' },
  { name: 'carry_rate', label: 'limitCarry', unit: 'unitRate' },
  { name: 'store', label: 'limitStore', unit: 'unitStore' },
];

export class Settings {
  /** @type {any} */
  #chive = null;
  #limits = loadLimits();
  #asked = -Infinity;
  #told = make('p', { class: 'told', role: 'status' });
  #meter = make('progress', { max: '1', value: '0' });
  #stored = make('p', { class: 'caption' });
  /** What the store last said, for who asks whether to forget it. */
  #used = 0;

  /**
   * @param {HTMLDetailsElement} element
   * @param {{torrents: () => number, forgotten: () => void}} hooks
   */
  constructor(element, hooks) {
    this.element = element;
    this.hooks = hooks;
  }

  /** Shows what this node can do. @param {any} chive */
  attach(chive) {
    this.#chive = chive;
    const limits = typeof chive.setLimits === 'function';
    const store = typeof chive.store === 'function';
    const forget = typeof chive.forgetEverything === 'function';
    this.element.hidden = !limits && !store && !forget;
    const body = make('div', { class: 'settings' });
    if (limits) body.append(...this.#limitFields(), this.#told);
    if (store) body.append(this.#meter, this.#stored);
    if (forget) body.append(make('div', { class: 'actions' }, button(t('forget'), () => this.#askToForget(), 'quiet danger')));
    this.element.append(body);
    // What was chosen before holds from the start on.
    if (limits) void this.#apply();
  }

  /** @param {number} now */
  async update(now) {
    if (!this.element.open || typeof this.#chive?.store !== 'function' || now - this.#asked < STORE_INTERVAL_MS) return;
    this.#asked = now;
    await this.#askStore();
  }

  async #askStore() {
    const stored = await Promise.resolve(this.#chive.store()).catch(() => null);
    this.#meter.hidden = this.#stored.hidden = stored === null;
    if (stored === null) return;
    const { used_bytes: used, quota_bytes: quota, kept, error } = stored;
    this.#used = used;
    this.#meter.hidden = !(quota > 0) || kept === 'memory';
    this.#meter.value = quota > 0 ? Math.min(1, used / quota) : 0;
    const says = t('stored', { used: size(used, language), quota: size(quota ?? 0, language) });
    words(this.#stored, `${kept === 'memory' ? t('storedMemory') : says}${error ? ` ${error}` : ''}`);
    this.#meter.setAttribute('aria-label', says);
  }

  #limitFields() {
    const carry = make('input', { type: 'checkbox', role: 'switch', checked: this.#limits.carry });
    carry.addEventListener('change', () => {
      this.#limits.carry = carry.checked;
      void this.#apply(true);
    });
    const fields = FIELDS.map(({ name, label, unit }) => {
      const value = this.#limits[name];
      const field = make('input', {
        type: 'text',
        inputmode: 'decimal',
        maxlength: '9',
        dir: 'ltr',
        autocomplete: 'off',
        placeholder: t('limitNone'),
        value: value === null ? '' : String(value),
      });
      field.addEventListener('change', () => {
        const limit = readLimit(field.value);
        field.setAttribute('aria-invalid', String(limit === undefined));
        if (limit === undefined) {
          words(this.#told, t('limitWrong'));
          return;
        }
        this.#limits[name] = limit;
        void this.#apply(true);
      });
      return make('label', { class: 'row-field' }, make('span', {}, t(label)), make('span', { class: 'with-unit' }, field, make('span', {}, t(unit))));
    });
    return [
      make('label', { class: 'tick' }, carry, make('span', {}, t('carry'))),
      make('p', { class: 'caption' }, t('carrySays')),
      make('div', { class: 'limit-fields' }, ...fields),
    ];
  }

  /** @param {boolean} [keep] */
  async #apply(keep = false) {
    if (keep) saveLimits(this.#limits);
    try {
      await this.#chive.setLimits(forNode(this.#limits));
      words(this.#told, '');
    } catch (error) {
      words(this.#told, t('limitRefused', { message: error instanceof Error ? error.message : String(error) }));
    }
  }

  async #askToForget() {
    if (typeof this.#chive.store === 'function') await this.#askStore();
    const sheet = new Sheet(t('forgetTitle'));
    const told = make('p', { class: 'told', role: 'alert' });
    const no = button(t('cancelIt'), () => sheet.close());
    const yes = button(
      t('forgetDo'),
      async () => {
        yes.disabled = true;
        try {
          await this.#chive.forgetEverything();
          forgetPage();
          sheet.close();
          this.hooks.forgotten();
        } catch (error) {
          yes.disabled = false;
          told.textContent = t('forgetFailed', { message: error instanceof Error ? error.message : String(error) });
        }
      },
      'main danger',
    );
    sheet.open(
      make('p', {}, t('forgetSays')),
      make(
        'ul',
        { class: 'plain' },
        make('li', {}, t('forgetTorrents', { count: this.hooks.torrents(), size: size(this.#used, language) })),
        make('li', {}, t('forgetNode')),
        make('li', {}, t('forgetPage')),
      ),
      make('p', { class: 'caption' }, t('forgetNot')),
      told,
      foot(yes, no),
    );
    no.focus();
  }
}
