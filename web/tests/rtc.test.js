// Tabs in browsers of their own, with connections as the page makes them.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import test, { after, before } from 'node:test';
import { findChromium, start } from './rtc/chromium.js';
import { findFirefox, startFirefox } from './rtc/firefox.js';

const program = findChromium();
const skip = program ? false : 'Chromium is not installed';
const LIMIT = { skip, timeout: 60_000 };
const ALL = { skip, timeout: 300_000 };
const MEGABYTE = 1_000_000;

const server = createServer(async (request, response) => {
  const path = new URL(request.url, 'http://x').pathname;
  const file = new URL(path.startsWith('/rtc/') ? `.${path}` : `..${path}`, import.meta.url);
  const body = await readFile(file).catch(() => null);
  response.writeHead(body ? 200 : 404, { 'content-type': path.endsWith('.html') ? 'text/html' : 'text/javascript' });
  response.end(body);
});

before(() => new Promise((resolve) => server.listen(0, '127.0.0.1', resolve)));
after(() => {
  server.close();
  server.closeAllConnections();
});

/** One tab of rtc/page.html. */
class Tab {
  #heard = [];
  #waiting = [];

  static async open(browser, query = '') {
    const tab = new Tab();
    tab.page = await browser.open(`http://127.0.0.1:${server.address().port}/rtc/page.html${query}`);
    // While it loads it is another page, which does not answer to the end.
    const loaded = () => tab.page.evaluate("typeof hear === 'function'").catch(() => false);
    while (!(await loaded()));
    tab.certificate = await tab.page.evaluate('certificate_sha256');
    void tab.#hear();
    return tab;
  }

  ask(message) {
    return this.page.evaluate(`ask(${JSON.stringify(message)})`);
  }

  tellWorker(message) {
    return this.page.evaluate(`tellWorker(${JSON.stringify(message)})`);
  }

