// @ts-check
/** Making elements without markup: what a peer said only ever becomes text. */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | boolean | null | undefined>} [attributes] true is an empty one; false, null and undefined none
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, '');
    else if (typeof value === 'string') element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * The element of an id that index.html has.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element;
}

/**
 * Sets a text, if it is another: what is the same is not touched, so that a
 * selection stays and nothing is read out twice.
 * @param {Element} element
 * @param {string} text
 */
export function words(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A drawing from icons/ui.svg, of the text's colour.
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `icons/ui.svg#${name}`);
  svg.append(use);
  return svg;
}

/**
 * @param {string} label
 * @param {() => void} act
 * @param {string} [kind]
 */
export function button(label, act, kind = 'quiet') {
  const element = make('button', { type: 'button', class: kind }, label);
  element.addEventListener('click', act);
  return element;
}
