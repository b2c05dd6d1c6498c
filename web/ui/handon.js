// @ts-check
/** Handing a link on: to be copied, to be sent, to be photographed. */
import { button, make } from './dom.js';
import { makeQr } from './qr.js';
import { foot, Sheet } from './sheet.js';
import { t } from './text.js';

/** Light round a code, in modules: the specification's four. */
const QUIET = 4;
const SVG = 'http://www.w3.org/2000/svg';

/**
 * @param {object} what
 * @param {string} what.title of the sheet
 * @param {string} what.name of what is handed on
 * @param {{label: string, link: string}[]} what.links the first is sent and drawn
 * @param {string[]} what.says
 */
export function handOn({ title, name, links, says }) {
  const sheet = new Sheet(title);
  const told = make('p', { class: 'told', role: 'status' });
  const [{ link }] = links;
  const send =
    typeof navigator.share === 'function'
      ? button(t('send'), () => void navigator.share({ title: name, url: link }).catch(() => {}), 'main')
      : null;
  sheet.open(
    name === '' ? null : make('p', { class: 'sheet-name', dir: 'auto' }, name),
    drawQr(link),
    ...links.map((one) => row(one, told)),
    told,
    ...says.map((text) => make('p', { class: 'caption' }, text)),
    send && foot(send),
  );
}

/**
 * @param {{label: string, link: string}} one
 * @param {HTMLElement} told
 */
function row({ label, link }, told) {
  const field = make('input', { type: 'text', readonly: true, dir: 'ltr', value: link });
  field.addEventListener('focus', () => field.select());
  const copy = button(t('copy'), async () => {
    told.textContent = (await copyText(link, field)) ? t('copied') : t('copyFailed');
  });
  copy.setAttribute('aria-label', `${t('copy')}: ${label}`);
  return make('div', { class: 'link-row' }, make('label', {}, make('span', {}, label), field), copy);
}

/**
 * @param {string} text
 * @param {HTMLInputElement} field
 */
async function copyText(text, field) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without https there is no clipboard to write to, but there is the old way.
    field.select();
    return document.execCommand('copy');
  }
}

/** @param {string} text */
export function drawQr(text) {
  const code = makeQr(text);
  if (code === null) return make('p', { class: 'caption' }, t('qrTooLong'));
  const { size, modules } = code;
  let path = '';
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      let end = x;
      while (end < size && modules[y * size + end] === 1) end += 1;
      if (end > x) path += `M${x + QUIET} ${y + QUIET}h${end - x}v1h${x - end}z`;
      x = end;
    }
  }
  const whole = size + 2 * QUIET;
  const svg = document.createElementNS(SVG, 'svg');
  const dark = document.createElementNS(SVG, 'path');
  dark.setAttribute('d', path);
  svg.setAttribute('viewBox', `0 0 ${whole} ${whole}`);
  svg.setAttribute('shape-rendering', 'crispEdges');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', t('qrLabel'));
  svg.append(dark);
  return make('div', { class: 'qr' }, svg);
}
