// @ts-check
/** Files to share: where they lie in their torrent, and the workers that make it. */

/**
 * Where files will lie: in a folder of that name, or one file without.
 * @param {(File | {path: string | string[], file: File})[]} files
 * @param {string} [name]
 * @returns {{folder: string | undefined, items: {path: string[], file: File}[]}}
 */
export function laidOut(files, name) {
  let items = files.map((one) => {
    const file = one instanceof File ? one : one.file;
    const path = one instanceof File ? one.webkitRelativePath || one.name : one.path;
    return { path: (typeof path === 'string' ? path.split('/') : path).filter((part) => part !== ''), file };
  });
  if (items.length === 1 && items[0].path.length === 1) return { folder: undefined, items };
  // A folder that all lie in is the torrent's own.
  const [top] = items[0]?.path ?? [];
  if (items.every(({ path }) => path.length > 1 && path[0] === top)) {
    items = items.map(({ path, file }) => ({ path: path.slice(1), file }));
    name ||= top;
  }
  return { folder: name || 'Shared with Chive', items };
}

/**
 * Makes a torrent in a worker of its own.
 * @param {{folder: string | undefined, files: {path: string[], file: File}[]}} what
 * @param {AbortSignal} [signal]
 * @param {(progress: {hashed_bytes: number, total_bytes: number}) => void} [onprogress]
 * @returns {Promise<{bytes: Uint8Array, order: number[]}>}
 */
export function hashed(what, signal, onprogress) {
  const worker = new Worker(new URL('./share.js', import.meta.url), { type: 'module', name: 'chive-share' });
  const workers = [worker];
  const made = new Promise((resolve, reject) => {
    const fail = (/** @type {ErrorEvent} */ { message }) => reject(new Error(message || 'The files could not be hashed.'));
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    worker.onmessage = ({ data }) => {
      if (data.hasher) {
        const hasher = new Worker(new URL('./hash.js', import.meta.url), { type: 'module', name: 'chive-hash' });
        workers.push(hasher);
        hasher.onerror = fail;
        hasher.postMessage({ port: data.hasher }, [data.hasher]);
      } else if (data.bytes) resolve(data);
      else if (data.error) reject(new Error(data.error));
      else onprogress?.(data);
    };
    worker.onerror = fail;
    worker.postMessage(what);
  });
  return made.finally(() => workers.forEach((one) => one.terminate()));
}