  /** The next that fits; what does not is left to others. */
  next(fits) {
    const found = this.#heard.findIndex(fits);
    if (found >= 0) return Promise.resolve(this.#heard.splice(found, 1)[0]);
    return new Promise((resolve, reject) => this.#waiting.push({ fits, resolve, reject }));
  }

  async #hear() {
    try {
      for (;;) {
        for (const message of await this.page.evaluate('hear()')) {
          const place = this.#waiting.findIndex(({ fits }) => fits(message));
          if (place >= 0) this.#waiting.splice(place, 1)[0].resolve(message);
          else this.#heard.push(message);
        }
      }
    } catch (error) {
      for (const { reject } of this.#waiting) reject(error);
    }
  }

  /** Passes what this tab says of a link to another's, as an introducer does, for as long as both stand. */
  async pass(link, other, otherLink, change = (signal) => signal) {
    for (;;) {
      const { signal } = await this.next((message) => message.rtc === 'signal' && message.link === link);
      const told = change(signal);
      if (told?.form === 'offer') await other.ask({ rtc: 'answer', link: otherLink, description: told });
      else if (told) await other.ask({ rtc: 'signal', link: otherLink, signal: told });
    }
  }

  opened(link) {
    return this.next((message) => message.opened === link);
  }

  why(link) {
    return this.next((message) => message.rtc === 'closed' && message.link === link).then(({ why }) => why);
  }
}

/** Both ends of a connection between two tabs. */
async function connect(one, link, other, otherLink, change) {
  const forget = () => {};
  one.pass(link, other, otherLink, change).catch(forget);
  other.pass(otherLink, one, link, change).catch(forget);
  await one.ask({ rtc: 'offer', link });
}

test('tabs in two processes', ALL, async (t) => {
  const browsers = await Promise.all([start(program), start(program)]);
  t.after(() => Promise.all(browsers.map((browser) => browser.close())));
  const [one, other] = await Promise.all(browsers.map((browser) => Tab.open(browser)));

  await t.test('find each other by fields alone, and their channels stand in workers', LIMIT, async () => {
    const signals = [];
    await connect(one, 1, other, 2, (signal) => (signals.push(signal), signal));
    const opened = await Promise.all([one.opened(1), other.opened(2)]);
    assert.deepEqual(opened.map(({ moved }) => moved), [true, true]);
    const [offer, answer] = ['offer', 'answer'].map((form) => signals.find((signal) => signal.form === form));
    assert.equal(offer.certificate_sha256, one.certificate);
    assert.equal(answer.certificate_sha256, other.certificate);
    // Its addresses are hidden, as a browser does by default.
    const candidates = signals.flatMap((signal) => signal.candidates ?? [signal]).filter(({ host }) => host);
    assert.ok(candidates.some(({ host }) => host.endsWith('.local')), JSON.stringify(candidates));
  });

  await t.test('move bytes both ways and never hold more than they should', LIMIT, async (t) => {
    for (const [from, link, to, at] of [
      [one, 1, other, 2],
      [other, 2, one, 1],
    ]) {
      await from.tellWorker({ link, send: 20 * MEGABYTE, size: 16_000 });
      const [sent, received] = await Promise.all([
        from.next((message) => message.sent === link),
        to.next((message) => message.link === at && message.received),
      ]);
      assert.equal(received.received, 20 * MEGABYTE + 1);
      assert.equal(received.sum, sent.sum);
      assert.ok(sent.waits > 0 && sent.most < 600_000, JSON.stringify(sent));
      t.diagnostic(`${(20_000 / sent.ms).toFixed(1)} MB/s`);
    }
  });

  await t.test('are told when the other side hangs up', LIMIT, async () => {
    await one.tellWorker({ link: 1, send: 100_000, size: 10_000 });
    await one.tellWorker({ link: 1, close: true });
    await one.ask({ rtc: 'close', link: 1 });
    // What was sent before comes before the end.
    assert.equal((await other.next((message) => message.link === 2 && message.received)).received, 100_001);
    await other.next((message) => message.over === 2);
  });

  await t.test('connect where the browser cannot move channels', LIMIT, async (t) => {
    const unmovable = await Tab.open(browsers[0], '?unmovable');
    await connect(unmovable, 3, other, 4);
    const opened = await Promise.all([unmovable.opened(3), other.opened(4)]);
    assert.deepEqual(opened.map(({ moved }) => moved), [false, true]);
    for (const [from, link, to, at] of [
      [unmovable, 3, other, 4],
      [other, 4, unmovable, 3],
    ]) {
      await from.tellWorker({ link, send: 5 * MEGABYTE, size: 10_000 });
      const [sent, received] = await Promise.all([
        from.next((message) => message.sent === link),
        to.next((message) => message.link === at && message.received),
      ]);
      assert.equal(received.sum, sent.sum);
      t.diagnostic(`${(5_000 / sent.ms).toFixed(1)} MB/s`);
    }
    await other.tellWorker({ link: 4, close: true });
    await unmovable.next((message) => message.over === 3);
  });

  await t.test('do not connect to somebody else', LIMIT, async () => {
    // An introducer that puts another certificate in the answer: DTLS does not stand for it.
    await connect(one, 5, other, 6, (signal) =>
      signal.form === 'answer' ? { ...signal, certificate_sha256: '5a'.repeat(32) } : signal,
    );
    assert.match(await one.why(5), /did not prove that it has the certificate/);
  });

  await t.test('are told why there is no connection', LIMIT, async () => {
    const description = { ufrag: 'aB3+', password: '0123456789abcdefghij/+', certificate_sha256: '5a'.repeat(32) };
    const nowhere = [{ kind: 'host', host: '127.0.0.1', port: 9, priority: 1 }];
    await one.ask({ rtc: 'answer', link: 7, description: { ...description, candidates: nowhere } });
    await one.ask({ rtc: 'answer', link: 8, description: { ...description, ufrag: 'a\r\nb', candidates: [] } });
    await one.ask({ rtc: 'dial', link: 9, certificate_sha256: '5a'.repeat(32), addresses: [] });
    assert.match(await one.why(8), /the other side describes itself in a way that we do not know/);
    assert.match(await one.why(9), /its address is not one that can be dialled/);
    assert.match(await one.why(7), /no way to the other side was found|no connection stood within/);
  });

  await t.test('take no more connections than they can', LIMIT, async () => {
    for (let link = 100; link < 165; link += 1) await other.ask({ rtc: 'offer', link });
    assert.match(await other.why(164), /has 64 connections/);
    for (let link = 100; link < 164; link += 1) await other.ask({ rtc: 'close', link });
    await other.ask({ rtc: 'offer', link: 200 });
    await other.next((message) => message.rtc === 'signal' && message.link === 200);
  });

  await t.test('are told when the other browser is gone', LIMIT, async () => {
    await connect(one, 11, other, 12);
    await Promise.all([one.opened(11), other.opened(12)]);
    await browsers[1].close();
    assert.match(await one.why(11), /was lost/);
  });
});

const firefox = findFirefox();
const without = skip || (firefox ? false : 'Firefox is not installed');

test('a tab of Firefox and one of Chromium', { ...ALL, skip: without }, async (t) => {
  const browsers = [];
  t.after(() => Promise.all(browsers.map((browser) => browser.close())));
  browsers.push(await start(program), await startFirefox(firefox));
  const [chromium, fox] = await Promise.all(browsers.map((browser) => Tab.open(browser)));
  // As it was before it moved channels.
  const unmovable = await Tab.open(browsers[1], '?unmovable');
  for (const [one, other, link] of [
    [chromium, fox, 1],
    [fox, chromium, 2],
    [unmovable, chromium, 3],
  ]) {
    await connect(one, link, other, link);
    const opened = await Promise.all([one.opened(link), other.opened(link)]);
    if (one === unmovable) assert.equal(opened[0].moved, false);
    t.diagnostic(`channels moved to workers: ${opened.map(({ moved }) => moved)}`);
    for (const [from, to] of [
      [one, other],
      [other, one],
    ]) {
      await from.tellWorker({ link, send: 5 * MEGABYTE, size: 16_000 });
      const [sent, received] = await Promise.all([
        from.next((message) => message.sent === link),
        to.next((message) => message.link === link && message.received),
      ]);
      assert.equal(received.sum, sent.sum);
      assert.ok(sent.waits > 0 && sent.most < 600_000, JSON.stringify(sent));
      t.diagnostic(`${(5_000 / sent.ms).toFixed(1)} MB/s`);
    }
    await one.tellWorker({ link, close: true });
    await other.next((message) => message.over === link);
  }
  // Whether there is no way, or somebody else at its end, is told apart in Firefox too.
  const certificate_sha256 = '5a'.repeat(32);
  await fox.ask({ rtc: 'dial', link: 4, addresses: [{ host: '127.0.0.1', port: 9 }], certificate_sha256 });
  await connect(fox, 5, chromium, 5, (signal) => (signal.form === 'answer' ? { ...signal, certificate_sha256 } : signal));
  assert.match(await fox.why(5), /did not prove that it has the certificate/);
  assert.match(await fox.why(4), /no way to the other side was found/);
});
