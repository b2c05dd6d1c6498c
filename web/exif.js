// @ts-check
/**
 * What pictures tell beside what they show, and copies that do not: JPEG, PNG
 * and WebP. Nothing is decoded and encoded anew, so nothing of the picture is
 * lost: the pieces that tell something are left out, and only what is known to
 * belong to the picture is kept.
 */

/**
 * @typedef {'place' | 'time' | 'camera' | 'author' | 'software' | 'text' | 'thumbnail' | 'more' | 'unknown'} Finding
 *   `more`: further pictures or a film behind the picture; `unknown`: a format that is not looked into
 */

/** Metadata stands at the front; what is looked for lies within this. */
const HEAD_BYTES = 1024 * 1024;
/** A picture larger than this is not taken apart. */
const MAX_STRIP_BYTES = 512 * 1024 * 1024;
/** Entries of one directory, and directories of one picture, that are read. */
const MAX_ENTRIES = 1_000;
const MAX_DIRECTORIES = 8;

const JPEG = [0xff, 0xd8, 0xff];
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** Formats that hold no more than the picture. */
const PLAIN = [[0x42, 0x4d], [0x00, 0x00, 0x01, 0x00]];

/** Chunks that belong to the picture. */
const PNG_KEPT = new Set(['IHDR', 'PLTE', 'IDAT', 'IEND', 'tRNS', 'gAMA', 'cHRM', 'sRGB', 'iCCP', 'cICP', 'mDCV', 'cLLI', 'sBIT', 'bKGD', 'pHYs', 'hIST', 'sPLT', 'acTL', 'fcTL', 'fdAT']);
const WEBP_KEPT = new Set(['VP8 ', 'VP8L', 'VP8X', 'ALPH', 'ANIM', 'ANMF', 'ICCP']);

/** @type {Record<number, Finding>} */
const TAGS = {
  0x010e: 'text', 0x010f: 'camera', 0x0110: 'camera', 0x0131: 'software', 0x0132: 'time', 0x013b: 'author',
  0x8298: 'author', 0x9003: 'time', 0x9004: 'time', 0x927c: 'camera', 0x9286: 'text', 0x9c9b: 'text', 0x9c9c: 'text',
  0x9c9d: 'author', 0x9c9e: 'text', 0x9c9f: 'text', 0xa430: 'author', 0xa431: 'camera', 0xa434: 'camera', 0xa435: 'camera',
};
const ORIENTATION = 0x0112;
const EXIF_DIRECTORY = 0x8769;
const GPS_DIRECTORY = 0x8825;

/**
 * What a picture tells.
 * @param {Blob} file
 * @returns {Promise<Finding[]>} each once
 */
export async function findMetadata(file) {
  const bytes = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  /** @type {Set<Finding>} */
  const found = new Set();
  try {
    if (begins(bytes, JPEG)) findInJpeg(bytes, found);
    else if (begins(bytes, PNG)) for (const chunk of pngChunks(bytes)) findInPng(bytes, chunk, found);
    else if (isWebp(bytes)) for (const chunk of webpChunks(bytes)) findInWebp(bytes, chunk, found);
    else if (bytes.length > 0 && !PLAIN.some((start) => begins(bytes, start))) found.add('unknown');
  } catch {
    // Cut off, or not what its first bytes say.
    found.add('unknown');
  }
  return [...found];
}

/**
 * The same picture, telling no more than it shows. What is kept is taken from
 * the file when it is read, not held in memory.
 * @param {File} file
 * @returns {Promise<File>} rejects where the format is not one that can be taken apart
 */
export async function stripMetadata(file) {
  if (file.size > MAX_STRIP_BYTES) throw new Error('This picture is too large to be taken apart.');
  const bytes = new Uint8Array(await file.arrayBuffer());
  let parts;
  if (begins(bytes, JPEG)) parts = jpegParts(bytes);
  else if (begins(bytes, PNG)) parts = pngParts(bytes);
  else if (isWebp(bytes)) parts = webpParts(bytes);
  else throw new Error('This is no picture of a format that can be taken apart.');
  const blobs = parts.map((part) => (part instanceof Uint8Array ? part : file.slice(part[0], part[1])));
  return new File(/** @type {BlobPart[]} */ (blobs), file.name, { type: file.type });
}

/** @typedef {(Uint8Array | [number, number])[]} Parts new bytes, or the file's from one place to another */

