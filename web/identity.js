// @ts-check
/**
 * Who this tab is for one session. The keys are the browser's: they cannot be
 * read out, not even by us, and are gone with the tab.
 */

/** What signs, and the public halves. */
export class Identity {
  #keys;

  /**
   * @param {{rsa: CryptoKey, ed25519: CryptoKey}} keys
   * @param {Uint8Array} rsa its public half as SubjectPublicKeyInfo
   * @param {Uint8Array} ed25519 its public half
   */
  constructor(keys, rsa, ed25519) {
    this.#keys = keys;
    this.rsa = rsa;
    this.ed25519 = ed25519;
  }

  /**
   * New keys of Tor's kinds.
   * @returns {Promise<Identity>} rejects with a sentence where the browser cannot
   */
  static async create() {
    const subtle = globalThis.crypto?.subtle;
    if (!subtle) throw new Error('the page did not come over https, and browsers then make no keys');
    const rsa = subtle.generateKey(
      { name: 'RSASSA-PKCS1-v1_5', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' },
      false,
      ['sign', 'verify'],
    );
    const ed25519 = subtle.generateKey({ name: 'Ed25519' }, false, ['sign', 'verify']);
    const [ofRsa, ofEd25519] = await Promise.all([
      rsa.catch(() => Promise.reject(new Error('this browser makes no RSA keys of 1024 bits'))),
      ed25519.catch(() => Promise.reject(new Error('this browser does not know Ed25519'))),
    ]);
    const pair = /** @type {CryptoKeyPair} */ (ofEd25519);
    const publicRsa = await subtle.exportKey('spki', ofRsa.publicKey);
    const publicEd25519 = await subtle.exportKey('raw', pair.publicKey);
    const keys = { rsa: ofRsa.privateKey, ed25519: pair.privateKey };
    return new Identity(keys, new Uint8Array(publicRsa), new Uint8Array(publicEd25519));
  }

  /**
   * @param {'rsa' | 'ed25519'} key
   * @param {Uint8Array<ArrayBuffer>} message
   */
  async sign(key, message) {
    const name = key === 'rsa' ? 'RSASSA-PKCS1-v1_5' : 'Ed25519';
    return new Uint8Array(await crypto.subtle.sign(name, this.#keys[key], message));
  }
}
