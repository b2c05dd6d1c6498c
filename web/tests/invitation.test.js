import assert from 'node:assert/strict';
import test from 'node:test';
import { MAX_NAMED, bridgeFault, invitationLink, pageLink, peerFault, readAddress, withoutRouters } from '../ui/invitation.js';

const KEY = 'kJuwtq2bOIlHgGjhBmGs1xGPmM8CjQGT5kGg2e8xU0A';
const BRIDGE = `wss://bridge.example/link#${KEY}.${KEY}`;
const HASH = '3b7e1c00aa55'.padEnd(64, '0');
const PEER = `203.0.113.7:4431:${HASH}`;
const V1 = 'c9e15763f722f23e98a29decdfae341b98d53056';
const MAGNET = `magnet:?xt=urn:btih:${V1}&dn=a%20film`;
const e = encodeURIComponent;

test('an invitation names several routers and a torrent', () => {
  const second = `[2001:db8::7]:443:${KEY}#${V1}`;
  const hash = `#bridge=${e(BRIDGE)}&peer=${e(PEER)}&peer=${e(second)}&magnet=${e(MAGNET)}`;
  const found = readAddress(hash, { secure: true });
  assert.deepEqual(found, { bridges: [BRIDGE], peers: [PEER, second], magnet: MAGNET, faults: [] });
  assert.equal(withoutRouters(found), `#${MAGNET}`);
  assert.equal(withoutRouters(readAddress(`#bridge=${e(BRIDGE)}`)), '');
});

test('addresses without an invitation are read as before', () => {
  assert.deepEqual(readAddress(`#${MAGNET}`), { bridges: [], peers: [], magnet: MAGNET, faults: [] });
  assert.deepEqual(readAddress('#what-is-hidden'), { bridges: [], peers: [], magnet: null, faults: [] });
  assert.deepEqual(readAddress(''), { bridges: [], peers: [], magnet: null, faults: [] });
});

test('a magnet link behind magnet= as somebody pasted it', () => {
  assert.equal(readAddress(`#magnet=${MAGNET}&tr=udp%3A%2F%2Ft`).magnet, `${MAGNET}&tr=udp%3A%2F%2Ft`);
  assert.equal(readAddress(`#magnet=${V1}`).magnet, V1);
  assert.deepEqual(readAddress('#magnet=film').faults, [{ key: 'faultMagnet', values: { value: 'film' } }]);
});

test('what is wrong is told, what is right is kept', () => {
  const found = readAddress(`#peer=example.org&bridge=${e(BRIDGE)}&bridge=https%3A%2F%2Fx`);
  assert.deepEqual(found.bridges, [BRIDGE]);
  assert.deepEqual(found.faults, [
    { key: 'faultPeer', values: { value: 'example.org' } },
    { key: 'faultBridge', values: { value: 'https://x' } },
  ]);
});

test('lines of bridges', () => {
  assert.equal(bridgeFault(`ws://192.0.2.1:8080/link#${KEY}.${KEY}`, false), null);
  assert.equal(bridgeFault(`ws://192.0.2.1:8080/link#${KEY}.${KEY}`, true), 'faultInsecure');
  assert.equal(bridgeFault(`ws://127.0.0.1:8080/link#${KEY}.${KEY}`, true), null);
  for (const wrong of [
    `http://bridge.example/link#${KEY}.${KEY}`,
    `wss://bridge.example/link#${KEY}`,
    `wss://bridge.example/link#${KEY}.${KEY.slice(1)}`,
    // Two spare bits are not zero: another spelling of the same key.
    `wss://bridge.example/link#${KEY}.${KEY.slice(0, -1)}B`,
    `wss://user:word@bridge.example/link#${KEY}.${KEY}`,
    `wss://bridge.example/${'a'.repeat(600)}#${KEY}.${KEY}`,
    'javascript:alert(1)',
    '',
  ]) assert.equal(bridgeFault(wrong, false), 'faultBridge', wrong);
});

test('lines of peers', () => {
  assert.equal(peerFault(PEER), null);
  assert.equal(peerFault(`[::1]:9:${KEY}`), null);
  for (const wrong of [
    `203.0.113.7:0:${HASH}`,
    `203.0.113.7:65536:${HASH}`,
    `203.0.113.256:1:${HASH}`,
    `203.0.113.7:1:${HASH.slice(1)}`,
    `[::zz]:1:${HASH}`,
    `2001:db8::7:1:${HASH}`,
    // A name would be looked up where the provider sees it.
    `peer.example:1:${HASH}`,
    `203.0.113.7:${HASH}`,
    '',
  ]) assert.equal(peerFault(wrong), 'faultPeer', wrong);
});

test('no more routers than the limit, each once', () => {
  const many = Array.from({ length: 40 }, (_, i) => `peer=${e(`203.0.113.${i}:1:${HASH}`)}`).join('&');
  assert.equal(readAddress(`#${many}`).peers.length, MAX_NAMED);
  assert.deepEqual(readAddress(`#peer=${e(PEER)}&peer=${e(PEER)}`).peers, [PEER]);
  assert.equal(readAddress(`#${'peer=x&'.repeat(100)}`).faults.length, MAX_NAMED);
});

test('what cannot be decoded is wrong and nothing worse', () => {
  assert.equal(readAddress('#bridge=%E0%A4%A').faults.length, 1);
  assert.equal(readAddress('#bridge').magnet, null);
  assert.equal(readAddress('#bridge=').faults.length, 1);
});

test('links that are handed on are read again', () => {
  const page = 'https://bridge.example/chive/#old';
  const link = pageLink(page, MAGNET);
  assert.match(link, /^https:\/\/bridge\.example\/chive\/#magnet=magnet%3A/);
  assert.equal(readAddress(new URL(link).hash).magnet, MAGNET);
  const invitation = invitationLink(page, `#bridge=${e(BRIDGE)}&peer=${e(PEER)}`);
  const found = readAddress(new URL(invitation).hash, { secure: true });
  assert.deepEqual([found.bridges, found.peers, found.faults], [[BRIDGE], [PEER], []]);
});
