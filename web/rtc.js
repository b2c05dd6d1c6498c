// @ts-check
/**
 * WebRTC for the node, which lives in a worker where browsers have no
 * RTCPeerConnection: here connections are made, and their data channels are
 * handed to the worker.
 *
 * From the worker, each with the link's number:
 * - `{rtc: 'dial', link, addresses: [{host, port}], certificate_sha256}`: a native router, without signalling
 * - `{rtc: 'offer', link}`, `{rtc: 'answer', link, description}`: a peer that is being introduced
 * - `{rtc: 'signal', link, signal}`: what that peer says further
 * - `{rtc: 'opened', link}`, `{rtc: 'close', link}`
 *
 * To the worker: `{rtc: 'channel', link, channel}` or `{rtc: 'channel', link, port}`,
 * `{rtc: 'signal', link, signal}`, `{rtc: 'closed', link, why}`.
 *
 * A signal is `{form: 'offer' | 'answer', ...Description}` or `{form: 'candidate', ...Candidate}`.
 */
import { servePort } from './channel.js';
import { isCandidate, readCandidate, readDescription, writeCandidate, writeDescription, writeRoutersAnswer } from './sdp.js';

/** How long a connection may take to be made. */
const OPEN_TIMEOUT_MS = 30_000;
/** How long a connection that is let go may still send what its channel holds. */
const LINGER_MS = 5_000;
/**
 * Connections at once: a browser affords some tens. The node fills it by its
 * own dials and by introductions; one more is refused.
 */
const MAX_CONNECTIONS = 64;
/** Candidates that are taken from one peer: each is an address that we send to. Further ones are dropped. */
const MAX_REMOTE_CANDIDATES = 16;

/** @typedef {import('./sdp.js').Candidate} Candidate */
/** @typedef {(message: object, transfer?: Transferable[]) => void} Tell */

/** Whether a data channel can be moved to a worker; not known before it was tried. */
let movesChannels = true;

/** The connections of one node. */
export class Connections {
  #tell;
  #certificate;
  #iceServers;
  /** @type {Map<number, Connection>} */
  #connections = new Map();

  /**
   * @param {object} settings
   * @param {RTCCertificate} settings.certificate
   * @param {string} settings.certificate_sha256 64 hex digits
   * @param {string[]} [settings.stun] `stun:HOST:PORT`, who tell us how we are seen
   * @param {Tell} settings.tell to the worker
   */
  constructor({ certificate, certificate_sha256, stun = [], tell }) {
    this.#certificate = certificate;
    this.certificate_sha256 = certificate_sha256;
    /** @type {RTCIceServer[]} */
    this.#iceServers = [];
    this.setStun(stun);
    this.#tell = tell;
  }

  /**
   * Who tell connections that are made from now on how they are seen.
   * @param {string[]} stun `stun:HOST:PORT`
   */
  setStun(stun) {
    this.#iceServers = stun.length ? [{ urls: stun }] : [];
  }

  /**
   * With a new certificate, which all connections of the session show.
   * @param {Tell} tell
   * @param {string[]} [stun]
   * @returns {Promise<Connections | null>} null where the browser has no WebRTC
   */
  static async create(tell, stun) {
    if (typeof RTCPeerConnection !== 'function') return null;
    try {
      const certificate = await RTCPeerConnection.generateCertificate(
        /** @type {any} */ ({ name: 'ECDSA', namedCurve: 'P-256' }),
      );
      const certificate_sha256 = await fingerprint(certificate);
      return new Connections({ certificate, certificate_sha256, stun, tell });
    } catch (error) {
      console.warn('Chive goes on without WebRTC:', error);
      return null;
    }
  }

  /** @param {any} message from the worker */
  handle(message) {
    const { rtc, link } = message;
    const known = this.#connections.get(link);
    if (rtc === 'close') known?.letGo();
    else if (rtc === 'opened') known?.opened();
    else if (rtc === 'signal') known?.signal(message.signal);
    else if (!known) this.#make(message);
  }

  /** Ends all at once. */
  close() {
    for (const connection of this.#connections.values()) connection.end();
  }

  /** @param {any} message */
  #make(message) {
    const { link } = message;
    if (this.#connections.size >= MAX_CONNECTIONS) {
      this.#tell({ rtc: 'closed', link, why: `this tab has ${MAX_CONNECTIONS} connections, which are all it takes` });
      return;
    }
    let peer;
    try {
      peer = new RTCPeerConnection({
        certificates: [this.#certificate],
        // A router that is dialled by its address sees us as we are.
        iceServers: message.rtc === 'dial' ? [] : this.#iceServers,
      });
    } catch (error) {
      this.#tell({ rtc: 'closed', link, why: `the browser makes no connection (${clause(error)})` });
      return;
    }
    const forget = () => this.#connections.delete(link);
    const connection = new Connection(link, peer, this.#tell, forget);
    this.#connections.set(link, connection);
    if (message.rtc === 'dial') connection.dial(this.certificate_sha256, message);
    else if (message.rtc === 'offer') connection.offer();
    else connection.answer(message.description);
  }
}

/** One connection with its one data channel. */
class Connection {
  #link;
  #peer;
  #tell;
  #forget;
  /** Signals are taken one after the other. */
  #turn = Promise.resolve();
  /** Whether the peer is told of candidates; those before are in the description. */
  #trickles = false;
  #remoteCandidates = 0;
  #wasConnected = false;
  #ended = false;
  #timer;

  /**
   * @param {number} link
   * @param {RTCPeerConnection} peer
   * @param {Tell} tell
   * @param {() => void} forget
   */
  constructor(link, peer, tell, forget) {
    this.#link = link;
    this.#peer = peer;
    this.#tell = tell;
    this.#forget = forget;
    this.#timer = setTimeout(() => this.#fail('no connection stood within 30 seconds'), OPEN_TIMEOUT_MS);
    peer.onconnectionstatechange = () => this.#changed();
    peer.onicecandidate = ({ candidate }) => {
      const told = this.#trickles && candidate && readCandidate(candidate.candidate);
      if (told) this.#signal({ form: 'candidate', ...told });
    };
    this.#handOver(peer.createDataChannel('', { negotiated: true, id: 0 }));
  }

  /**
   * @param {string} own_sha256
   * @param {{addresses: {host: string, port: number}[], certificate_sha256: string}} router
   */
  dial(own_sha256, router) {
    this.#next(async () => {
      const sdp = writeRoutersAnswer(own_sha256, router);
      if (sdp === null) throw new Error('its address is not one that can be dialled');
      await this.#peer.setLocalDescription();
      await this.#peer.setRemoteDescription({ type: 'answer', sdp });
    });
  }

