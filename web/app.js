// @ts-check
/** The page: what is asked in the field is opened, shown and kept in the address. */
import { Chive, FIND_TIMEOUT_MS } from './chive.js';
import { entry, takeAddress } from './ui/address.js';
import { Bar } from './ui/bar.js';
import { Availability, Cards, nameOf, stateOf, TorrentActions } from './ui/cards.js';
import { button, byId, make, words } from './ui/dom.js';
import { FileList, saveLink } from './ui/files.js';
import { percent, plain, short, size } from './ui/format.js';
import { handOn } from './ui/handon.js';
import { invitationLink, pageLink, readAddress } from './ui/invitation.js';
import { findLink, makeHash, readHash } from './ui/link.js';
import { Network } from './ui/network.js';
import { askToRemove } from './ui/remove.js';
import { isOpen, Route } from './ui/route.js';
import { Said, endSentence } from './ui/said.js';
import { Settings } from './ui/settings.js';
import { Sharing } from './ui/sharing.js';
import { fillPage, language, t } from './ui/text.js';
import { Viewer } from './ui/viewer.js';

/** @typedef {import('./chive.js').Torrent} Torrent */
/** @typedef {import('./chive.js').TorrentFile} TorrentFile */

const REFRESH_MS = 500;

/** Advice by the node's reason, where it gives one. @type {Record<string, import('./ui/text.js').Key>} */
const ADVICE = {
  'not-found': 'adviceNotFound',
  gone: 'adviceGone',
  'too-large': 'adviceTooLarge',
  unavailable: 'adviceUnavailable',
};

fillPage();

const view = {
  link: byId('link'),
  torrent: byId('torrent'),
  contents: byId('contents'),
  finding: byId('finding'),
  elapsed: byId('elapsed'),
  name: byId('name'),
  numbers: byId('numbers'),
  bar: byId('bar'),
  list: byId('list'),
  own: byId('own'),
};
const said = new Said();
const say = (/** @type {string} */ text) => said.say(text);
const fail = (/** @type {[string, ...Node[]]} */ ...what) => said.fail(...what);
const files = new FileList(byId('files'), { choose: (file) => choose(file, true), save });
const route = new Route(byId('routes'));
const bar = new Bar(view.bar);
const viewer = new Viewer(byId('stage'), { say, cannot, ended: playNext });
/** What can be done with a torrent, from its card and from its own page. */
const actions = {
  open: enterListed,
  toggle: (/** @type {any} */ one) => void one[one.state === 'paused' ? 'resume' : 'pause']().then(refresh, explain),
  handOn: handOnTorrent,
  remove: (/** @type {any} */ one) => {
    askToRemove(one, ownStatus(one)?.shared === true, (forget) => void remove(one, forget));
  },
};
const cards = new Cards(byId('torrents'), actions);
const network = new Network(byId('network'));
const settings = new Settings(byId('settings'), { torrents: () => listed().length, forgotten });
const sharing = new Sharing({
  node: () => started,
  job: (name, cancel) => {
    const job = cards.addJob(name, cancel);
    goHome();
    refresh();
    return job;
  },
  shared: (/** @type {any} */ made) => {
    remember(made);
    refresh();
    // Not over another sheet that the user is at.
    if (document.querySelector('dialog[open]') === null) handOnTorrent(made);
  },
  say,
  fail,
});

/** @type {Chive | null} */
let chive = null;
/** @type {Torrent | null} */
let torrent = null;
/** The buttons and numbers of the torrent that is shown. @type {{actions: TorrentActions, have: Availability} | null} */
let shown = null;
/** Those opened here, for a node that keeps no list of its own. @type {Set<Torrent>} */
const opened = new Set();
/** What is being opened; a newer one takes its place. */
let opening = new AbortController();
let openingSince = 0;
/** What is to be opened again if the user asks. @type {string | File | null} */
let asked = null;

/** @param {'home' | 'finding' | 'torrent'} name */
function show(name) {
  document.body.dataset.view = name;
  view.torrent.hidden = view.contents.hidden = name !== 'torrent';
  view.finding.hidden = name !== 'finding';
  view.list.hidden = name !== 'home' || cards.size === 0;
}

