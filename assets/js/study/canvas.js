// Pixels on the canvas: codes through the table at display resolution, smoothed once the reader pauses.

const BLACK = 0xff000000;
const SMOOTH_AFTER_MS = 120;
const SMOOTH_LIMIT = 16 * 2 ** 20; // pixels: above this one smoothing pass is slower than a reader's patience

/** Draws frames; owns zoom and position. Sizes are canvas pixels, `aspect` is a pixel's height by its width. */
export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.source = null;
    this.zoom = 1;
    this.pan = [0, 0];
    this.timer = 0;
    this.whole = document.createElement("canvas");
    this.resize();
  }

  /** What to draw: { columns, rows, aspect, codes | colors } and a table of ABGR words for codes. */
  show(source, words) {
    this.source = source;
    this.words = words;
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

  /** Canvas pixels per image column when the whole image is seen. */
  get fitScale() {
    const { columns, rows, aspect } = this.source;
    return Math.min(this.canvas.width / columns, this.canvas.height / (rows * aspect));
  }

  /** Scale and position: x = left + column * sx, y = top + row * sy. Whole pixels at scale 1, so that 1:1 is exact. */
  get placement() {
    const { columns, rows, aspect } = this.source;
    const sx = this.fitScale * this.zoom;
    const sy = sx * aspect;
    const left = Math.round((this.canvas.width - columns * sx) / 2 + this.pan[0]);
    const top = Math.round((this.canvas.height - rows * sy) / 2 + this.pan[1]);
    return { sx, sy, left, top };
  }

  fit() { this.zoom = 1; this.pan = [0, 0]; this.draw(); }

  /** One image column on one canvas pixel. */
  actualSize() { this.zoom = 1 / this.fitScale; this.pan = [0, 0]; this.draw(); }

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
    const { sx, sy, left, top } = this.placement;
    return [((clientX - box.left) * this.ratio - left) / sx, ((clientY - box.top) * this.ratio - top) / sy];
  }

  /** Image coordinates to CSS pixels inside the canvas. */
  toScreen(column, row) {
    const { sx, sy, left, top } = this.placement;
    return [(left + column * sx) / this.ratio, (top + row * sy) / this.ratio];
  }

  draw() {
    clearTimeout(this.timer);
    if (!this.pending) this.pending = requestAnimationFrame(() => { this.pending = 0; this.drawNow(); });
  }

  drawNow() {
    if (!this.source) { this.context.fillRect(0, 0, this.canvas.width, this.canvas.height); return; }
    this.nearest();
    this.drawn?.();
    const { sx, sy } = this.placement;
    const { columns, rows } = this.source;
    if ((sx !== 1 || sy !== 1) && columns * rows <= SMOOTH_LIMIT) this.timer = setTimeout(() => this.smooth(), SMOOTH_AFTER_MS);
  }

  nearest() {
    const { columns, rows, codes, colors } = this.source;
    const { sx, sy, left, top } = this.placement;
    const { width, height } = this.canvas;
    const column = new Int32Array(width);
    for (let x = 0; x < width; x += 1) column[x] = Math.floor((x + 0.5 - left) / sx);
    const data = codes ?? colors;
    for (let y = 0; y < height; y += 1) {
      const row = Math.floor((y + 0.5 - top) / sy);
      const out = y * width;
      if (row < 0 || row >= rows) { this.pixels.fill(BLACK, out, out + width); continue; }
      const base = row * columns;
      for (let x = 0; x < width; x += 1) {
        const at = column[x];
        this.pixels[out + x] = at < 0 || at >= columns ? BLACK : codes ? this.words[data[base + at]] : data[base + at];
      }
    }
    this.context.putImageData(this.image, 0, 0);
  }

  /** Draw once more with the browser's interpolation between grey levels. */
  smooth() {
    const { columns, rows, codes, colors } = this.source;
    const { sx, sy, left, top } = this.placement;
    this.whole.width = columns;
    this.whole.height = rows;
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
    this.context.drawImage(this.whole, left, top, columns * sx, rows * sy);
  }
}
