import assert from 'node:assert/strict';
import test from 'node:test';
import { isCandidate, readCandidate, readDescription, writeCandidate, writeDescription, writeRoutersAnswer } from '../sdp.js';

const PRINT = Array.from({ length: 32 }, (_, index) => (index + 160).toString(16).toUpperCase().padStart(2, '0'));
const SHA256 = PRINT.join('').toLowerCase();
const NAME = '0b2e36a1-4f57-4c1d-9e8a-3d5f6a7b8c9d.local';
const MDNS = `candidate:2999745851 1 udp 2113937151 ${NAME} 54321 typ host generation 0 ufrag aB3+ network-cost 999`;

/** What Chromium writes. */
const CHROMIUM = `v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=${MDNS}
a=ice-ufrag:aB3+
a=ice-pwd:0123456789abcdefghij/+xy
a=ice-options:trickle
a=fingerprint:sha-256 ${PRINT.join(':')}
a=setup:actpass
a=mid:0
a=sctp-port:5000
a=max-message-size:262144
`.replaceAll('\n', '\r\n');

/** What Firefox writes: the fingerprint stands before the medium. */
const FIREFOX = `v=0
o=mozilla...THIS_IS_SDPARTA-99.0 7164586117829837396 0 IN IP4 0.0.0.0
s=-
t=0 0
a=fingerprint:sha-256 ${PRINT.join(':')}
a=group:BUNDLE 0
a=ice-options:trickle
a=msid-semantic:WMS *
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=sendrecv
a=ice-pwd:b8e8e8e8e8e8e8e8e8e8e8e8e8e8e8e8
a=ice-ufrag:f00dcafe
a=mid:0
a=setup:active
a=sctp-port:5000
a=max-message-size:1073741823
`.replaceAll('\n', '\r\n');

const DESCRIPTION = {
  ufrag: 'aB3+',
  password: '0123456789abcdefghij/+xy',
  certificate_sha256: SHA256,
  candidates: [{ kind: 'host', host: NAME, port: 54321, priority: 2113937151 }],
};

test('what browsers write is read', () => {
  assert.deepEqual(readDescription(CHROMIUM), DESCRIPTION);
  assert.deepEqual(readDescription(FIREFOX), {
    ufrag: 'f00dcafe',
    password: 'b8e8e8e8e8e8e8e8e8e8e8e8e8e8e8e8',
    certificate_sha256: SHA256,
    candidates: [],
  });
});

test('what is written is read back', () => {
  for (const type of /** @type {const} */ (['offer', 'answer'])) {
    const sdp = writeDescription(type, DESCRIPTION);
    assert.deepEqual(readDescription(sdp), DESCRIPTION);
    assert.match(sdp, type === 'offer' ? /\r\na=setup:actpass\r\n/ : /\r\na=setup:active\r\n/);
  }
  for (const candidate of [
    ...DESCRIPTION.candidates,
    { kind: 'srflx', host: '203.0.113.9', port: 1, priority: 1 },
    { kind: 'relay', host: '2001:db8::9', port: 65535, priority: 2147483647 },
  ]) {
    assert.deepEqual(readCandidate(writeCandidate(candidate)), candidate);
  }
});

test('a description that does not fit is none', () => {
  const without = (what) => readDescription(CHROMIUM.replace(what, ''));
  assert.equal(readDescription(''), null);
  assert.equal(without(/a=ice-ufrag:.*\r\n/), null);
  assert.equal(without(/a=ice-pwd:.*\r\n/), null);
  assert.equal(without(/a=fingerprint:.*\r\n/), null);
  assert.equal(without(/m=.*\r\n/), null);
  const instead = (from, to) => readDescription(CHROMIUM.replace(from, to));
  assert.equal(instead('ice-ufrag:aB3+', 'ice-ufrag:aB3'), null);
  assert.equal(instead('ice-ufrag:aB3+', 'ice-ufrag:aB3 +'), null);
  assert.equal(instead('ice-ufrag:aB3+', `ice-ufrag:${'a'.repeat(65)}`), null);
  assert.equal(instead('sha-256', 'sha-1'), null);
  assert.equal(instead(':A1:', ':A1A1:'), null);
  assert.equal(instead('m=application', 'm=audio'), null);
  assert.equal(instead('m=application', 'm=audio 9 RTP/SAVP 0\r\nm=application'), null);
  // Two that contradict each other are no answer to whom it is.
  assert.equal(instead('a=mid:0', `a=fingerprint:sha-256 ${PRINT.toReversed().join(':')}`), null);
  assert.equal(readDescription(CHROMIUM + `a=x:${'y'.repeat(20_000)}\r\n`), null);
});

