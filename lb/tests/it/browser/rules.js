// Rules of accessibility (WCAG 2.2) that a script can check. Returns what breaks them.
const wrong = [];
const seen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && element.getClientRects().length > 0;
const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
const called = (element) => `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ""} "${element.textContent.trim().slice(0, 40)}"`;

const named = (element) => {
  const by = (element.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join("");
  return (element.getAttribute("aria-label") ?? "") + by + [...(element.labels ?? [])].map((label) => label.textContent).join("");
};
if (!document.documentElement.lang) wrong.push("the page has no language");
if (!document.title) wrong.push("the page has no title");
if (all("h1").length !== 1) wrong.push(`${all("h1").length} h1`);
if (all("main").length !== 1 || all("header").length !== 1) wrong.push("landmarks are missing");
for (const field of all("input, select, textarea")) if (!named(field).trim()) wrong.push(`no label: ${called(field)}`);
for (const button of all("button, a, summary")) if (!(named(button) + button.textContent).trim()) wrong.push(`no name: ${called(button)}`);
for (const picture of all("img, [role=img]")) if (!(named(picture) + (picture.alt ?? "")).trim()) wrong.push(`no text instead: ${called(picture)}`);
for (const part of all("section, [role=region], dialog")) if (!named(part).trim()) wrong.push(`a part without a name: ${called(part)}`);
for (const table of all("table")) if (table.querySelectorAll("th[scope=col]").length === 0) wrong.push(`a table without a header: ${called(table)}`);
for (const area of all(".scroll")) if (area.tabIndex < 0) wrong.push(`a keyboard cannot scroll: ${called(area)}`);
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push(`${id} is there twice`);
for (const [name, list] of [["aria-labelledby"], ["aria-describedby"]].map(([name]) => [name, document.querySelectorAll(`[${name}]`)]))
  for (const element of list) for (const id of element.getAttribute(name).split(" ")) if (!document.getElementById(id)) wrong.push(`${name}: there is no ${id}`);
for (const element of document.querySelectorAll("[tabindex]")) if (element.tabIndex > 0) wrong.push(`an order of its own: ${called(element)}`);
if (document.documentElement.scrollWidth > innerWidth) wrong.push(`${document.documentElement.scrollWidth} pixels wide of ${innerWidth}`);

// Contrast: 4.5 for text, 3 for large text.
const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
const bytes = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const over = ([r, g, b, a], below) => [r, g, b].map((one, at) => (one * a + below[at] * (255 - a)) / 255);
const light = (colour) => {
  const [r, g, b] = colour.map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  const parents = [];
  for (let at = element; at; at = at.parentElement) parents.push(bytes(getComputedStyle(at).backgroundColor));
  return parents.reverse().reduce((below, colour) => over(colour, below), [255, 255, 255]);
};
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const ratios = new Map();
while (walk.nextNode()) {
  const element = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !seen(element) || element.closest("svg, .unseen, .skip, option, :disabled, script, noscript")) continue;
  const style = getComputedStyle(element);
  const below = ground(element);
  const [one, other] = [light(over(bytes(style.color), below)), light(below)].sort((a, b) => b - a);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
  const ratio = (one + 0.05) / (other + 0.05);
  if (ratio < (large ? 3 : 4.5)) ratios.set(`contrast ${ratio.toFixed(2)}: ${called(element)}`, true);
}
return [...wrong, ...ratios.keys()];
