// Planes linked by one place in the patient: what is pointed at in one pane is cut through in the others.

import { askServer } from "../server.js";
import { nearestFrame, pixelOf, placeOf, snapped } from "./place.js";

export const PLANES = ["axial", "coronal", "sagittal"];
const known = new Map(); // digest -> promise of its geometry

/** Where an image lies and which planes it has; asked once. */
export function geometryOf(digest) {
  if (!known.has(digest)) {
    const asked = askServer(`images/${digest}/geometry`).then((answer) => answer.json());
    known.set(digest, asked);
    asked.catch(() => known.delete(digest));
  }
  return known.get(digest);
}

/** A plane of a kind through a place. */
export const planeAt = (geometry, plane, point, slab = {}) => ({
  plane, position_mm: snapped(geometry.planes[plane], point[geometry.planes[plane].axis]),
  projection: slab.projection ?? "none", thickness_mm: slab.thickness_mm ?? 0,
});

/** Middle of what a pane shows, in the patient. */
export const middleOf = (pane) => placeOf(pane.loaded.meta.place, [pane.columns / 2, pane.rows / 2]);

/** Show in a pane what goes through a place; while one picture is on its way only the newest wish is kept. */
export function follow(pane, geometry, point) {
  const { plane } = pane.place ?? {};
  const place = plane ? { frame: pane.place.frame, plane: planeAt(geometry, plane.plane, point, plane) } : { frame: nearestFrame(geometry.frames, point) ?? pane.place.frame, plane: null };
  pane.overlay.point = point;
  if (JSON.stringify(place) === JSON.stringify(pane.wanted ?? pane.place)) { pane.overlay.draw(); return; }
  if (pane.following) { pane.next = place; return; }
  pane.following = true;
  pane.go(place).catch(() => {}).finally(() => {
    pane.following = false;
    const { next } = pane;
    pane.next = null;
    if (next) follow(pane, geometry, pane.overlay.point);
  });
}

/** Place under a point of a pane's picture, when the picture knows where it lies. */
export const pointAt = (pane, pixel) => (pane.loaded?.meta.place ? placeOf(pane.loaded.meta.place, pixel) : null);

/** Where the place panes are linked by lies on a pane's picture, or null. */
export const linkedPixel = ({ loaded, overlay }) => (loaded?.meta.place && overlay.point ? pixelOf(loaded.meta.place, overlay.point) : null);

/** Whether a place is on a pane's picture. */
export function isOn(pane, point) {
  const [column, row] = pixelOf(pane.loaded.meta.place, point);
  return column >= 0 && row >= 0 && column <= pane.columns && row <= pane.rows;
}