/** @param {Uint8Array} bytes @param {Set<Finding>} found */
function findInJpeg(bytes, found) {
  for (const { marker, start, end } of jpegSegments(bytes)) {
    if (marker === 0xda) return;
    if (isKept(bytes, marker, start)) continue;
    if (marker === 0xe1 && text(bytes, start, 6) === 'Exif\0\0') readTiff(bytes.subarray(start + 6, end), found);
    else if (marker === 0xe1) findInXmp(bytes.subarray(start, end), found);
    else if (marker === 0xe2 && text(bytes, start, 4) === 'MPF\0') found.add('more');
    else if (text(bytes, start, 4) === 'JFXX') found.add('thumbnail');
    else found.add('text');
  }
}

/** @param {Uint8Array} bytes @param {Set<Finding>} found */
function findInXmp(bytes, found) {
  const xmp = new TextDecoder('latin1').decode(bytes);
  if (/GPS|City|Location/.test(xmp)) found.add('place');
  if (/CreateDate|DateCreated|DateTime/.test(xmp)) found.add('time');
  if (/MotionPhoto|MicroVideo|Container:Directory/.test(xmp)) found.add('more');
  found.add('text');
}

/**
 * The segments of a JPEG, one after the other; what lies between them is the picture's.
 * @param {Uint8Array} bytes
 */
function* jpegSegments(bytes) {
  for (let at = 2; ; ) {
    if (byte(bytes, at) !== 0xff) throw new RangeError('no marker');
    const marker = byte(bytes, at + 1);
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === 0xd9) return void (yield { marker, at, start: at + 2, end: at + 2 });
    const end = at + 2 + big(bytes, at + 2, 2);
    if (end < at + 4) throw new RangeError('no length');
    yield { marker, at, start: at + 4, end };
    at = end;
    // Behind the head of a scan comes the picture, up to the next marker that is one.
    if (marker === 0xda) while (!isMarker(bytes, at)) at += 1;
  }
}

/** @param {Uint8Array} bytes @param {number} at */
function isMarker(bytes, at) {
  const next = byte(bytes, at + 1);
  return bytes[at] === 0xff && next !== 0 && next !== 0xff && !(next >= 0xd0 && next <= 0xd7);
}

/** Whether a segment belongs to the picture. @param {Uint8Array} bytes @param {number} marker @param {number} start */
function isKept(bytes, marker, start) {
  if (marker === 0xe0) return text(bytes, start, 4) === 'JFIF';
  if (marker === 0xe2) return text(bytes, start, 11) === 'ICC_PROFILE';
  if (marker === 0xee) return text(bytes, start, 5) === 'Adobe';
  return marker !== 0xfe && !(marker >= 0xe1 && marker <= 0xef);
}

/** @param {Uint8Array} bytes @returns {Parts} */
function jpegParts(bytes) {
  /** @type {Parts} */
  const parts = [[0, 2]];
  let picture = 2;
  for (const { marker, at, start, end } of jpegSegments(bytes)) {
    // The entropy-coded bytes of a scan that ended here.
    if (at > picture) parts.push([picture, at]);
    picture = end;
    if (marker === 0xe1 && text(bytes, start, 6) === 'Exif\0\0') {
      const turned = readTiff(bytes.subarray(start + 6, end), new Set());
      // Without it the picture would lie on its side.
      if (turned > 1) parts.push(orientationSegment(turned));
    }
    if (isKept(bytes, marker, start)) parts.push([at, end]);
  }
  // What follows the end is no part of the picture: a film, a second picture, anything.
  return parts;
}

/** @param {number} orientation */
function orientationSegment(orientation) {
  const head = [0xff, 0xe1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, 0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1];
  return new Uint8Array([...head, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0]);
}

/**
 * Reads an Exif block (TIFF). What is wrong in it ends it: what was found stands.
 * @param {Uint8Array} tiff
 * @param {Set<Finding>} found
 * @returns {number} the orientation, 1 where none is told
 */
