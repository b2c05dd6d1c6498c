// @ts-check
/** The bar of verified ranges of a file or a torrent, and where the player is. */
import { clip, percent, total } from './format.js';
import { language, t } from './text.js';

export class Bar {
  #context;
  #drawn = '';

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import('./text.js').Key} [label] what it is called, with `{percent}`
   */
  constructor(canvas, label = 'barLabel') {
    this.canvas = canvas;
    this.label = label;
    this.#context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    new ResizeObserver(() => (this.#drawn = '')).observe(canvas);
  }

  /**
   * @param {[number, number][]} verified in the torrent
   * @param {{offset: number, length: number}} file
   * @param {number | null} position of the player, as a part of one
   */
  update(verified, file, position) {
    const ranges = clip(verified, file.offset, file.offset + file.length);
    const scale = Math.min(3, devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * scale);
    const height = Math.round(this.canvas.clientHeight * scale);
    const style = getComputedStyle(this.canvas);
    const track = style.getPropertyValue('--track');
    const good = style.getPropertyValue('--green');
    const mark = style.getPropertyValue('--lilac');
    const at = position === null ? -1 : Math.round(position * width);
    const drawn = JSON.stringify([ranges, width, height, track, at]);
    if (drawn === this.#drawn || width === 0 || file.length === 0) return;
    this.#drawn = drawn;

    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.#context;
    const inset = Math.round(height / 4);
    context.beginPath();
    context.roundRect(0, inset, width, height - 2 * inset, height);
    context.fillStyle = track;
    context.fill();
    context.save();
    context.clip();
    context.fillStyle = good;
    for (const [first, last] of ranges) {
      const from = (first / file.length) * width;
      // A chunk of a large file is less than a pixel: it is drawn as one.
      context.fillRect(from, inset, Math.max(1, ((last - first) / file.length) * width), height - 2 * inset);
    }
    context.restore();
    if (at >= 0) {
      context.beginPath();
      context.arc(Math.min(width - height / 2, Math.max(height / 2, at)), height / 2, height / 2, 0, 2 * Math.PI);
      context.fillStyle = mark;
      context.fill();
    }
    this.canvas.setAttribute('aria-label', t(this.label, { percent: percent(total(ranges), file.length, language) }));
  }
}
