// @ts-check
/** The page: what is asked in the field is opened, shown and kept in the address. */
import { Chive, FIND_TIMEOUT_MS } from './chive.js';
import { Bar } from './ui/bar.js';
import { button, byId, make } from './ui/dom.js';
import { FileList, saveLink } from './ui/files.js';
import { percent, plain, short, size } from './ui/format.js';
import { findLink, makeHash, readHash } from './ui/link.js';
import { isOpen, Route } from './ui/route.js';
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
  status: byId('status'),
  error: byId('error'),
  notice: byId('notice'),
  torrent: byId('torrent'),
  contents: byId('contents'),
  finding: byId('finding'),
  elapsed: byId('elapsed'),
  name: byId('name'),
  numbers: byId('numbers'),
  bar: byId('bar'),
};
const files = new FileList(byId('files'), { choose: (file) => choose(file, true), save });
const route = new Route(byId('routes'));
const bar = new Bar(view.bar);
const viewer = new Viewer(byId('stage'), { say, cannot, ended: playNext });

/** @type {Chive | null} */
let chive = null;
/** @type {Torrent | null} */
let torrent = null;
/** What is being opened; a newer one takes its place. */
let opening = new AbortController();
let openingSince = 0;
/** What is to be opened again if the user asks. @type {string | File | null} */
let asked = null;
/** Whose error is shown, if it goes by itself once they are back. @type {'bridge' | 'torrent' | null} */
let passing = null;

/** @param {'home' | 'finding' | 'torrent'} name */
function show(name) {
  document.body.dataset.view = name;
  view.torrent.hidden = view.contents.hidden = name !== 'torrent';
  view.finding.hidden = name !== 'finding';
}

/** @param {string} text */
function say(text) {
  if (view.status.textContent !== text) view.status.textContent = text;
}

/**
 * @param {string} text
 * @param {...Node} actions
 */
function fail(text, ...actions) {
  passing = null;
  view.error.replaceChildren(make('p', { dir: 'auto' }, text));
  if (actions.length > 0) view.error.append(make('div', { class: 'actions' }, ...actions));
  view.error.hidden = false;
}

function clearError() {
  passing = null;
  view.error.hidden = true;
  view.error.replaceChildren();
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
  clearError();
  view.notice.hidden = true;
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
    const opened = await node.open(source, { signal: own.signal });
    if (own.signal.aborted) return;
    if (typeof source !== 'string') setAddress(makeHash(opened.infohash, opened.name));
    enter(opened);
  } catch (error) {
    if (own.signal.aborted) return;
    show('home');
    say('');
    explain(source instanceof File && !('final' in /** @type {any} */ (error)) ? wrongFile(source, error) : error);
  }
}

/** @param {Torrent} opened */
function enter(opened) {
  torrent = opened;
  show('torrent');
  say(t('opened'));
  view.name.textContent = plain(opened.name);
  files.show(opened.files);
  if (chive && !chive.streaming) note(t('fallback'));
  const first = firstToShow(opened);
  if (first) choose(first);
  refresh();
}

/** @param {string} hash */
function setAddress(hash) {
  if (location.hash === hash) return;
  const same = readHash(location.hash) === readHash(hash);
  history[same ? 'replaceState' : 'pushState'](null, '', hash);
}

/** Lets go of the torrent that is open. */
function leave() {
  viewer.clear();
  const left = torrent;
  torrent = null;
  left?.close().catch(() => {});
}

function goHome() {
  opening.abort();
  leave();
  clearError();
  show('home');
  sayReady();
}

