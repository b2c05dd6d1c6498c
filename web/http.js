// @ts-check
/**
 * What HTTP says of a file: ranges and response heads, as RFC 9110 has them.
 * Pure, so that it is tested without a browser; the worker answers with it.
 */

/**
 * @typedef {object} Request what the service worker passes on of a fetch
 * @property {string} method
 * @property {string | null} range the Range header
 * @property {string | null} ifRange the If-Range header
 * @property {boolean} save whether the file is to be saved instead of shown
 */

/**
 * @typedef {object} Head
 * @property {number} status
 * @property {[string, string][]} headers
 * @property {number} start first byte of the body within the file
 * @property {number} end one past the last byte of the body; equals `start` where there is no body
 */

/**
 * Reads a Range header.
 *
 * Several ranges at once, other units and nonsense are no range: RFC 9110 lets
 * a server answer those with the whole.
 *
 * @param {string | null | undefined} header
 * @param {number} length of the file
 * @returns {{start: number, end: number} | 'whole' | 'unsatisfiable'} `end` is exclusive
 */
export function parseRange(header, length) {
  const match = /^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header ?? '');
  if (!match) return 'whole';
  const [, first, last] = match;
  if (first === '' && last === '') return 'whole';
  if (first === '') {
    const suffix = Math.min(Number(last), length);
    return suffix === 0 ? 'unsatisfiable' : { start: length - suffix, end: length };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return 'whole';
  if (start >= length) return 'unsatisfiable';
  const end = last === '' ? length : Math.min(Number(last) + 1, length);
  return { start, end };
}

/**
 * The head of the answer to one request for a file.
 *
 * The bytes are a stranger's and the address is in our origin, so whatever the
 * bytes say of themselves, they never become a document that runs anything.
 *
 * @param {Request} request
 * @param {{name: string, type: string, inline: boolean, length: number, etag: string}} file
 * @returns {Head}
 */
export function headFor(request, file) {
  /** @type {[string, string][]} */
  const headers = [
    ['Accept-Ranges', 'bytes'],
    ['Cache-Control', 'no-store'],
    ['Content-Security-Policy', "sandbox; default-src 'none'"],
    ['Cross-Origin-Resource-Policy', 'same-origin'],
    ['Referrer-Policy', 'no-referrer'],
    ['X-Content-Type-Options', 'nosniff'],
  ];
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    headers.push(['Allow', 'GET, HEAD'], ['Content-Length', '0']);
    return { status: 405, headers, start: 0, end: 0 };
  }
  // The infohash names the bytes, so the tag is as strong as a tag can be.
  headers.push(['ETag', file.etag]);
  const stale = request.ifRange !== null && request.ifRange !== file.etag;
  const range = stale ? 'whole' : parseRange(request.range, file.length);
  if (range === 'unsatisfiable') {
    headers.push(['Content-Range', `bytes */${file.length}`], ['Content-Length', '0']);
    return { status: 416, headers, start: 0, end: 0 };
  }
  const { start, end } = range === 'whole' ? { start: 0, end: file.length } : range;
  headers.push(['Content-Type', file.type], ['Content-Length', String(end - start)]);
  if (request.save || !file.inline) headers.push(['Content-Disposition', attachment(file.name)]);
  if (range !== 'whole') headers.push(['Content-Range', `bytes ${start}-${end - 1}/${file.length}`]);
  return {
    status: range === 'whole' ? 200 : 206,
    headers,
    start,
    end: request.method === 'HEAD' ? start : end,
  };
}

/**
 * Content-Disposition for a file to save (RFC 6266), its name in both spellings.
 * @param {string} name
 */
export function attachment(name) {
  const safe = name.replace(/[\p{Cc}\p{Cs}"\\/]/gu, '_');
  const ascii = safe.replace(/[^\x20-\x7e]|%/g, '_');
  const utf8 = encodeURIComponent(safe).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return `attachment; filename="${ascii}"; filename*=UTF-8''${utf8}`;
}
