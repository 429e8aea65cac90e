// Small ways of making page elements. Text enters through textContent only, never as markup.

/** Element with properties and children: el("button", { class: "tool", onclick: f }, "text", node). */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set an attribute only where it changes: while slices are turned, most of a bar stays as it is. */
export function put(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Set a text only where it changes. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Icon of the sprite; decoration only, so its button carries the name. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `page/icons/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Give every element marked data-icon its picture. */
export function drawIcons(root) {
  for (const node of root.querySelectorAll("[data-icon]")) node.prepend(icon(node.dataset.icon));
}

const FOCUSABLE = "button:not(:disabled), a[href], summary, input:not(:disabled), select:not(:disabled), textarea, [tabindex]";

/**
 * Draw parts of an element anew and leave the focus where it was: on what has the same name and is nearest to the
 * old place, else on what stands there now, else on `otherwise`.
 */
export function keepingFocus(root, draw, otherwise = null) {
  const active = document.activeElement;
  if (active === root || !root.contains(active)) { draw(); return; }
  const nameOf = (node) => node.getAttribute("aria-label") ?? node.textContent;
  const places = () => [...root.querySelectorAll(FOCUSABLE)];
  const [at, name] = [places().indexOf(active), nameOf(active)];
  draw();
  if (active.isConnected) { if (document.activeElement !== active) active.focus(); return; }
  const now = places();
  const same = now.filter((node) => nameOf(node) === name).sort((one, other) => Math.abs(now.indexOf(one) - at) - Math.abs(now.indexOf(other) - at));
  (same[0] ?? now[Math.min(at, now.length - 1)] ?? otherwise)?.focus({ preventScroll: true });
}

/** Tell the other parts of the page something. */
export const announce = (name, detail) => document.dispatchEvent(new CustomEvent(`bimedix2:${name}`, { detail }));
export const listen = (name, run) => document.addEventListener(`bimedix2:${name}`, (event) => run(event.detail));
