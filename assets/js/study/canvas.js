// Pixels on the canvas: codes through the table at display resolution, smoothed once the reader pauses.

import { layOut } from "./orient.js";

const BLACK = 0xff000000;
const SMOOTH_AFTER_MS = 120;
const SMOOTH_LIMIT = 16 * 2 ** 20; // pixels: above this one smoothing pass is slower than a reader's patience
const UPRIGHT = { rotation: 0, flipped: false };

/** Draws frames; owns zoom and position. Sizes are canvas pixels, `aspect` is a pixel's height by its width. */
export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.source = null;
    this.turn = UPRIGHT;
    this.zoom = 1;
    this.pan = [0, 0];
    this.smoothing = true;
    this.timer = 0;
    this.whole = document.createElement("canvas");
    this.resize();
  }

  /** What to draw: { columns, rows, aspect, codes | colors }, a table of ABGR words for codes, and how it lies. */
  show(source, words, turn = UPRIGHT) {
    this.source = source;
    this.words = words;
    this.turn = turn;
    this.draw();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.canvas.width = Math.max(1, Math.round(box.width * this.ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * this.ratio));
    this.image = this.context.createImageData(this.canvas.width, this.canvas.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.draw();
  }

  get #lay() {
    const { columns, rows, aspect } = this.source;
    return layOut(columns, rows, aspect, this.turn);
  }

  /** Canvas pixels per image column when the whole image is seen. */
  get fitScale() {
    const { width, height } = this.#lay;
    return Math.min(this.canvas.width / width, this.canvas.height / height);
  }

  /** Scale and place of the picture: whole canvas pixels at scale 1, so that 1:1 is exact. */
  get placement() {
    const { width, height } = this.#lay;
    const sx = this.fitScale * this.zoom;
    const left = Math.round((this.canvas.width - width * sx) / 2 + this.pan[0]);
    const top = Math.round((this.canvas.height - height * sx) / 2 + this.pan[1]);
    return { sx, sy: sx * this.source.aspect, left, top };
  }

  fit() { this.zoom = 1; this.pan = [0, 0]; this.draw(); }

  /** The shorter side of a pixel on one canvas pixel. */
  actualSize() { this.zoom = Math.max(1, 1 / this.source.aspect) / this.fitScale; this.pan = [0, 0]; this.draw(); }

  /** Zoom by a factor about a point given in page coordinates. */
  zoomAt(factor, clientX, clientY) {
    if (!this.source) return;
    const box = this.canvas.getBoundingClientRect();
    const x = (clientX - box.left) * this.ratio - this.canvas.width / 2;
    const y = (clientY - box.top) * this.ratio - this.canvas.height / 2;
    const zoom = Math.min(Math.max(this.zoom * factor, 0.2), 40);
    const by = zoom / this.zoom;
    this.pan = [x - (x - this.pan[0]) * by, y - (y - this.pan[1]) * by];
    this.zoom = zoom;
    this.draw();
  }

  move(dx, dy) { this.pan = [this.pan[0] + dx * this.ratio, this.pan[1] + dy * this.ratio]; this.draw(); }

  /** Page coordinates to image coordinates [column, row], fractions included. */
  toImage(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const { sx, left, top } = this.placement;
    const { a, b, c, d, e, f } = this.#lay;
    const x = ((clientX - box.left) * this.ratio - left) / sx - e;
    const y = ((clientY - box.top) * this.ratio - top) / sx - f;
    const whole = a * d - b * c;
    return [(d * x - b * y) / whole, (a * y - c * x) / whole];
  }

  /** Image coordinates to CSS pixels inside the canvas. */
  toScreen(column, row) {
    const { sx, left, top } = this.placement;
    const { a, b, c, d, e, f } = this.#lay;
    return [(left + (a * column + b * row + e) * sx) / this.ratio, (top + (c * column + d * row + f) * sx) / this.ratio];
  }

  draw() {
    clearTimeout(this.timer);
    if (!this.pending) this.pending = requestAnimationFrame(() => { this.pending = 0; this.drawNow(); });
  }

  drawNow() {
    if (!this.source) { this.context.fillRect(0, 0, this.canvas.width, this.canvas.height); return; }
    this.nearest();
    this.drawn?.();
    const { columns, rows } = this.source;
    if (this.isScaled && this.smoothing && columns * rows <= SMOOTH_LIMIT) this.timer = setTimeout(() => this.smooth(), SMOOTH_AFTER_MS);
  }

  /** Whether pixels of the image are not pixels of the canvas, so that something must be interpolated. */
  get isScaled() {
    const { sx, sy } = this.placement;
    return Math.abs(sx - 1) > 1e-9 || Math.abs(sy - 1) > 1e-9;
  }

  /** Part of an index into the pixels for each canvas column or row; -1 where there is no image. */
  #offsets(length, start, scale, horizontal) {
    const { columns, rows, aspect } = this.source;
    const { rotation, flipped } = this.turn;
    const ofColumns = horizontal === (rotation % 180 === 0);
    const count = ofColumns ? columns : rows;
    const size = ofColumns ? 1 : aspect;
    // the axis runs backwards after half a turn, one of the two after a quarter, and the columns when flipped
    const turned = horizontal ? rotation === 90 || rotation === 180 : rotation === 180 || rotation === 270;
    const backwards = turned !== (ofColumns && flipped);
    const step = ofColumns ? 1 : columns;
    const out = new Int32Array(length);
    for (let at = 0; at < length; at += 1) {
      const place = (at + 0.5 - start) / scale / size;
      const index = Math.floor(backwards ? count - place : place);
      out[at] = index >= 0 && index < count ? index * step : -1;
    }
    return out;
  }

  nearest() {
    const { codes, colors } = this.source;
    const { sx, left, top } = this.placement;
    const { width, height } = this.canvas;
    const across = this.#offsets(width, left, sx, true);
    const down = this.#offsets(height, top, sx, false);
    const first = across.findIndex((one) => one >= 0);
    const end = across.findLastIndex((one) => one >= 0) + 1;
    const { pixels } = this;
    for (let y = 0; y < height; y += 1) {
      const base = down[y];
      const out = y * width;
      if (base < 0 || first < 0) { pixels.fill(BLACK, out, out + width); continue; }
      if (first > 0) pixels.fill(BLACK, out, out + first);
      if (end < width) pixels.fill(BLACK, out + end, out + width);
      if (codes) grey(pixels, out, codes, base, this.words, across, first, end);
      else color(pixels, out, colors, base, across, first, end);
    }
    this.context.putImageData(this.image, 0, 0);
  }

  /** Draw once more with the browser's interpolation between grey levels. */
  smooth() {
    const { columns, rows, codes, colors } = this.source;
    const { sx, left, top } = this.placement;
    const { a, b, c, d, e, f } = this.#lay;
    if (this.whole.width !== columns) this.whole.width = columns;
    if (this.whole.height !== rows) this.whole.height = rows;
    const context = this.whole.getContext("2d");
    const image = context.createImageData(columns, rows);
    const out = new Uint32Array(image.data.buffer);
    if (codes) for (let at = 0; at < out.length; at += 1) out[at] = this.words[codes[at]];
    else out.set(colors);
    context.putImageData(image, 0, 0);
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.imageSmoothingEnabled = true;
    this.context.imageSmoothingQuality = "high";
    this.context.setTransform(a * sx, c * sx, b * sx, d * sx, left + e * sx, top + f * sx);
    this.context.drawImage(this.whole, 0, 0);
    this.context.resetTransform();
  }
}

// Two small functions, so that each sees arrays of one type only and stays compiled.

function grey(pixels, out, codes, base, words, across, first, end) {
  for (let x = first; x < end; x += 1) pixels[out + x] = words[codes[base + across[x]]];
}

function color(pixels, out, colors, base, across, first, end) {
  for (let x = first; x < end; x += 1) pixels[out + x] = colors[base + across[x]];
}