/**
 * @param {string} text
 * @param {TorrentFile} file
 */
function cannot(text, file) {
  say('');
  // What the torrent died of says more than what its player made of it.
  if (torrent?.error) {
    explain(torrent.error);
    return;
  }
  const link = saveLink(file, save, t('save'));
  link.classList.add('main');
  if (viewer.isBroken) viewer.clear();
  fail(text, link);
}

/** Opens what the user gave. @param {string | File} source */
async function open(source) {
  said.clearError();
  said.clearNotice();
  if (source === '') {
    fail(t('errorEmpty'));
    view.link.focus();
    return;
  }
  opening.abort();
  const own = (opening = new AbortController());
  openingSince = performance.now();
  asked = source;
  leave();
  view.link.blur();
  // At once, so that a reload while it is looked for goes on with it.
  if (typeof source === 'string' && readHash(`#${source}`) !== null) setAddress(`#${source}`);
  show('finding');
  say(missing() ?? t('finding'));
  try {
    const node = await started;
    if (own.signal.aborted) return;
    const found = await node.open(source, { signal: own.signal });
    if (own.signal.aborted) return;
    remember(found);
    if (typeof source !== 'string') setAddress(makeHash(found.infohash, found.name));
    enter(found);
  } catch (error) {
    if (own.signal.aborted) return;
    show('home');
    say('');
    explain(source instanceof File && !('final' in /** @type {any} */ (error)) ? wrongFile(source, error) : error);
  }
}

/** @param {Torrent} found */
function enter(found) {
  torrent = found;
  shown = { actions: new TorrentActions(found, actions), have: new Availability() };
  view.own.replaceChildren(shown.have.element, shown.actions.element);
  show('torrent');
  say(t('opened'));
  view.name.textContent = plain(found.name);
  files.show(found.files);
  if (chive && !chive.streaming) said.note(t('fallback'));
  const first = firstToShow(found);
  if (first) choose(first);
  refresh();
}

/** @param {string} hash */
function setAddress(hash) {
  if (location.hash === hash) return;
  const same = readHash(location.hash) === readHash(hash);
  history[same ? 'replaceState' : 'pushState'](null, '', hash);
}

/** Turns away from the torrent that is shown; it goes on. */
function leave() {
  viewer.clear();
  torrent = null;
  shown = null;
}

function goHome() {
  opening.abort();
  leave();
  said.clearError();
  view.link.value = '';
  if (location.hash !== '') history.pushState(null, '', location.pathname + location.search);
  show('home');
  say('');
  sayReady();
}

/** @param {Torrent} one */
function remember(one) {
  opened.add(one);
}

/** All torrents, those of earlier sessions too where the node keeps them. @returns {Torrent[]} */
function listed() {
  const own = /** @type {any} */ (chive)?.torrents;
  return own ? [...own.values()] : [...opened];
}

/** @param {any} one @returns {any} */
function ownStatus(one) {
  return chive?.status().torrents.find(({ id }) => id === one?.id);
}

/** @param {any} one */
function magnetOf(one) {
  return one.magnet || makeHash(one.infohash, one.name).slice(1);
}

