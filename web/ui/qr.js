// @ts-check
/**
 * QR codes (ISO/IEC 18004) in byte mode, versions 1 to 40, error correction L
 * and M: enough for a link. Own lines, because a link to a torrent must not be
 * given to somebody's picture service, nor a library fetched from elsewhere.
 */

/** @typedef {'L' | 'M'} Level */
/** @typedef {{version: number, size: number, level: Level, mask: number, modules: Uint8Array}} QrCode modules row by row, 1 is dark */

/** Error correction bytes a block, by version from 1 on. */
const CHECK_BYTES = {
  L: [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30, 30, 26, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30],
  M: [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26, 26, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28],
};
/** Blocks, by version from 1 on. */
const BLOCKS = {
  L: [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18, 19, 19, 20, 21, 22, 24, 25],
  M: [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16, 17, 17, 18, 20, 21, 23, 25, 26, 28, 29, 31, 33, 35, 37, 38, 40, 43, 45, 47, 49],
};
/** The two bits by which the format says its level. */
const LEVEL_BITS = { L: 1, M: 0 };
const MAX_VERSION = 40;

/** @type {((x: number, y: number) => boolean)[]} */
const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (_, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/**
 * The smallest code that holds a text, at M where it fits and at L where not.
 * @param {string} text
 * @param {{level?: Level, mask?: number, version?: number}} [choice] for those who must have it so
 * @returns {QrCode | null} null: the text is too long for any
 */
export function makeQr(text, choice = {}) {
  const data = new TextEncoder().encode(text);
  for (const level of choice.level ? [choice.level] : /** @type {Level[]} */ (['M', 'L'])) {
    for (let version = choice.version ?? 1; version <= MAX_VERSION; version += 1) {
      if (data.length <= capacityBytes(version, level)) return drawCode(data, version, level, choice.mask);
    }
  }
  return null;
}

/**
 * What fits into a version beside its mode and length.
 * @param {number} version
 * @param {Level} level
 */
export function capacityBytes(version, level) {
  return dataBytes(version, level) - (version < 10 ? 2 : 3);
}

/** @param {number} version @param {Level} level */
function dataBytes(version, level) {
  return Math.floor(dataModules(version) / 8) - CHECK_BYTES[level][version - 1] * BLOCKS[level][version - 1];
}

/** Modules that are not taken by patterns. @param {number} version */
function dataModules(version) {
  let modules = (16 * version + 128) * version + 64;
  if (version >= 2) {
    const marks = Math.floor(version / 7) + 2;
    modules -= (25 * marks - 10) * marks - 55;
  }
  return version >= 7 ? modules - 36 : modules;
}

/**
 * @param {Uint8Array} data
 * @param {number} version
 * @param {Level} level
 * @param {number} [mask]
 * @returns {QrCode}
 */
function drawCode(data, version, level, mask) {
  const grid = new Grid(version);
  grid.drawPatterns();
  grid.drawData(withChecks(frame(data, version, level), version, level));
  let best = mask ?? 0;
  let least = Infinity;
  for (const tried of mask === undefined ? MASKS.keys() : []) {
    grid.applyMask(tried);
    grid.drawFormat(level, tried);
    const penalty = grid.penalty();
    if (penalty < least) [least, best] = [penalty, tried];
    grid.applyMask(tried);
  }
  grid.applyMask(best);
  grid.drawFormat(level, best);
  return { version, level, mask: best, size: grid.size, modules: grid.modules };
}

/**
 * Mode, length, the bytes, the end and the padding.
 * @param {Uint8Array} data
 * @param {number} version
 * @param {Level} level
 */
function frame(data, version, level) {
  const whole = new Uint8Array(dataBytes(version, level));
  let bit = 0;
  const put = (/** @type {number} */ value, /** @type {number} */ width) => {
    for (let i = width - 1; i >= 0; i -= 1, bit += 1) whole[bit >> 3] |= ((value >> i) & 1) << (7 - (bit & 7));
  };
  put(0b0100, 4);
  put(data.length, version < 10 ? 8 : 16);
  for (const byte of data) put(byte, 8);
  // The end is four zeroes, which with the mode's four make whole bytes.
  let pad = 0xec;
  for (let i = (bit + 4) / 8; i < whole.length; i += 1) {
    whole[i] = pad;
    pad ^= 0xec ^ 0x11;
  }
  return whole;
}

/**
 * Splits into blocks, appends each one's check bytes, and interleaves them all.
 * @param {Uint8Array} data
 * @param {number} version
 * @param {Level} level
 */
function withChecks(data, version, level) {
  const count = BLOCKS[level][version - 1];
  const checkBytes = CHECK_BYTES[level][version - 1];
  const total = Math.floor(dataModules(version) / 8);
  const short = Math.floor(total / count) - checkBytes;
  const shortBlocks = count - (total % count);
  const divisor = generator(checkBytes);
  const blocks = [];
  let from = 0;
  for (let i = 0; i < count; i += 1) {
    const block = data.subarray(from, from + short + (i < shortBlocks ? 0 : 1));
    from += block.length;
    blocks.push({ block, check: remainder(block, divisor) });
  }
  const bytes = [];
  for (let i = 0; i <= short; i += 1) for (const { block } of blocks) if (i < block.length) bytes.push(block[i]);
  for (let i = 0; i < checkBytes; i += 1) for (const { check } of blocks) bytes.push(check[i]);
  return bytes;
}

/** Product in GF(2^8) over x^8 + x^4 + x^3 + x^2 + 1. @param {number} a @param {number} b */
function multiply(a, b) {
  let product = 0;
  for (let i = 7; i >= 0; i -= 1) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((b >> i) & 1) * a;
  }
  return product;
}

