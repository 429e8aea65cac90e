// What is drawn over the pixels: region, measurements, crosshair, the keyboard's pointer, rulers.

import { pixelOf } from "./place.js";

const SVG = "http://www.w3.org/2000/svg";
const STEPS_MM = [1, 2, 5, 10, 20, 50, 100, 200];
const LEAST_TICK = 7; // CSS pixels between two ticks of a ruler

const shape = (tag, attributes, text) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};

const number = (value) => Number(value.toFixed(1));

export class Overlay {
  constructor(pane) {
    this.pane = pane;
    this.svg = shape("svg", { class: "overlay", "aria-hidden": "true" });
    this.rulers = shape("g", {});
    this.ruled = ""; // what the rulers were drawn for
    this.measurements = []; // { shape, label, chosen } on this frame or plane
    this.draft = null; // a shape that is being drawn
    this.point = null; // the linked place, in millimetres
    this.pointer = null; // image coordinates of the keyboard's pointer
  }

  draw() {
    const { pane } = this;
    if (!pane.loaded || !pane.painter.source) { this.svg.replaceChildren(); return; }
    this.#rulers();
    const drawn = [...this.#crosshair(), ...this.#region(), ...this.measurements.flatMap((one) => this.#measured(one)), ...(this.draft ? this.#measured({ shape: this.draft, chosen: true }) : []), ...this.#pointer()];
    if (drawn.length || this.svg.childNodes.length !== 1 || this.svg.firstChild !== this.rulers) this.svg.replaceChildren(this.rulers, ...drawn);
  }

  #screen(point) { return this.pane.painter.toScreen(...point).map(number); }

  #path(points, close = false) { return `M${points.map((one) => this.#screen(one).join(" ")).join("L")}${close ? "Z" : ""}`; }

  #region() {
    const { region } = this.pane;
    if (!region) return [];
    return [shape("path", { class: "region-shape", d: this.#path(corners([[region.x, region.y], [region.x + region.width, region.y + region.height]]), true) })];
  }

  #measured({ shape: { kind, points }, label, chosen }) {
    const kindClass = `measured${chosen ? " chosen" : ""}`;
    const marks = [];
    if (kind === "ellipse" && points.length === 2) marks.push(shape("path", { class: kindClass, d: this.#path(around(points), true) }));
    else if (kind === "rectangle" && points.length === 2) marks.push(shape("path", { class: kindClass, d: this.#path(corners(points), true) }));
    else if (kind === "angle" && points.length === 4) marks.push(shape("path", { class: kindClass, d: this.#path(points.slice(0, 2)) + this.#path(points.slice(2)) }));
    else if (points.length > 1) marks.push(shape("path", { class: kindClass, d: this.#path(points) }));
    if (kind === "length" || kind === "angle" || kind === "probe") for (const point of points) marks.push(this.#knot(point, kindClass));
    if (label) {
      const ends = points.map((one) => this.#screen(one));
      const [x, y] = ends.reduce((best, one) => (one[0] > best[0] ? one : best));
      label.split("\n").forEach((line, at) => marks.push(shape("text", { class: "measured-text", x: x + 8, y: y + 4, dy: `${at * 1.25}em` }, line)));
    }
    return marks;
  }

  #knot(point, kindClass) {
    const [x, y] = this.#screen(point);
    return shape("path", { class: kindClass, d: `M${x - 4} ${y}H${x + 4}M${x} ${y - 4}V${y + 4}` });
  }

  #crosshair() {
    const { place } = this.pane.loaded.meta;
    if (!this.point || !place) return [];
    const [x, y] = this.#screen(pixelOf(place, this.point));
    const { clientWidth: width, clientHeight: height } = this.pane.canvas;
    const gap = 12;
    return [shape("path", { class: "crosshair", d: `M0 ${y}H${x - gap}M${x + gap} ${y}H${width}M${x} 0V${y - gap}M${x} ${y + gap}V${height}` })];
  }

  #pointer() {
    if (!this.pointer) return [];
    const [x, y] = this.#screen(this.pointer);
    return [shape("path", { class: "key-pointer", d: `M${x - 11} ${y}H${x - 3}M${x + 3} ${y}H${x + 11}M${x} ${y - 11}V${y - 3}M${x} ${y + 3}V${y + 11}` }), shape("circle", { class: "key-pointer", cx: x, cy: y, r: 5 })];
  }

  /** Scales at the bottom and right edges, none where millimetres are not known; they stay while slices are turned. */
  #rulers() {
    const { pane } = this;
    const { spacing } = pane.loaded.meta;
    const { painter } = pane;
    const perMm = spacing ? painter.placement.sx / painter.ratio / spacing.column : 0;
    const [width, height] = [painter.canvas.width / painter.ratio, painter.canvas.height / painter.ratio];
    const stamp = [perMm, width, height].join();
    if (stamp === this.ruled) return;
    this.ruled = stamp;
    this.rulers.replaceChildren(...(spacing ? this.#scales(perMm, width, height) : []));
  }

  #scales(perMm, width, height) {
    return [...ruler(width, perMm, (at, size) => `M${at} ${height - 2}v${-size}`, (at) => ({ x: at + 4, y: height - 5 })),
      ...ruler(height, perMm, (at, size) => `M${width - 2} ${at}h${-size}`, null)];
  }
}

function ruler(length, perMm, tick, text) {
  const step = STEPS_MM.find((one) => one * perMm >= LEAST_TICK) ?? STEPS_MM.at(-1);
  const count = Math.min(Math.floor((length * 0.5) / (step * perMm)), 50);
  const groups = Math.floor(count / 5) * 5 || count;
  if (groups < 2) return [];
  const start = (length - groups * step * perMm) / 2;
  let path = "";
  for (let at = 0; at <= groups; at += 1) path += tick(number(start + at * step * perMm), at % 5 === 0 ? 9 : 5);
  const made = [shape("path", { class: "ruler", d: path })];
  const end = number(start + groups * step * perMm);
  if (text) made.push(shape("text", { class: "ruler-text", ...text(end) }, groups * step >= 10 ? `${(groups * step) / 10} cm` : `${groups * step} mm`));
  return made;
}

/** Four corners of the box between two points. */
export const corners = ([[x1, y1], [x2, y2]]) => [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];

/** Points around the ellipse in the box between two points. */
function around([[x1, y1], [x2, y2]]) {
  const points = [];
  for (let step = 0; step < 60; step += 1) {
    const angle = (step * Math.PI) / 30;
    points.push([(x1 + x2) / 2 + (Math.cos(angle) * (x2 - x1)) / 2, (y1 + y2) / 2 + (Math.sin(angle) * (y2 - y1)) / 2]);
  }
  return points;
}
