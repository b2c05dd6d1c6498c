// @ts-check
/** Asking before a torrent leaves the list. */
import { nameOf } from './cards.js';
import { button, make } from './dom.js';
import { foot, Sheet } from './sheet.js';
import { t } from './text.js';

/**
 * @param {any} torrent
 * @param {boolean} shared whether it is the user's own
 * @param {(forget: boolean) => void} remove
 */
export function askToRemove(torrent, shared, remove) {
  const sheet = new Sheet(t('removeTitle'));
  const act = (/** @type {boolean} */ forget) => () => {
    sheet.close();
    remove(forget);
  };
  const no = button(t('keepIt'), () => sheet.close());
  const says = [
    make('p', {}, t('removeSays', { name: nameOf(torrent) })),
    shared ? make('p', {}, t('removeShared')) : null,
  ];
  if (typeof torrent.remove === 'function') {
    sheet.open(
      ...says,
      make('p', { class: 'caption' }, t('removeKeepSays')),
      foot(button(t('removeKeep'), act(false)), button(t('removeForget'), act(true), 'quiet danger'), no),
    );
  } else {
    // A node without a store keeps nothing of what it closes.
    sheet.open(...says, foot(button(t('removeForget'), act(true), 'quiet danger'), no));
  }
  no.focus();
}