/** The Reed-Solomon generator of a degree, its leading 1 left out. @param {number} degree */
function generator(degree) {
  const terms = new Uint8Array(degree);
  terms[degree - 1] = 1;
  let root = 1;
  for (let i = 0; i < degree; i += 1) {
    for (let j = 0; j < degree; j += 1) terms[j] = multiply(terms[j], root) ^ (j + 1 < degree ? terms[j + 1] : 0);
    root = multiply(root, 2);
  }
  return terms;
}

/** @param {Uint8Array} block @param {Uint8Array} divisor */
function remainder(block, divisor) {
  const rest = new Uint8Array(divisor.length);
  for (const byte of block) {
    const factor = byte ^ rest[0];
    rest.copyWithin(0, 1);
    rest[rest.length - 1] = 0;
    for (let i = 0; i < rest.length; i += 1) rest[i] ^= multiply(divisor[i], factor);
  }
  return rest;
}

/** The modules while they are drawn. */
class Grid {
  /** @param {number} version */
  constructor(version) {
    this.version = version;
    this.size = version * 4 + 17;
    this.modules = new Uint8Array(this.size * this.size);
    /** Those that belong to patterns, which no mask turns. */
    this.fixed = new Uint8Array(this.size * this.size);
  }

  /** @param {number} x @param {number} y @param {boolean | number} dark */
  fix(x, y, dark) {
    if (x < 0 || y < 0 || x >= this.size || y >= this.size) return;
    this.modules[y * this.size + x] = dark ? 1 : 0;
    this.fixed[y * this.size + x] = 1;
  }

