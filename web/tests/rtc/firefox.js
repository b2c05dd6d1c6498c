// @ts-check
// A Firefox of one's own, and pages in it, by WebDriver BiDi.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { connect } from './socket.js';

/** Where it lies, if it is installed. */
export function findFirefox() {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return ['firefox-esr', 'firefox'].flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
}

/** @param {string} program */
export async function startFirefox(program) {
  const profile = await mkdtemp(join(tmpdir(), 'chive-rtc-'));
  const child = spawn(program, ['--headless', '--no-remote', '--remote-debugging-port', '0', '--profile', profile], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const over = new Promise((resolve) => child.once('exit', resolve));
  const address = await new Promise((resolve, reject) => {
    let text = '';
    child.stderr.on('data', (part) => {
      text = (text + part).slice(-10_000);
      const found = /WebDriver BiDi listening on (ws:\S+)/.exec(text);
      if (found) resolve(found[1]);
    });
    over.then(() => reject(new Error(`Firefox ended: ${text}`)));
  });
  let last = 0;
  /** @type {Map<number, (answer: any) => void>} */
  const waiting = new Map();
  const hear = (/** @type {string} */ text) => {
    const answer = JSON.parse(text);
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  };
  const gone = () => waiting.forEach((tell) => tell({ error: 'gone', message: 'the browser ended' }));
  const send = await connect(`${address}/session`, hear, gone);
  /** @param {string} method @param {object} [params] @returns {Promise<any>} */
  const call = (method, params = {}) =>
    new Promise((resolve, reject) => {
      const id = (last += 1);
      waiting.set(id, ({ result, error, message }) => (error ? reject(new Error(message)) : resolve(result)));
      send(JSON.stringify({ id, method, params }));
    });
  await call('session.new', { capabilities: {} });
  return {
    /** @param {string} url */
    async open(url) {
      const { context } = await call('browsingContext.create', { type: 'tab' });
      await call('browsingContext.navigate', { context, url, wait: 'complete' });
      return {
        /** What an expression is, once it is known. @param {string} expression @returns {Promise<any>} */
        async evaluate(expression) {
          const { result, exceptionDetails } = await call('script.evaluate', {
            // What is not a string would come in BiDi's own spelling.
            expression: `Promise.resolve(${expression}).then((value) => JSON.stringify(value))`,
            awaitPromise: true,
            target: { context },
          });
          if (exceptionDetails) throw new Error(exceptionDetails.text);
          return result.value === undefined ? undefined : JSON.parse(result.value);
        },
      };
    },
    async close() {
      child.kill('SIGKILL');
      await over;
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
