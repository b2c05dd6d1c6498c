// @ts-check
/// <reference lib="webworker" />
/**
 * Makes a torrent of files: a worker of its own, which leads others that hash. The
 * page makes those: in Firefox a worker that makes one may stand still for ever.
 * Files are read by slices; no more of them is in memory than is being hashed.
 *
 * From the page: `{folder, files: [{path: [folder, …, name], file}, …]}`. To the
 * page: `{hasher: a port}` for each `hash.js` that is to be made and given it,
 * `{hashed_bytes, total_bytes}`, then `{bytes, order}` or `{error}`. Who ends
 * the workers cancels.
 */

/** What a worker is given at a time, and the least that is read of a large file at once. */
const JOB_BYTES = 8 * 2 ** 20;
/** Jobs that each worker has: it reads one while it hashes the other. */
const JOBS_EACH = 2;
const MAX_WORKERS = 4;
/** How often the page is told. */
const PROGRESS_MS = 100;

/** @typedef {{path: string[], file: File}} Item */
/** @typedef {{piece: number, file: number, start: number, length: number, padded: number}} Shape */

self.onmessage = async ({ data }) => {
  try {
    const { bytes, order } = await make(data);
    self.postMessage({ bytes, order }, { transfer: [bytes.buffer] });
  } catch (error) {
    self.postMessage({ error: error instanceof Error ? error.message : String(error) });
  }
};

/** @param {{folder: string | undefined, files: Item[]}} what */
async function make({ folder, files }) {
  const url = new URL('./chive_node_bg.wasm', import.meta.url);
  // @ts-ignore: the build lays it beside this file
  const node = await import('./chive_node.js');
  await node.default({ module_or_path: url });
  const creation = new node.Creation(folder, JSON.stringify(files.map(({ path, file }) => ({ path, length: file.size }))));
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  const jobs = plan(creation);
  const workers = Math.max(1, Math.min(MAX_WORKERS, navigator.hardwareConcurrency ?? 2));
  let told = 0;
  await Promise.all(
    Array.from({ length: workers }, () => {
      const { port1: worker, port2: hasher } = new MessageChannel();
      self.postMessage({ hasher }, { transfer: [hasher] });
      return work(worker, jobs, files, (piece, hashes) => {
        creation.set_piece(piece, hashes);
        if (performance.now() - told < PROGRESS_MS) return;
        told = performance.now();
        self.postMessage({ hashed_bytes: creation.hashed_bytes(), total_bytes: total });
      });
    }),
  );
  self.postMessage({ hashed_bytes: total, total_bytes: total });
  const order = Array.from(creation.order());
  return { bytes: creation.finish(), order };
}

/**
 * Pieces, some at a time: of a large file as many as lie side by side, of small ones together.
 * @param {any} creation
 */
function* plan(creation) {
  /** @type {Shape[]} */
  let job = [];
  let size = 0;
  for (let piece = 0; piece < creation.piece_count(); piece += 1) {
    const [file, start, length, padded] = creation.shape(piece);
    job.push({ piece, file, start, length, padded });
    size += length;
    if (size < JOB_BYTES) continue;
    yield job;
    job = [];
    size = 0;
  }
  if (job.length > 0) yield job;
}

/**
 * @param {MessagePort} worker
 * @param {Generator<Shape[], void>} jobs shared with the other workers
 * @param {Item[]} files
 * @param {(piece: number, hashes: Uint8Array) => void} take
 * @returns {Promise<void>}
 */
function work(worker, jobs, files, take) {
  return new Promise((resolve, reject) => {
    let out = 0;
    const give = () => {
      const { value: job, done } = jobs.next();
      if (done || !job) return;
      out += 1;
      /** @type {{blob: Blob, shapes: Shape[]}[]} what lies side by side is read at once */
      const parts = [];
      for (const shape of job) {
        const last = parts.at(-1)?.shapes;
        const before = last?.at(-1);
        if (last && before?.file === shape.file) last.push(shape);
        else parts.push({ blob: new Blob(), shapes: [shape] });
      }
      for (const part of parts) {
        const first = part.shapes[0];
        const end = part.shapes.reduce((at, { length }) => at + length, first.start);
        part.blob = files[first.file].file.slice(first.start, end);
      }
      worker.postMessage({ parts });
    };
    worker.onmessage = ({ data }) => {
      if (data.error) {
        reject(new Error(data.error));
        return;
      }
      try {
        for (const [piece, hashes] of data.hashed) take(piece, hashes);
      } catch (error) {
        reject(error);
        return;
      }
      out -= 1;
      give();
      if (out === 0) resolve();
    };
    for (let jobsOut = 0; jobsOut < JOBS_EACH; jobsOut += 1) give();
    if (out === 0) resolve();
  });
}