  drawPatterns() {
    const { size, version } = this;
    for (let i = 0; i < size; i += 1) {
      this.fix(6, i, i % 2 === 0);
      this.fix(i, 6, i % 2 === 0);
    }
    for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) this.#drawSquare(x, y, 4, (ring) => ring !== 2 && ring !== 4);
    const marks = alignmentMarks(version);
    for (const x of marks) {
      for (const y of marks) {
        const corner = (x === 6 && y === 6) || (x === 6 && y === size - 7) || (x === size - 7 && y === 6);
        if (!corner) this.#drawSquare(x, y, 2, (ring) => ring !== 1);
      }
    }
    // Its place is kept free; which mask it names is known at the end.
    this.drawFormat('M', 0);
    this.#drawVersion();
  }

  /**
   * @param {number} centreX
   * @param {number} centreY
   * @param {number} reach
   * @param {(ring: number) => boolean} isDark
   */
  #drawSquare(centreX, centreY, reach, isDark) {
    for (let y = -reach; y <= reach; y += 1) {
      for (let x = -reach; x <= reach; x += 1) this.fix(centreX + x, centreY + y, isDark(Math.max(Math.abs(x), Math.abs(y))));
    }
  }

  /** @param {Level} level @param {number} mask */
  drawFormat(level, mask) {
    const data = (LEVEL_BITS[level] << 3) | mask;
    let rest = data;
    for (let i = 0; i < 10; i += 1) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
    const bits = ((data << 10) | rest) ^ 0x5412;
    const bit = (/** @type {number} */ i) => (bits >> i) & 1;
    const { size } = this;
    for (let i = 0; i <= 5; i += 1) this.fix(8, i, bit(i));
    this.fix(8, 7, bit(6));
    this.fix(8, 8, bit(7));
    this.fix(7, 8, bit(8));
    for (let i = 9; i < 15; i += 1) this.fix(14 - i, 8, bit(i));
    for (let i = 0; i < 8; i += 1) this.fix(size - 1 - i, 8, bit(i));
    for (let i = 8; i < 15; i += 1) this.fix(8, size - 15 + i, bit(i));
    this.fix(8, size - 8, true);
  }

  #drawVersion() {
    if (this.version < 7) return;
    let rest = this.version;
    for (let i = 0; i < 12; i += 1) rest = (rest << 1) ^ ((rest >> 11) * 0x1f25);
    const bits = (this.version << 12) | rest;
    for (let i = 0; i < 18; i += 1) {
      const far = this.size - 11 + (i % 3);
      const near = Math.floor(i / 3);
      this.fix(far, near, (bits >> i) & 1);
      this.fix(near, far, (bits >> i) & 1);
    }
  }

  /** In columns of two from the right, up and down by turns. @param {number[]} bytes */
  drawData(bytes) {
    let bit = 0;
    for (let right = this.size - 1; right >= 1; right -= 2) {
      if (right === 6) right = 5;
      const up = ((right + 1) & 2) === 0;
      for (let step = 0; step < this.size; step += 1) {
        const y = up ? this.size - 1 - step : step;
        for (const x of [right, right - 1]) {
          if (this.fixed[y * this.size + x] === 1 || bit >= bytes.length * 8) continue;
          this.modules[y * this.size + x] = (bytes[bit >> 3] >> (7 - (bit & 7))) & 1;
          bit += 1;
        }
      }
    }
  }

  /** Twice is not at all. @param {number} mask */
  applyMask(mask) {
    for (let y = 0; y < this.size; y += 1) {
      for (let x = 0; x < this.size; x += 1) {
        const at = y * this.size + x;
        if (this.fixed[at] === 0 && MASKS[mask](x, y)) this.modules[at] ^= 1;
      }
    }
  }

  /** How hard it is to read, by the specification's four rules. */
  penalty() {
    const { size, modules } = this;
    let sum = 0;
    let dark = 0;
    for (let a = 0; a < size; a += 1) {
      sum += linePenalty(size, (b) => modules[a * size + b]) + linePenalty(size, (b) => modules[b * size + a]);
      for (let b = 0; b < size; b += 1) {
        const one = modules[a * size + b];
        dark += one;
        if (a === 0 || b === 0) continue;
        const alike = one === modules[a * size + b - 1] && one === modules[(a - 1) * size + b] && one === modules[(a - 1) * size + b - 1];
        if (alike) sum += 3;
      }
    }
    const off = Math.abs(dark * 20 - size * size * 10);
    return sum + Math.max(0, Math.ceil(off / (size * size)) - 1) * 10;
  }
}

/** Where the alignment marks' centres lie, on both axes. @param {number} version */
function alignmentMarks(version) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = Math.floor((version * 8 + count * 3 + 5) / (count * 4 - 4)) * 2;
  const marks = [6];
  for (let at = version * 4 + 10; marks.length < count; at -= step) marks.splice(1, 0, at);
  return marks;
}

/**
 * Runs of one colour, and what looks like a finder pattern, in one line.
 * @param {number} size
 * @param {(at: number) => number} module
 */
function linePenalty(size, module) {
  let sum = 0;
  let run = 0;
  let colour = 0;
  let window = 0;
  for (let i = 0; i < size; i += 1) {
    const now = module(i);
    run = i > 0 && now === colour ? run + 1 : 1;
    colour = now;
    if (run === 5) sum += 3;
    else if (run > 5) sum += 1;
    window = ((window << 1) | now) & 0x7ff;
    if (i >= 10 && (window === 0b10111010000 || window === 0b00001011101)) sum += 40;
  }
  return sum;
}