  offer() {
    this.#next(() => this.#describe('offer'));
  }

  /** @param {any} description */
  answer(description) {
    this.#next(async () => {
      await this.#hear('offer', description);
      await this.#describe('answer');
    });
  }

  /** @param {any} signal from the other side */
  signal(signal) {
    if (signal.form === 'answer') {
      this.#next(() => this.#hear('answer', signal));
    } else if (signal.form === 'candidate' && this.#remoteCandidates < MAX_REMOTE_CANDIDATES && isCandidate(signal)) {
      this.#remoteCandidates += 1;
      const candidate = writeCandidate(signal);
      // One that the browser does not take leaves the others.
      this.#next(() => this.#peer.addIceCandidate({ candidate, sdpMid: '0' }).catch(() => {}));
    }
  }

  /** The channel stands. */
  opened() {
    clearTimeout(this.#timer);
  }

  /** Nobody needs it any more; what its channel still holds is sent. */
  letGo() {
    clearTimeout(this.#timer);
    if (!this.#wasConnected) this.end();
    else this.#timer = setTimeout(() => this.end(), LINGER_MS);
  }

  end() {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#forget();
    this.#peer.close();
  }

  /** @param {string} why */
  #fail(why) {
    if (this.#ended) return;
    this.end();
    this.#tell({ rtc: 'closed', link: this.#link, why });
  }

  #changed() {
    const state = this.#peer.connectionState;
    if (state === 'connected') this.#wasConnected = true;
    if (state !== 'failed') return;
    // DTLS fails where the other side is not who it should be; ICE where there is no way. In
    // Firefox DTLS fails then too.
    const dtls = this.#peer.sctp?.transport?.state === 'failed' && this.#peer.iceConnectionState !== 'failed';
    if (this.#wasConnected) this.#fail('the connection was lost');
    else if (dtls) this.#fail('the other side did not prove that it has the certificate it is known by');
    else this.#fail('no way to the other side was found: it is gone, or a firewall stands between');
  }

  /** @param {() => Promise<void>} step */
  #next(step) {
    this.#turn = this.#turn.then(async () => {
      if (this.#ended) return;
      try {
        await step();
      } catch (error) {
        this.#fail(`the browser could not make the connection (${clause(error)})`);
      }
    });
  }

  /** @param {'offer' | 'answer'} type */
  async #describe(type) {
    await this.#peer.setLocalDescription();
    const description = readDescription(this.#peer.localDescription?.sdp ?? '');
    if (!description) throw new Error('it describes itself in a way that we do not know');
    this.#signal({ form: type, ...description });
    this.#trickles = true;
  }

  /** @param {'offer' | 'answer'} type @param {any} description */
  async #hear(type, description) {
    const sdp = writeDescription(type, description);
    if (sdp === null) throw new Error('the other side describes itself in a way that we do not know');
    if (type === 'answer' && this.#peer.signalingState !== 'have-local-offer') return;
    this.#remoteCandidates += description.candidates.length;
    await this.#peer.setRemoteDescription({ type, sdp });
  }

  /** @param {object} signal */
  #signal(signal) {
    if (!this.#ended) this.#tell({ rtc: 'signal', link: this.#link, signal });
  }

  /**
   * Gives the channel to the worker, which must be in the turn that made it.
   * @param {RTCDataChannel} channel
   */
  #handOver(channel) {
    const message = { rtc: 'channel', link: this.#link };
    if (movesChannels) {
      try {
        this.#tell({ ...message, channel }, [/** @type {any} */ (channel)]);
        return;
      } catch {
        movesChannels = false;
      }
    }
    const { port1, port2 } = new MessageChannel();
    servePort(channel, port1);
    this.#tell({ ...message, port: port2 }, [port2]);
  }
}

/**
 * SHA-256 of a certificate, in hex.
 * @param {RTCCertificate} certificate
 */
async function fingerprint(certificate) {
  const told = certificate.getFingerprints?.().find(({ algorithm }) => algorithm === 'sha-256')?.value;
  if (told) return told.replaceAll(':', '').toLowerCase();
  // It stands in what a connection with it says of itself.
  const peer = new RTCPeerConnection({ certificates: [certificate] });
  try {
    peer.createDataChannel('');
    await peer.setLocalDescription();
    const description = readDescription(peer.localDescription?.sdp ?? '');
    if (!description) throw new Error('the certificate has no fingerprint');
    return description.certificate_sha256;
  } finally {
    peer.close();
  }
}

/** @param {unknown} error */
function clause(error) {
  return (error instanceof Error ? error.message : String(error)).replace(/\.$/, '');
}
