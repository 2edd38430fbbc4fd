// Elements, numbers and colours. No text ever becomes HTML.

export const $ = (id) => document.getElementById(id);

const build = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

export const h = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);

/// Replaces what is in an element; `null` is nothing.
export const put = (element, ...children) => element.replaceChildren(...children.filter((child) => child !== null));

export const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/// Sets a text only where it differs, so that an unchanged table costs no layout.
export const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

/// Every slot has a colour of its own; neighbours by number are far apart.
export const colour = (index) => `oklch(0.68 0.13 ${((112.5 + 137.508 * index) % 360).toFixed(1)})`;

export const percent = (share, digits = share > 0 && share < 0.01 ? 2 : 1) => `${(100 * share).toFixed(digits)} %`;

const counting = new Intl.NumberFormat("en");
export const count = (number) => counting.format(number);

export const rate = (number) => (number >= 100 ? count(Math.round(number)) : number.toFixed(1));

export const seconds = (time) => (time < 1 ? `${(1000 * time).toFixed(time < 0.01 ? 1 : 0)} ms` : `${time.toFixed(time < 10 ? 2 : 1)} s`);

export const age = (since) => {
  const time = Math.max(0, (Date.now() - Date.parse(since)) / 1000);
  if (!Number.isFinite(time)) return "–";
  if (time < 60) return `${Math.floor(time)} s`;
  if (time < 3600) return `${Math.floor(time / 60)} min`;
  return time < 172800 ? `${Math.floor(time / 3600)} h` : `${Math.floor(time / 86400)} d`;
};

export const clock = (time) => {
  const at = new Date(time);
  return Number.isNaN(at.valueOf()) ? String(time) : at.toLocaleTimeString("en-GB");
};

let spoken = 0;
/// Tells a screen reader; at most twice a second, or it would never end.
export const announce = (text) => {
  if (Date.now() - spoken < 500) return;
  spoken = Date.now();
  $("said").textContent = text;
};
