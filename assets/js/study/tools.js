// Tools of the left button, and of the keyboard: a drag or a row of points becomes a window, a region or a shape.

import { draggedWindow, regionBetween } from "./gestures.js";

/** Points each shape is drawn with. */
export const POINTS = { length: 2, angle: 3, rectangle: 2, ellipse: 2, probe: 1 };
export const isShape = (tool) => tool in POINTS;
export const isDrawn = (tool) => tool === "region" || isShape(tool);

/** The window a drag starts from; a VOI LUT has no width, so the range of this frame stands in. */
export const startWindow = (pane) => pane.look.window ?? pane.loaded.meta.windows.find((one) => one.key === "full_range") ?? null;

/** Window a drag has reached. */
export function dragWindow(pane, start, dx, dy) {
  pane.look = { ...pane.look, window: draggedWindow(start, dx, dy), voiLut: null, rule: null };
}

const inside = (pane, [column, row]) => [Math.min(Math.max(column, 0), pane.columns), Math.min(Math.max(row, 0), pane.rows)];

/**
 * A shape or region being drawn, point by point. `done(tool, points)` is given shapes; the region is the pane's.
 * With a pointer two points are the ends of a drag; an angle's third point is a click of its own.
 */
export class Drawing {
  constructor(pane, tool, done) {
    this.pane = pane;
    this.tool = tool;
    this.done = done;
    this.points = [];
  }

  /** Put a point down; returns whether more are needed. */
  add(point) {
    this.points.push(inside(this.pane, point));
    if (this.points.length < (this.tool === "region" ? 2 : POINTS[this.tool])) return true;
    this.#finish();
    return false;
  }

  /** Show where the next point would be. */
  move(point) {
    const points = [...this.points, inside(this.pane, point)];
    if (this.tool === "region") {
      this.pane.region = points.length === 2 ? regionBetween(...points, { columns: this.pane.columns, rows: this.pane.rows }) : null;
      this.pane.overlay.draw();
      this.pane.changed(this.pane);
      return;
    }
    this.pane.overlay.draft = { kind: this.tool, points };
    this.pane.overlay.draw();
  }

  cancel() {
    this.pane.overlay.draft = null;
    this.pane.overlay.draw();
  }

  #finish() {
    const { pane, points, tool } = this;
    pane.overlay.draft = null;
    if (tool === "region") pane.region = regionBetween(...points, { columns: pane.columns, rows: pane.rows });
    else if (!isPoint(points) || tool === "probe") this.done(tool, points);
    pane.overlay.draw();
    pane.changed(pane);
  }
}

/** A drag that went nowhere was a click. */
const isPoint = (points) => points.every(([x, y]) => Math.hypot(x - points[0][0], y - points[0][1]) < 1e-6);
