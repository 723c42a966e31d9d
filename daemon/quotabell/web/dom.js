// Making and changing elements. Text is always text, never markup.

/** An element with attributes, listeners (`onclick: …`) and children. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || (value === false && !name.startsWith("aria-"))) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : value);
  }
  element.append(...children.flat().filter(there));
  return element;
}

/** In place of all its children; what is null or false is left out. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter(there));
}

const there = (child) => child !== null && child !== undefined && child !== false;

/** Write only what differs: an unchanged text costs no layout and is not read out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** A button; `attributes` beside its words and what it does. */
export function button(words, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, words);
}

export const byId = (id) => document.getElementById(id);

/** A point in time that reads as "3 min ago" and says the full time on hover. */
export function when(iso, words) {
  return iso ? h("time", { datetime: iso, title: new Date(iso).toLocaleString() }, words) : "–";
}