function readTiff(tiff, found) {
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  let orientation = 1;
  try {
    const little = view.getUint16(0) === 0x4949;
    const directories = [view.getUint32(4, little)];
    for (let index = 0; index < Math.min(directories.length, MAX_DIRECTORIES); index += 1) {
      const from = directories[index];
      const count = Math.min(view.getUint16(from, little), MAX_ENTRIES);
      // The second in the chain is the small picture's.
      if (index > 0 && directories[index] === directories[0]) continue;
      for (let entry = 0; entry < count; entry += 1) {
        const at = from + 2 + entry * 12;
        const tag = view.getUint16(at, little);
        if (tag === GPS_DIRECTORY) found.add('place');
        else if (tag === EXIF_DIRECTORY) directories.push(view.getUint32(at + 8, little));
        else if (tag === ORIENTATION && index === 0) orientation = view.getUint16(at + 8, little);
        else if (Object.hasOwn(TAGS, tag)) found.add(TAGS[tag]);
      }
      if (index === 0 && view.getUint32(from + 2 + count * 12, little) !== 0) found.add('thumbnail');
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    found.add('unknown');
  }
  return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

/** @param {Uint8Array} bytes */
function* pngChunks(bytes) {
  for (let at = 8; at < bytes.length; ) {
    const length = big(bytes, at, 4);
    const kind = text(bytes, at + 4, 4);
    const end = at + 12 + length;
    yield { kind, at, start: at + 8, end };
    if (kind === 'IEND') return;
    at = end;
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {{kind: string, start: number, end: number}} chunk
 * @param {Set<Finding>} found
 */
function findInPng(bytes, { kind, start, end }, found) {
  if (PNG_KEPT.has(kind)) return;
  if (kind === 'eXIf') readTiff(bytes.subarray(start, end - 4), found);
  else if (kind === 'tIME') found.add('time');
  else if (kind === 'iTXt' && text(bytes, start, 17) === 'XML:com.adobe.xmp') findInXmp(bytes.subarray(start, end), found);
  else found.add('text');
}

/** @param {Uint8Array} bytes @returns {Parts} */
function pngParts(bytes) {
  /** @type {Parts} */
  const parts = [[0, 8]];
  for (const { kind, at, end } of pngChunks(bytes)) {
    if (end > bytes.length) throw new RangeError('The picture is cut off.');
    if (PNG_KEPT.has(kind)) parts.push([at, end]);
  }
  return parts;
}

/** @param {Uint8Array} bytes */
function isWebp(bytes) {
  return bytes.length >= 12 && text(bytes, 0, 4) === 'RIFF' && text(bytes, 8, 4) === 'WEBP';
}

/** @param {Uint8Array} bytes */
function* webpChunks(bytes) {
  const whole = little(bytes, 4) + 8;
  for (let at = 12; at + 8 <= Math.min(whole, bytes.length); ) {
    const length = little(bytes, at + 4);
    const end = at + 8 + length + (length % 2);
    yield { kind: text(bytes, at, 4), at, start: at + 8, end };
    at = end;
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {{kind: string, start: number, end: number}} chunk
 * @param {Set<Finding>} found
 */
function findInWebp(bytes, { kind, start, end }, found) {
  if (WEBP_KEPT.has(kind)) return;
  const prefixed = text(bytes, start, 6) === 'Exif\0\0';
  if (kind === 'EXIF') readTiff(bytes.subarray(start + (prefixed ? 6 : 0), end), found);
  else if (kind === 'XMP ') findInXmp(bytes.subarray(start, end), found);
  else found.add('text');
}

/** @param {Uint8Array} bytes @returns {Parts} */
function webpParts(bytes) {
  /** @type {Parts} */
  const kept = [];
  let length = 4;
  for (const { kind, at, start, end } of webpChunks(bytes)) {
    if (end > bytes.length) throw new RangeError('The picture is cut off.');
    if (!WEBP_KEPT.has(kind)) continue;
    length += end - at;
    if (kind === 'VP8X') {
      const flags = bytes.slice(at, end);
      // It no longer says that there is Exif or XMP.
      flags[start - at] &= ~0x0c;
      kept.push(flags);
    } else {
      kept.push([at, end]);
    }
  }
  const head = bytes.slice(0, 12);
  new DataView(head.buffer).setUint32(4, length, true);
  return [head, ...kept];
}

/** @param {Uint8Array} bytes @param {number[]} start */
function begins(bytes, start) {
  return bytes.length >= start.length && start.every((value, index) => bytes[index] === value);
}

/** @param {Uint8Array} bytes @param {number} at */
function byte(bytes, at) {
  if (at >= bytes.length) throw new RangeError('The picture is cut off.');
  return bytes[at];
}

/** @param {Uint8Array} bytes @param {number} at @param {number} count */
function big(bytes, at, count) {
  let value = 0;
  for (let i = 0; i < count; i += 1) value = value * 256 + byte(bytes, at + i);
  return value;
}

/** @param {Uint8Array} bytes @param {number} at */
function little(bytes, at) {
  return byte(bytes, at) + byte(bytes, at + 1) * 2 ** 8 + byte(bytes, at + 2) * 2 ** 16 + byte(bytes, at + 3) * 2 ** 24;
}

/** @param {Uint8Array} bytes @param {number} at @param {number} length */
function text(bytes, at, length) {
  return String.fromCharCode(...bytes.subarray(at, at + length));
}