/** @param {any} error with the node's `reason` and `final` where it has them */
function explain(error) {
  const advice = ADVICE[error.reason];
  const text = endSentence(error.message) + (advice ? ` ${t(advice)}` : '');
  // What is wrong in itself does not come right by trying again.
  const hopeless = chive !== null && error.final !== false;
  fail(text, ...(hopeless ? [] : [retryButton()]));
  if (error === torrent?.error) passing = 'torrent';
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
  clearError();
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

/** Something that the user should know and need not act on. @param {string} text */
function note(text) {
  const close = button(t('dismiss'), () => (view.notice.hidden = true));
  view.notice.replaceChildren(make('p', { dir: 'auto' }, text), close);
  view.notice.hidden = false;
}

/** Brings everything that moves up to date. */
function refresh() {
  if (!chive) return;
  const status = chive.status();
  route.update(status, torrent?.id ?? null);
  if (document.body.dataset.view === 'home') sayReady();
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
  const [share, amount, speed, sources] = view.numbers.querySelectorAll('dd > *');
  share.textContent = percent(part, whole, language);
  amount.textContent = t('verifiedOf', { part: size(part, language), whole: size(whole, language) });
  speed.textContent = t('perSecond', { size: size(rate, language) });
  sources.textContent = String(own.sources.length);
}

/** What stands between the user and a route, or null. */
function missing() {
  const { bridges, circuits, routers_known: routers } = chive?.status() ?? { bridges: [], circuits: [] };
  if (!chive) return t('starting');
  if (!bridges.some(({ state }) => state === 'connected')) return t('connecting');
  if (circuits.some(isOpen)) return null;
  return routers === 0 ? t('noRouters') : t('building');
}

function sayReady() {
  if (!chive || !view.error.hidden) return;
  say(missing() ?? t('ready', { count: chive.status().circuits.filter(isOpen).length }));
}

/** @param {any} detail */
function bridgeChanged({ state, message }) {
  const connected = chive?.status().bridges.some((bridge) => bridge.state === 'connected') ?? false;
  const shown = connected ? 'connected' : state;
  const pill = byId('bridge');
  pill.dataset.state = shown;
  const words = { connected: t('bridgeConnected'), failed: t('bridgeFailed') };
  pill.lastElementChild.textContent = words[/** @type {'connected' | 'failed'} */ (shown)] ?? t('bridgeConnecting');
  if (connected && passing === 'bridge') {
    clearError();
  } else if (shown === 'failed' && (view.error.hidden || passing === 'bridge')) {
    fail(t('errorBridge', { message: endSentence(message ?? '') }));
    passing = 'bridge';
  }
}

/** @param {string} text */
function endSentence(text) {
  return text === '' || /[.!?。]$/.test(text) ? text : `${text}.`;
}

async function start() {
  const node = await Chive.start();
  chive = node;
  Object.assign(globalThis, { chive: node });
  node.addEventListener('bridge', (event) => bridgeChanged(/** @type {CustomEvent} */ (event).detail));
  node.addEventListener('circuits', refresh);
  node.addEventListener('progress', () => {
    // Somebody came who has it: the film goes on where it stood.
    if (passing !== 'torrent' || torrent?.error) return;
    clearError();
    if (torrent && viewer.file && viewer.isBroken) void viewer.show(viewer.file, torrent.infohash);
  });
  node.addEventListener('source-dropped', (event) => {
    const { router } = /** @type {CustomEvent} */ (event).detail;
    note(t('dropped', { router: short(plain(String(router))) }));
  });
  node.addEventListener('failed', (event) => {
    const { detail } = /** @type {CustomEvent} */ (event);
    if (detail.torrent === undefined) chive = null;
    else if (detail.torrent !== torrent?.id) return;
    explain(torrent?.error ?? detail);
  });
  const bridge = node.status().bridges[0];
  if (bridge) bridgeChanged({ state: bridge.state, message: bridge.error });
  setInterval(refresh, REFRESH_MS);
  refresh();
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
function askFile(file) {
  if (!file) return;
  if (/\.torrent$/i.test(file.name) || file.type === 'application/x-bittorrent') void open(file);
  else fail(t('errorNotTorrent', { name: plain(file.name) }));
}

function openAddress() {
  const link = readHash(location.hash);
  if (link === null) {
    if (document.body.dataset.view !== 'home') goHome();
  } else {
    ask(link);
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
byId('cancel').addEventListener('click', () => {
  history.replaceState(null, '', location.pathname);
  goHome();
});
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
  const file = event.dataTransfer?.files[0];
  const text = event.dataTransfer?.getData('text') ?? '';
  if (file) askFile(file);
  else if (text) ask(text);
});
document.addEventListener('paste', (event) => {
  const text = event.clipboardData?.getData('text') ?? '';
  if (event.target !== view.link && text) ask(text);
});
addEventListener('hashchange', openAddress);

say(t('starting'));
const started = start();
started.catch((error) => {
  say('');
  show('home');
  byId('bridge').dataset.state = 'failed';
  fail(error instanceof Error ? error.message : String(error), button(t('reload'), () => location.reload(), 'main'));
});
void offerSample();
openAddress();
