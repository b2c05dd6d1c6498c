// @ts-check
/**
 * Every word that the page says, by language. A language is one more entry in
 * LANGUAGES with the same keys; `{name}` is put in by {@link t}.
 */

const en = {
  // The frame
  pitch: 'Films arrive through three onion routers.',
  lead: 'Paste a magnet link. The torrent comes to this tab by a route on which no one router knows both you and what you watch, and every chunk is verified before it plays. Nothing to install.',
  label: 'Magnet link or infohash',
  hint: 'magnet:?xt=urn:btih:…',
  open: 'Open',
  choose: 'Choose a .torrent file',
  sample: 'Try a sample',
  drop: 'Drop the .torrent file to open it',
  home: 'Chive, start page',

  // The bridge
  bridgeStarting: 'Starting',
  bridgeConnecting: 'Connecting',
  bridgeConnected: 'Connected',
  bridgeFailed: 'Reconnecting',

  // What goes on
  starting: 'Starting the onion router in this tab…',
  connecting: 'Connecting to the bridge…',
  building: 'Connected. Routes are being built…',
  noRouters: 'Connected. Waiting for routers to build a route of…',
  ready: 'Ready. Routes standing by: {count}.',
  finding: 'Looking for its list of files…',
  findingFor: '{seconds} s; given up after about {limit} s.',
  opened: 'Opened. Choose a file.',
  playing: 'Playing.',
  waiting: 'Waiting for verified bytes at this position…',
  pressPlay: 'Ready: press play.',
  paused: 'Paused. Fetching goes on.',
  showing: 'Here it is.',
  fetchingWhole: 'Fetching the whole file first…',
  cancel: 'Cancel',
  retry: 'Try again',
  reload: 'Reload the page',
  dismiss: 'Dismiss',

  // The torrent
  files: 'Files',
  moreFiles: 'Show {count} more',
  save: 'Save',
  saveName: 'Save {name}',
  verified: 'Verified',
  verifiedOf: '{part} of {whole}',
  rate: 'Rate',
  perSecond: '{size}/s',
  sources: 'Sources',
  barLabel: 'Verified parts of this file: {percent}',
  textCut: 'Only the beginning is shown: {size} of {whole}. Save the file to read all of it.',
  fallback: 'This page is not served securely (https), or the browser forbids service workers here, so a file is fetched whole before it is shown.',
  dropped: 'A router sent wrong bytes and was dropped ({router}). What it sent was thrown away; the others go on.',

  // The route
  route: 'Your route',
  routeCaption: 'The first router sees you, not the torrent; the last sees the torrent, not you.',
  you: 'You',
  bridge: 'Bridge',
  middle: 'Middle',
  ordb: 'Last',
  swarm: 'Swarm',
  fingerprint: 'Fingerprint {fingerprint}',

  // What is hidden
  hiddenTitle: 'What is hidden, and from whom',
  hiddenBridgeTerm: 'The bridge',
  hiddenBridge: 'sees your address and that you use Chive; not what you open.',
  hiddenMiddleTerm: 'The middle router',
  hiddenMiddle: 'sees two routers, and nothing else.',
  hiddenLastTerm: 'The last router',
  hiddenLast: 'sees which torrent is asked for; not who asks.',
  hiddenSwarmTerm: 'The swarm',
  hiddenSwarm: 'sees the last router; not that you exist.',
  hiddenNot: 'What this cannot hide: someone who watches both ends of the route at once, or runs most of the routers, can work out who fetches what. Your browser keeps the link in its history, and what you save is on your disk.',

  // What went wrong, and what to do
  errorEmpty: 'Paste a magnet link or an infohash first, or choose a .torrent file.',
  errorNotTorrent: '“{name}” is not a .torrent file. Choose one that ends in .torrent, or paste its magnet link.',
  errorTorrentFile: '“{name}” cannot be opened: {message}',
  errorBridge: 'No connection: {message} Chive keeps trying and goes on by itself; if it lasts, open Chive from another bridge.',
  adviceNotFound: 'It may be that nobody shares it any longer. Check the link, or try again later.',
  adviceGone: 'What is verified already still plays. Try again later, when someone shares it again.',
  adviceTooLarge: 'Open a smaller torrent, or start Chive with a higher limit.',
  adviceUnavailable: 'Try again in a few minutes.',
  errorPlay: 'This browser cannot play this format ({type}). Save the file and open it with another player.',
  errorPicture: 'The sound plays, but this browser cannot decode the picture. Save the file and open it with another player.',
  errorImage: 'This browser cannot show this picture. Save it and open it with another program.',
  errorOther: 'Chive does not show this kind of file. It can be saved.',
  errorEmptyFile: 'This file is empty.',
  broken: 'the stream broke off.',
  errorRead: 'Reading the file failed: {message}',
  errorTooLargeHere: 'Without a service worker a file of {size} cannot be held in this tab. Open Chive from an https address.',
};

/** @typedef {keyof typeof en} Key */

/** @type {Record<string, {dir: 'ltr' | 'rtl', strings: Record<Key, string>}>} */
const LANGUAGES = {
  en: { dir: 'ltr', strings: en },
};

/** The first of the reader's languages that the page has. */
export const language =
  navigator.languages.map((tag) => tag.split('-')[0]).find((tag) => Object.hasOwn(LANGUAGES, tag)) ?? 'en';

const { dir, strings } = LANGUAGES[language];

/**
 * @param {Key} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  return strings[key].replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name] ?? '';
    const text = typeof value === 'number' ? new Intl.NumberFormat(language).format(value) : value;
    // What is put in keeps its own direction and turns nothing round it.
    return dir === 'rtl' ? `\u2068${text}\u2069` : text;
  });
}

/** Fills in the page: elements say by `data-t` which words they hold. */
export function fillPage() {
  document.documentElement.lang = language;
  document.documentElement.dir = dir;
  for (const element of document.querySelectorAll('[data-t]')) {
    element.textContent = t(/** @type {Key} */ (element.getAttribute('data-t')));
  }
  for (const attribute of ['aria-label', 'placeholder']) {
    for (const element of document.querySelectorAll(`[data-t-${attribute}]`)) {
      element.setAttribute(attribute, t(/** @type {Key} */ (element.getAttribute(`data-t-${attribute}`))));
    }
  }
}
