// @ts-check
// A Chromium of one's own, and pages in it, by the DevTools protocol.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-quic',
  '--no-first-run',
  '--no-default-browser-check',
  '--disable-background-networking',
  '--disable-breakpad',
  '--disable-component-update',
  '--disable-sync',
  '--remote-debugging-pipe',
];

/** Where it lies, if it is installed. */
export function findChromium() {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
}

/** @param {string} program @param {string[]} [further] more flags */
export async function start(program, further = []) {
  const profile = await mkdtemp(join(tmpdir(), 'chive-rtc-'));
  const child = spawn(program, [...FLAGS, ...further, `--user-data-dir=${profile}`, 'about:blank'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
  });
  const over = new Promise((resolve) => child.once('exit', resolve));
  const [to, from] = /** @type {any} */ (child.stdio.slice(3));
  to.on('error', () => {});
  let last = 0;
  let text = '';
  /** @type {Map<number, (answer: any) => void>} */
  const waiting = new Map();
  from.setEncoding('utf8').on('data', (/** @type {string} */ part) => {
    const messages = (text + part).split('\0');
    text = messages.pop() ?? '';
    for (const message of messages) {
      const answer = JSON.parse(message);
      waiting.get(answer.id)?.(answer);
      waiting.delete(answer.id);
    }
  });
  over.then(() => waiting.forEach((tell) => tell({ error: { message: 'the browser ended' } })));
  /** @param {string} method @param {object} [params] @param {string} [sessionId] @returns {Promise<any>} */
  const call = (method, params = {}, sessionId) =>
    new Promise((resolve, reject) => {
      const id = (last += 1);
      waiting.set(id, ({ result, error }) => (error ? reject(new Error(error.message)) : resolve(result)));
      to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  return {
    /** @param {string} url */
    async open(url) {
      const { targetId } = await call('Target.createTarget', { url });
      const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
      return {
        /** What an expression is, once it is known. @param {string} expression @returns {Promise<any>} */
        async evaluate(expression) {
          const params = { expression, awaitPromise: true, returnByValue: true };
          const { result, exceptionDetails } = await call('Runtime.evaluate', params, sessionId);
          if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
          return result.value;
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