test('candidates that do not fit are dropped, the others stay', () => {
  const lines = [
    MDNS.replace(' udp ', ' tcp '),
    MDNS.replace(' 1 udp', ' 2 udp'),
    MDNS.replace('54321', '0'),
    MDNS.replace('54321', '65536'),
    MDNS.replace('54321', '-1'),
    MDNS.replace('54321', '1e3'),
    MDNS.replace('2113937151', '4294967296'),
    MDNS.replace(NAME, 'router.example'),
    MDNS.replace(NAME, 'x.local'),
    MDNS.replace(NAME, '10.0.0.256'),
    MDNS.replace(NAME, '[::1]'),
    MDNS.replace(NAME, ':'),
    MDNS.replace(NAME, 'fe80::1%eth0'),
    MDNS.replace('typ host', 'typ nearby'),
    MDNS.replace('typ host', 'host'),
    'candidate:',
    'candidate:1 1 udp',
    `${MDNS} ${'x'.repeat(600)}`,
  ];
  for (const line of lines) assert.equal(readCandidate(line), null, line);
  const sdp = CHROMIUM.replace(`a=${MDNS}`, [...lines, MDNS].map((line) => `a=${line}`).join('\r\n'));
  assert.deepEqual(readDescription(sdp), DESCRIPTION);
  const many = CHROMIUM.replace(`a=${MDNS}`, Array(40).fill(`a=${MDNS}`).join('\r\n'));
  assert.equal(readDescription(many).candidates.length, 6);
});

test('nothing of a peer adds a line', () => {
  const breaks = '\r\na=setup:passive';
  for (const field of ['ufrag', 'password', 'certificate_sha256']) {
    const value = DESCRIPTION[field] + breaks;
    assert.equal(writeDescription('offer', { ...DESCRIPTION, [field]: value }), null, field);
  }
  const [candidate] = DESCRIPTION.candidates;
  for (const [field, value] of [
    ['host', NAME + breaks],
    ['host', `10.0.0.1${breaks}`],
    ['host', { toString: () => NAME }],
    ['kind', `host${breaks}`],
    ['port', `9${breaks}`],
    ['port', 0],
    ['port', 65536],
    ['port', 9.5],
    ['priority', '1 1'],
    ['priority', 2 ** 31],
  ]) {
    const bad = { ...candidate, [field]: value };
    assert.equal(isCandidate(bad), false, `${field} ${value}`);
    assert.equal(writeDescription('offer', { ...DESCRIPTION, candidates: [bad] }), null);
  }
  assert.equal(writeDescription('offer', { ...DESCRIPTION, candidates: null }), null);
  assert.equal(isCandidate(null), false);
});

test('the answer that a router would give', () => {
  const router = {
    certificate_sha256: '0'.repeat(64),
    addresses: [
      { host: '203.0.113.9', port: 9001 },
      { host: '2001:db8::9', port: 9001 },
    ],
  };
  const lines = writeRoutersAnswer(SHA256, router).split('\r\n');
  // 43 letters, all of them ICE's: the server reads the hash back out of them.
  const user = lines.find((line) => line.startsWith('a=ice-ufrag:')).slice(12);
  assert.match(user, /^[A-Za-z0-9+/]{43}$/);
  assert.equal(Buffer.from(user, 'base64').toString('hex'), SHA256);
  assert.ok(lines.includes(`a=ice-pwd:${user}`));
  assert.ok(lines.includes(`a=fingerprint:sha-256 ${Array(32).fill('00').join(':')}`));
  assert.ok(lines.includes('a=setup:passive') && lines.includes('a=end-of-candidates'));
  assert.ok(lines.indexOf('a=ice-lite') < lines.findIndex((line) => line.startsWith('m=')));
  assert.equal(lines.filter((line) => /^a=candidate:1 1 udp \d+ \S+ 9001 typ host$/.test(line)).length, 2);

  const other = (change) => writeRoutersAnswer(SHA256, { ...router, ...change });
  assert.equal(other({ addresses: [] }), null);
  assert.equal(other({ addresses: [{ host: 'router.example', port: 9001 }] }), null);
  assert.equal(other({ addresses: [{ host: '203.0.113.9', port: 0 }] }), null);
  assert.equal(other({ certificate_sha256: 'zz' }), null);
  assert.equal(writeRoutersAnswer('', router), null);
});