/** @param {any} one */
function enterListed(one) {
  if (!one.infohash) return;
  opening.abort();
  leave();
  said.clearError();
  const magnet = magnetOf(one);
  asked = magnet;
  setAddress(`#${magnet}`);
  if (one.files.length === 0) void open(magnet);
  else enter(one);
  byId('back').focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** @param {any} one */
function handOnTorrent(one) {
  const magnet = magnetOf(one);
  handOn({
    title: t('handOnTitle'),
    name: nameOf(one),
    links: [
      { label: t('pageLink'), link: pageLink(location.href, magnet) },
      { label: t('magnetLink'), link: magnet },
    ],
    says: [t('handOnSays'), ...(ownStatus(one)?.shared ? [t('handOnStay')] : [])],
  });
}

/** @param {any} one @param {boolean} forget */
async function remove(one, forget) {
  if (one === torrent) goHome();
  opened.delete(one);
  try {
    await (typeof one.remove === 'function' ? one.remove({ forget }) : one.close());
  } catch (error) {
    explain(error);
  }
  refresh();
}

/** Nothing is left: the page begins anew, in its address too. */
function forgotten() {
  opened.clear();
  goHome();
  history.replaceState(null, '', location.pathname);
  said.note(t('forgotten'));
  refresh();
}

async function invite() {
  try {
    const invitation = await /** @type {any} */ (chive).invite({ bridges: true, peers: true });
    handOn({
      title: t('inviteTitle'),
      name: '',
      links: [{ label: t('pageLink'), link: invitationLink(location.href, invitation) }],
      says: [t('inviteSays'), t('inviteWarn')],
    });
  } catch (error) {
    fail(error instanceof Error ? error.message : String(error));
  }
}

/** @param {any} error with the node's `reason` and `final` where it has them */
function explain(error) {
  const advice = ADVICE[error.reason];
  const text = endSentence(error.message) + (advice ? ` ${t(advice)}` : '');
  // What is wrong in itself does not come right by trying again.
  const hopeless = chive !== null && error.final !== false;
  fail(text, ...(hopeless ? [] : [retryButton()]));
  if (error === torrent?.error) said.passing = 'torrent';
}

/** @param {File} file @param {any} error */
function wrongFile({ name }, { message }) {
  return new Error(t('errorTorrentFile', { name: plain(name), message: endSentence(message) }));
}

function retryButton() {
  const again = asked;
  if (chive === null || again === null) return button(t('reload'), () => location.reload(), 'main');
  return button(t('retry'), () => void open(again), 'main');
}

/**
 * What is shown first: what was shown before a reload, the largest film, the
 * first song, or the only file there is.
 * @param {Torrent} opened
 */
function firstToShow({ files: all, infohash }) {
  const before = sessionStorage.getItem(`chive:${infohash}`);
  const films = all.filter(({ kind }) => kind === 'video');
  return (
    (before === null ? undefined : all.find(({ index }) => index === Number(before))) ??
    films.reduce((/** @type {TorrentFile | undefined} */ most, film) => (most && most.length >= film.length ? most : film), undefined) ??
    all.find(({ kind }) => kind === 'audio') ??
    (all.length === 1 ? all[0] : undefined)
  );
}

/**
 * @param {TorrentFile} file
 * @param {boolean} [byHand] then it is also brought into sight
 */
function choose(file, byHand = false) {
  if (!torrent) return;
  said.clearError();
  files.mark(file);
  sessionStorage.setItem(`chive:${torrent.infohash}`, String(file.index));
  void viewer.show(file, torrent.infohash);
  if (byHand) byId('top').scrollIntoView({ block: 'nearest' });
  refresh();
}

/** An album goes on by itself. @param {TorrentFile} file */
function playNext(file) {
  const all = torrent?.files ?? [];
  const next = all.slice(all.indexOf(file) + 1).find(({ kind }) => kind === 'audio');
  if (file.kind === 'audio' && next) choose(next);
}

/** Saves without a service worker. @param {TorrentFile} file */
async function save(file) {
  try {
    say(t('fetchingWhole'));
    const url = URL.createObjectURL(await file.blob());
    make('a', { href: url, download: plain(file.name) }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    say('');
  } catch (error) {
    fail(t('errorRead', { message: error instanceof Error ? error.message : String(error) }));
  }
}

/** Brings everything that moves up to date. */
function refresh() {
  if (!chive) return;
  const status = chive.status();
  route.update(status, torrent?.id ?? null);
  cards.update(listed(), status, document.body.dataset.view === 'home');
  network.update(status);
  void settings.update(performance.now());
  showPill();
  if (document.body.dataset.view === 'home') {
    view.list.hidden = cards.size === 0;
    document.body.classList.toggle('has-torrents', cards.size > 0);
    sayReady();
  }
  if (document.body.dataset.view === 'finding') {
    say(missing() ?? t('finding'));
    const seconds = Math.round((performance.now() - openingSince) / 1000);
    view.elapsed.textContent = t('findingFor', { seconds, limit: FIND_TIMEOUT_MS / 1000 });
  }
  const own = status.torrents.find(({ id }) => id === torrent?.id);
  if (!own) return;
  const { verified, verified_bytes: part, total_bytes: whole, rate_bytes_per_second: rate } = own;
  files.update(verified);
  const file = viewer.file;
  view.bar.hidden = !file?.length;
  if (file) bar.update(verified, file, viewer.position);
  const [share, amount, speed, sent, sources] = view.numbers.querySelectorAll('dd > *');
  words(share, percent(part, whole, language));
  words(amount, t('verifiedOf', { part: size(part, language), whole: size(whole, language) }));
  words(speed, t('perSecond', { size: size(rate, language) }));
  const up = cards.up.get(own.id);
  sent.closest('div').hidden = up === undefined || (up === 0 && !(/** @type {any} */ (own).shared));
  words(sent, t('perSecond', { size: size(up ?? 0, language) }));
  words(sources, new Intl.NumberFormat(language).format(own.sources.length));
  const state = stateOf(torrent, own);
  shown?.actions.update(state);
  shown?.have.update(/** @type {any} */ (own).availability, state);
}

/** Whether anybody is linked to this tab: a bridge, or once it is in, any peer. */
function isLinked() {
  const { bridges = [], links = [] } = /** @type {any} */ (chive?.status() ?? {});
  return [...bridges, ...links].some(({ state }) => state === 'connected' || state === 'open');
}

/** What stands between the user and a route, or null. */
function missing() {
  if (!chive) return t('starting');
  const { circuits, routers_known: routers } = chive.status();
  if (!isLinked()) return t('connecting');
  if (circuits.some(isOpen)) return null;
  return routers === 0 ? t('noRouters') : t('building');
}

function sayReady() {
  if (!chive || said.failed) return;
  say(missing() ?? t('ready', { count: chive.status().circuits.filter(isOpen).length }));
}

/** What the bridge last was, for when nobody else is linked. */
let bridgeState = 'connecting';

function showPill() {
  const pill = byId('bridge');
  const state = isLinked() ? 'connected' : bridgeState;
  pill.dataset.state = state;
  const labels = { connected: t('bridgeConnected'), failed: t('bridgeFailed') };
  words(pill.lastElementChild, labels[/** @type {'connected' | 'failed'} */ (state)] ?? t('bridgeConnecting'));
  if (state === 'connected' && said.passing === 'bridge') said.clearError();
  return state;
}

/** @param {any} detail */
function bridgeChanged({ state, message }) {
  // One bridge of several is lost and another stands: then all is well.
  if (state !== 'connected') bridgeState = state;
  if (showPill() === 'failed' && (!said.failed || said.passing === 'bridge')) {
    fail(t('errorBridge', { message: endSentence(message ?? '') }));
    said.passing = 'bridge';
  }
}

/** So that the page opens when its server is gone: the service worker keeps what it was made of. */
function keepPage() {
  const loaded = performance.getEntriesByType('resource').map(({ name }) => name);
  // The drawings are fetched when the first of them is shown.
  const keep = [location.origin + location.pathname, 'icons/ui.svg', ...loaded];
  navigator.serviceWorker?.controller?.postMessage({ keep });
}

async function start() {
  const node = await Chive.start(/** @type {any} */ ({ ...entry(), route: true, store: true }));
  chive = node;
  settings.attach(node);
  const can = (/** @type {string} */ name) => typeof (/** @type {any} */ (node)[name]) === 'function';
  if (can('share')) sharing.offer();
  byId('invite').hidden = !can('invite');
  node.addEventListener('torrents', refresh);
  node.addEventListener('store', (event) => said.note(String(/** @type {CustomEvent} */ (event).detail.message)));
  Object.assign(globalThis, { chive: node });
  node.addEventListener('bridge', (event) => bridgeChanged(/** @type {CustomEvent} */ (event).detail));
  node.addEventListener('circuits', refresh);
  node.addEventListener('progress', () => {
    // Somebody came who has it: the film goes on where it stood.
    if (said.passing !== 'torrent' || torrent?.error) return;
    said.clearError();
    if (torrent && viewer.file && viewer.isBroken) void viewer.show(viewer.file, torrent.infohash);
  });
  node.addEventListener('source-dropped', (event) => {
    const { router } = /** @type {CustomEvent} */ (event).detail;
    said.note(t('dropped', { router: short(plain(String(router))) }));
  });
  node.addEventListener('failed', (event) => {
    const { detail } = /** @type {CustomEvent} */ (event);
    // Of one that is not shown its card tells.
    if (detail.torrent === undefined) chive = null;
    else if (detail.torrent !== torrent?.id) return;
    explain(torrent?.error ?? detail);
  });
  const bridge = node.status().bridges[0];
  if (bridge) bridgeChanged({ state: bridge.state, message: bridge.error });
  setInterval(refresh, REFRESH_MS);
  refresh();
  keepPage();
  return node;
}

/** The sample that a demonstration offers; most bridges have none. */
async function offerSample() {
  const answer = await fetch('./sample.json').catch(() => null);
  const { magnet } = (answer?.ok && (await answer.json().catch(() => null))) || {};
  if (typeof magnet !== 'string') return;
  const sample = byId('sample');
  sample.hidden = false;
  sample.addEventListener('click', () => ask(magnet));
}

/** @param {string} text */
function ask(text) {
  const link = findLink(text);
  view.link.value = link;
  void open(link);
}

/** @param {File | undefined} file */
function isTorrentFile(file) {
  return file !== undefined && (/\.torrent$/i.test(file.name) || file.type === 'application/x-bittorrent');
}

/** @param {File | undefined} file */
function askFile(file) {
  if (!file) return;
  if (isTorrentFile(file)) void open(file);
  else fail(t('errorNotTorrent', { name: plain(file.name) }));
}

/** @param {string | null} magnet */
function openNamed(magnet) {
  if (magnet !== null) {
    const same = listed().find((one) => one.files.length > 0 && readAddress(`#${magnetOf(one)}`).magnet === magnet);
    if (same) enterListed(same);
    else ask(magnet);
  } else if (document.body.dataset.view !== 'home') {
    goHome();
  }
}

byId('ask').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  ask(view.link.value);
});
byId('choose').addEventListener('click', () => byId('torrent-file').click());
byId('torrent-file').addEventListener('change', (/** @type {any} */ event) => {
  askFile(event.target.files[0]);
  event.target.value = '';
});
byId('cancel').addEventListener('click', goHome);
byId('back').addEventListener('click', goHome);
byId('invite').addEventListener('click', () => void invite());
// The start page is this page: loading it anew would end what runs here.
document.querySelector('.brand')?.addEventListener('click', (event) => {
  const { ctrlKey, metaKey, shiftKey } = /** @type {MouseEvent} */ (event);
  if (ctrlKey || metaKey || shiftKey) return;
  event.preventDefault();
  goHome();
});
for (const id of ['network', 'settings']) byId(id).addEventListener('toggle', refresh);
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('dropping');
});
document.addEventListener('dragleave', (event) => {
  if (event.relatedTarget === null) document.body.classList.remove('dropping');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dropping');
  const { dataTransfer: transfer } = event;
  if (transfer === null) return;
  const [file] = transfer.files;
  const text = transfer.getData('text');
  const single = transfer.items.length === 1 && isTorrentFile(file);
  if (file && sharing.available && !single) sharing.drop(transfer);
  else if (file) askFile(file);
  else if (text) ask(text);
});
document.addEventListener('paste', (event) => {
  const text = event.clipboardData?.getData('text') ?? '';
  const elsewhere = event.target instanceof Element && event.target.closest('input, textarea, dialog') === null;
  if (elsewhere && text) ask(text);
});
addEventListener('hashchange', () => openNamed(takeAddress(said, true)));

say(t('starting'));
const named = takeAddress(said, false);
const started = start();
started.catch((error) => {
  say('');
  show('home');
  byId('bridge').dataset.state = 'failed';
  fail(error instanceof Error ? error.message : String(error), button(t('reload'), () => location.reload(), 'main'));
});
void offerSample();
openNamed(named);
