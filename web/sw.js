// @ts-check
/// <reference lib="webworker" />
/**
 * Answers `stream/<instance>/<torrent>/<file>/<name>` for the tabs of this
 * origin. It holds no state: a browser stops and starts it as it likes, so
 * each request asks the open tabs whose instance it is, and then reads from
 * that tab's worker over a port of its own.
 *
 * And it keeps the page's own files for when their server is gone or is kept
 * from us: a mesh that stands needs no server, so neither does its page.
 *
 * A classic script, not a module: not every browser has module service workers.
 */

const scope = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const PREFIX = `${new URL(scope.registration.scope).pathname}stream/`;

/** Tells the tabs that this is not the service worker that they knew: it has none of its streams. */
const LIFE = crypto.randomUUID();

/** A tab that is frozen never answers; this is how long the others are waited for. */
const OWNER_TIMEOUT_MS = 30_000;
/** Where the page's files are kept. */
const PAGE = 'chive-page';
/** The page names them; what is more is not kept. */
const MAX_KEPT = 120;
/** How long the server is waited for where its file is kept. */
const SERVER_TIMEOUT_MS = 10_000;

scope.addEventListener('install', () => void scope.skipWaiting());
scope.addEventListener('activate', (event) => event.waitUntil(scope.clients.claim()));
// A tab that was reloaded past its service worker asks to be taken on again;
// one that reads sends anything at all, so that we are not stopped in mid-stream.
scope.addEventListener('message', (event) => {
  if (event.data === 'claim') event.waitUntil(scope.clients.claim());
  else if (event.data?.keep) event.waitUntil(keep(event.data));
});
scope.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (url.origin !== scope.location.origin) return;
  if (url.pathname.startsWith(PREFIX)) event.respondWith(answer(event.request, url));
  else if (event.request.method === 'GET' && !event.request.headers.has('range')) event.respondWith(file(event));
});

/**
 * A file of the page's, from its server while that answers.
 * @param {FetchEvent} event
 */
async function file(event) {
  const cache = await caches.open(PAGE);
  const kept = await cache.match(event.request, { ignoreSearch: true, ignoreVary: true });
  if (!kept) return fetch(event.request);
  const fresh = fetch(event.request).then((answer) => {
    if (answer.ok) event.waitUntil(cache.put(event.request, answer.clone()).catch(() => {}));
    return answer;
  });
  const late = new Promise((resolve) => setTimeout(resolve, SERVER_TIMEOUT_MS));
  return (await Promise.race([fresh.catch(() => undefined), late])) ?? kept;
}

/**
 * Keeps files of the page's: `anew` those that may be older than the page, for nothing has loaded them yet.
 * @param {{keep: string[], anew?: string[]}} wanted
 */
async function keep({ keep: all, anew = [] }) {
  const cache = await caches.open(PAGE);
  for (const address of all.slice(0, MAX_KEPT)) {
    const url = new URL(address, scope.registration.scope);
    if (!url.href.startsWith(scope.registration.scope) || url.pathname.startsWith(PREFIX)) continue;
    if (!anew.includes(address) && (await cache.match(url, { ignoreSearch: true, ignoreVary: true }))) continue;
    const answer = await fetch(url).catch(() => null);
    // Without room for it the page needs its server, as any other does.
    if (answer?.ok) await cache.put(url, answer).catch(() => {});
  }
}

/**
 * @param {Request} request
 * @param {URL} url
 */
async function answer(request, url) {
  const [instance, torrent, file] = url.pathname.slice(PREFIX.length).split('/');
  const found = await findOwner({
    instance,
    life: LIFE,
    torrent: Number(torrent),
    file: Number(file),
    method: request.method,
    range: request.headers.get('range'),
    ifRange: request.headers.get('if-range'),
    save: url.searchParams.has('save'),
  });
  if (found === null) return refuse(410, 'The tab that this address belonged to is closed.');
  const { port, head } = found;
  if (head.error) return refuse(head.status, head.error);
  if (head.start === head.end) {
    port.close();
    return new Response(null, head);
  }
  return new Response(body(port), head);
}

/**
 * @param {object} wanted
 * @returns {Promise<{port: MessagePort, head: any} | null>}
 */
async function findOwner(wanted) {
  const tabs = await scope.clients.matchAll({ type: 'window', includeUncontrolled: true });
  /** @type {MessagePort[]} */
  const ports = [];
  const owner = Promise.any(
    tabs.map(async (tab) => {
      const { port1, port2 } = new MessageChannel();
      ports.push(port1);
      const head = await new Promise((resolve) => {
        port1.onmessage = (event) => resolve(event.data);
        tab.postMessage({ chive: 'stream', request: wanted }, [port2]);
      });
      if (head === null) throw new Error('not its own');
      return { port: port1, head };
    }),
  ).catch(() => null);
  const late = new Promise((resolve) => setTimeout(resolve, OWNER_TIMEOUT_MS, null));
  const found = await Promise.race([owner, late]);
  for (const port of ports) if (port !== found?.port) port.close();
  return found;
}

/**
 * The bytes, taken from the worker no faster than the browser reads them.
 * @param {MessagePort} port
 */
function body(port) {
  return new ReadableStream({
    async pull(controller) {
      const reply = await new Promise((resolve) => {
        port.onmessage = (event) => resolve(event.data);
        port.postMessage('pull');
      });
      if (reply.bytes) controller.enqueue(reply.bytes);
      else if (reply.error) controller.error(new Error(reply.error));
      else controller.close();
      if (!reply.bytes) port.close();
    },
    cancel() {
      port.postMessage('cancel');
      port.close();
    },
  });
}

/**
 * @param {number} status
 * @param {string} sentence
 */
function refuse(status, sentence) {
  return new Response(sentence, {
    status,
    headers: {
      'Content-Type': 'text/plain; charset=utf-8',
      'Content-Security-Policy': "sandbox; default-src 'none'",
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
    },
  });
}
