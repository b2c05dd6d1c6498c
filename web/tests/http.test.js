import assert from 'node:assert/strict';
import test from 'node:test';
import { attachment, headFor, parseRange } from '../http.js';

const FILM = { name: 'film.mp4', type: 'video/mp4', inline: true, length: 1000, etag: '"cafe-0"' };
const GET = { method: 'GET', range: null, ifRange: null, save: false };
const head = (request, file = FILM) => {
  const { status, headers, start, end } = headFor({ ...GET, ...request }, file);
  return { status, start, end, headers: Object.fromEntries(headers) };
};

test('ranges', () => {
  for (const [header, length, wanted] of [
    ['bytes=0-', 1000, { start: 0, end: 1000 }],
    ['bytes=0-0', 1000, { start: 0, end: 1 }],
    ['bytes=10-19', 1000, { start: 10, end: 20 }],
    ['bytes=990-5000', 1000, { start: 990, end: 1000 }],
    ['bytes=-10', 1000, { start: 990, end: 1000 }],
    ['bytes=-5000', 1000, { start: 0, end: 1000 }],
    ['Bytes = 5 - 6', 1000, { start: 5, end: 7 }],
    ['bytes=1000-', 1000, 'unsatisfiable'],
    ['bytes=0-', 0, 'unsatisfiable'],
    ['bytes=-0', 1000, 'unsatisfiable'],
    ['bytes=99999999999999999999-', 1000, 'unsatisfiable'],
    [null, 1000, 'whole'],
    ['', 1000, 'whole'],
    ['bytes=-', 1000, 'whole'],
    ['bytes=5-2', 1000, 'whole'],
    ['bytes=0-1,3-4', 1000, 'whole'],
    ['chunks=0-1', 1000, 'whole'],
    ['bytes=a-b', 1000, 'whole'],
  ]) {
    assert.deepEqual(parseRange(header, length), wanted, `${header} of ${length}`);
  }
});

test('a range is answered with 206 and exact lengths', () => {
  const { status, start, end, headers } = head({ range: 'bytes=10-19' });
  assert.deepEqual([status, start, end], [206, 10, 20]);
  assert.equal(headers['Content-Range'], 'bytes 10-19/1000');
  assert.equal(headers['Content-Length'], '10');
  assert.equal(headers['Accept-Ranges'], 'bytes');
  assert.equal(headers['Content-Type'], 'video/mp4');
  assert.equal(headers['Content-Disposition'], undefined);
});

test('no range is answered with 200 and the whole', () => {
  const { status, start, end, headers } = head({});
  assert.deepEqual([status, start, end], [200, 0, 1000]);
  assert.equal(headers['Content-Length'], '1000');
  assert.equal(headers['Content-Range'], undefined);
});

test('HEAD has the same headers and no body', () => {
  const { status, start, end, headers } = head({ method: 'HEAD', range: 'bytes=-100' });
  assert.equal(status, 206);
  assert.equal(start, end);
  assert.equal(headers['Content-Length'], '100');
});

test('a range outside is answered with 416', () => {
  const { status, start, end, headers } = head({ range: 'bytes=1000-' });
  assert.equal(status, 416);
  assert.equal(start, end);
  assert.equal(headers['Content-Range'], 'bytes */1000');
});

test('If-Range holds for this infohash only', () => {
  assert.equal(head({ range: 'bytes=5-', ifRange: '"cafe-0"' }).status, 206);
  assert.equal(head({ range: 'bytes=5-', ifRange: '"beef-0"' }).status, 200);
});

test('other methods are refused', () => {
  const { status, headers } = head({ method: 'POST' });
  assert.equal(status, 405);
  assert.equal(headers.Allow, 'GET, HEAD');
});

test('content is harmless in our origin, whatever is answered', () => {
  for (const request of [{}, { range: 'bytes=0-1' }, { range: 'bytes=9999-' }, { method: 'POST' }, { save: true }]) {
    const { headers } = head(request);
    assert.match(headers['Content-Security-Policy'], /^sandbox; default-src 'none'$/);
    assert.equal(headers['X-Content-Type-Options'], 'nosniff');
  }
});

test('saved: on demand, and always where the type is not a known one', () => {
  assert.match(head({ save: true }).headers['Content-Disposition'], /^attachment; filename="film\.mp4"/);
  const page = { ...FILM, name: 'a.html', type: 'application/octet-stream', inline: false };
  assert.match(head({}, page).headers['Content-Disposition'], /^attachment/);
});

test('names to save by', () => {
  assert.equal(attachment('a "b".mp4'), "attachment; filename=\"a _b_.mp4\"; filename*=UTF-8''a%20_b_.mp4");
  assert.equal(attachment('فیلم.mp4'), "attachment; filename=\"____.mp4\"; filename*=UTF-8''%D9%81%DB%8C%D9%84%D9%85.mp4");
  assert.equal(attachment("it's (1)*\r\nX: y"), "attachment; filename=\"it's (1)*__X: y\"; filename*=UTF-8''it%27s%20%281%29%2A__X%3A%20y");
  assert.equal(attachment('\ud800/..\\x'), "attachment; filename=\"__.._x\"; filename*=UTF-8''__.._x");
});
