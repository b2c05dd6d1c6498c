// @ts-check
/**
 * Every word that the page says, by language. A language is one more entry in
 * LANGUAGES with the same keys; `{name}` is put in by {@link t}.
 */

const en = {
  // The frame
  pitch: 'Films arrive through three onion routers.',
  lead: 'Paste a magnet link. The torrent comes to this tab by a route on which no one router knows both you and what you watch, and every chunk is verified before it plays. Nothing to install.',
  shareLead: 'Or drop files here: they become a torrent that others fetch from you by such a route, and from each other once you are gone.',
  label: 'Magnet link or infohash',
  hint: 'magnet:?xt=urn:btih:…',
  open: 'Open',
  choose: 'Choose a .torrent file',
  sample: 'Try a sample',
  drop: 'Drop the .torrent file to open it',
  dropToShare: 'Drop files or a folder to share them, or a .torrent file to open it',
  shareFiles: 'Share files',
  shareFolder: 'Share a folder',
  invite: 'Invite somebody',
  back: 'All torrents',
  close: 'Close',
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

  size: 'Size',
  down: 'Down',
  up: 'Up',
  sent: 'Sent',
  pause: 'Pause',
  pauseName: 'Pause {name}',
  resume: 'Resume',
  resumeName: 'Resume {name}',
  handOn: 'Link',
  handOnName: 'Link and QR code of {name}',
  remove: 'Remove',
  removeName: 'Remove {name}',
  play: 'Open',

  // The list
  torrents: 'Your torrents',
  stateFinding: 'Looking for it',
  stateHashing: 'Being made ready',
  stateDownloading: 'Downloading',
  stateOpen: 'Open',
  statePaused: 'Paused',
  stateSharing: 'Sharing',
  stateComplete: 'Complete',
  stateFailed: 'Waiting',
  noRoom: 'There is no room to keep more of it: remove something from the list, or allow more under Limits and storage. It goes on by itself once there is room.',
  stripLabel: 'Verified parts of this torrent: {percent}',
  availability: 'Others who have at least',
  availabilityNone: 'Nobody else has told yet that they have it.',
  hashed: '{part} of {whole} hashed',
  hashingCancelled: 'Sharing was cancelled. Nothing was published.',
  hashingDone: '{name} is being shared.',

  // Removing
  removeTitle: 'Remove this torrent?',
  removeSays: '“{name}” leaves the list and is no longer served to others from here.',
  removeShared: 'You share it: if nobody else has all of it yet, those who fetch it cannot finish.',
  removeKeep: 'Close, keep the bytes',
  removeKeepSays: 'Closed, it stops now; its bytes stay on this device, and it is back in the list when Chive is opened anew. Forgotten, it is gone from here.',
  removeForget: 'Remove and forget the bytes',
  keepIt: 'Do not remove',

  // Sharing
  shareTitle: 'Share this?',
  shareSays: 'These names and what is in the files can be read by everybody who has the link, and cannot be called back. Where they lie on your device is not told.',
  shareName: 'Name of the torrent',
  shareCount: '{count} files, {size}',
  shareOne: 'One file, {size}',
  shareLeftOut: 'Left out, since they are your system’s: {names}',
  shareMore: 'and {count} more',
  shareTooMany: 'There are more than {count} files. Share them in parts.',
  shareNothing: 'There is no file in what you chose.',
  shareEmpty: 'All of these files are empty: there is nothing to share.',
  shareUnread: '“{name}” cannot be read: {message}',
  shareLeave: 'Leave out {name}',
  shareStart: 'Share',
  shareManyName: 'Shared files',
  exifLooking: 'Looking into the pictures: {part} of {whole}…',
  exifNone: 'The pictures tell nothing beside what they show.',
  exifFound: 'Pictures that tell more than they show: {count}',
  exifPlace: 'where it was taken',
  exifTime: 'when',
  exifCamera: 'with which camera',
  exifAuthor: 'by whom',
  exifSoftware: 'with which program',
  exifText: 'notes',
  exifThumbnail: 'a small earlier picture',
  exifMore: 'a film or further pictures',
  exifUnknown: 'Chive cannot look into this kind of picture',
  exifStrip: 'Take this out of the copies that are shared',
  exifStripSays: 'Your own files stay as they are.',
  exifKept: 'It cannot be taken out of these: {names}. Leave them out, or press Share again to share them as they are.',

  // Handing on
  handOnTitle: 'Hand it on',
  handOnSays: 'Whoever has the link can open it, and whoever reads it knows which torrent it is.',
  handOnStay: 'Keep this tab open until others have it.',
  pageLink: 'Link to this page',
  magnetLink: 'Magnet link, for any BitTorrent program',
  copy: 'Copy',
  copied: 'Copied.',
  copyFailed: 'The browser did not let it be copied. It is selected: copy it by hand.',
  send: 'Send…',
  qrLabel: 'QR code of the link',
  qrTooLong: 'The link is too long for a QR code.',
  inviteTitle: 'Invite somebody',
  inviteSays: 'This link opens Chive and brings its reader in by the routers that you use now, without the usual bridges. It names those routers, and nothing of what you open or share.',
  inviteWarn: 'Give it to people you trust: who has it can see where these routers are and have them blocked.',

  // Invitations
  invited: 'Invited: this tab enters by the routers that the link names, and no others. They are forgotten with the tab.',
  invitedLater: 'This link names other routers to enter by. Use them? What runs in this tab stops and starts again.',
  invitedUse: 'Use them',
  invitedNone: 'None of the routers in this link can be used, so Chive enters as usual.',
  faultBridge: 'The link names a bridge that is not one, or it was cut on its way: {value}',
  faultInsecure: 'The link names a bridge without encryption (ws:), which a page from https may not use: {value}',
  faultPeer: 'The link names a peer that is not address:port:certificate hash, or it was cut on its way: {value}',
  faultMagnet: 'The link names a torrent that is neither a magnet link nor an infohash: {value}',

  // The network
  network: 'The network, as this tab sees it',
  links: 'My links',
  linksNone: 'No link stands yet.',
  linkTab: 'Tabs',
  linkFacilitator: 'Facilitators',
  linkBridge: 'Bridges',
  linkOther: 'Other routers',
  linkStateOpen: 'open',
  linkStateConnecting: 'connecting',
  linkStateClosing: 'closing',
  linkBytes: 'sent {sent}, received {received}',
  circuits: 'My circuits',
  circuitsNone: 'No circuit stands yet.',
  circuitSpare: 'Standing by',
  circuitBuilding: 'Being built',
  circuitPath: 'You → {path}',
  carried: 'What I carry for others',
  carriedSays: 'Circuits now: {circuits}. Bytes so far: {bytes}. What is in them and whose they are, nobody here can know.',
  carriedNot: 'This tab carries nothing: {why}',
  buckets: 'Whom I know of',
  bucketsSays: '{count} contacts in Kademlia’s buckets, nearest to my ID at the start, farthest at the end. Eight fill a bucket.',
  bucketsLabel: 'Contacts in each bucket, from nearest to farthest: {fills}',
  networkLinks: 'links: {count}',
  networkCircuits: 'circuits: {count}',

  // Limits and storage
  settings: 'Limits and storage',
  carry: 'Carry traffic for others',
  carrySays: 'Others carry yours. While it is off, others can still fetch from you what you share.',
  limitUp: 'Up, at most',
  limitDown: 'Down, at most',
  limitCarry: 'Carried, at most',
  limitStore: 'Storage, at most',
  limitNone: 'no limit',
  unitRate: 'MB/s',
  unitStore: 'GB',
  limitWrong: 'A limit is a number above 0, or nothing for none.',
  limitRefused: 'The limits were not taken: {message}',
  stored: 'Stored here: {used} of {quota} that the browser grants.',
  storedMemory: 'Kept in memory only: this browser gives no storage here. It is gone with the tab.',
  forget: 'Forget everything',
  forgetTitle: 'Forget everything?',
  forgetSays: 'From this device go, at once and for good:',
  forgetTorrents: 'all {count} torrents of the list, what was stored of them ({size}), and what you share: nobody gets it from here any more',
  forgetNode: 'the routers that this tab kept to enter by, and what it knew of the network',
  forgetPage: 'your limits, an invitation that brought you here, and where films were',
  forgetNot: 'Not gone: files that you saved, links in the browser’s history, and what others have fetched already.',
  forgetDo: 'Forget all of it',
  forgotten: 'Everything was forgotten.',
  forgetFailed: 'Not all of it could be forgotten: {message}',
  cancelIt: 'Cancel',

  // The route
  route: 'Your route',
  routeCaption: 'The first router sees you, not the torrent; the last sees the torrent, not you.',
  you: 'You',
  bridge: 'Bridge',
  middle: 'Middle',
  ordb: 'Last',
  entry: 'Entry',
  tab: 'Tab',
  facilitator: 'Facilitator',
  swarm: 'Source',
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
  (globalThis.navigator?.languages ?? []).map((tag) => tag.split('-')[0]).find((tag) => Object.hasOwn(LANGUAGES, tag)) ?? 'en';

const { dir, strings } = LANGUAGES[language];
/** Letters that run from right to left. */
const RTL = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/**
 * @param {Key} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  return strings[key].replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name] ?? '';
    const text = typeof value === 'number' ? new Intl.NumberFormat(language).format(value) : value;
    // What is put in keeps its own direction and turns nothing round it.
    return dir === 'rtl' || RTL.test(text) ? `\u2068${text}\u2069` : text;
  });
}

/** Whether there are words of that key: what a node says in a word may be newer than they are. @param {string} key */
export function has(key) {
  return Object.hasOwn(strings, key);
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
