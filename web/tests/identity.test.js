import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';
import test from 'node:test';
import { Identity } from '../identity.js';

test('keys sign, and both are what Tor has', async () => {
  const identity = await Identity.create();
  const message = new TextEncoder().encode('chive');

  const rsa = createPublicKey({ key: Buffer.from(identity.rsa), format: 'der', type: 'spki' });
  assert.deepEqual(rsa.asymmetricKeyDetails, { modulusLength: 1024, publicExponent: 65537n });
  const byRsa = await identity.sign('rsa', message);
  assert.equal(byRsa.length, 128);
  assert.ok(verify('sha256', message, rsa, byRsa));

  const x = Buffer.from(identity.ed25519).toString('base64url');
  const ed25519 = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const byEd25519 = await identity.sign('ed25519', message);
  assert.equal(byEd25519.length, 64);
  assert.ok(verify(null, message, ed25519, byEd25519));
  assert.ok(!verify(null, new Uint8Array([...message, 0]), ed25519, byEd25519));
});

test('each session is somebody else', async () => {
  const [one, other] = [await Identity.create(), await Identity.create()];
  assert.notDeepEqual(one.rsa, other.rsa);
  assert.notDeepEqual(one.ed25519, other.ed25519);
});
