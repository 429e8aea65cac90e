// Where pixels lie in the patient: millimetres, +x left, +y back, +z head. See viewers/browser.py for the sums.

const dot = (one, other) => one[0] * other[0] + one[1] * other[1] + one[2] * other[2];
const minus = (one, other) => [one[0] - other[0], one[1] - other[1], one[2] - other[2]];
const cross = (one, other) => [one[1] * other[2] - one[2] * other[1], one[2] * other[0] - one[0] * other[2], one[0] * other[1] - one[1] * other[0]];

/** Place of image coordinates, where (0.5, 0.5) is the middle of the first pixel. */
export const placeOf = ({ origin, column_mm: across, row_mm: down }, [column, row]) => origin.map((start, axis) => start + (column - 0.5) * across[axis] + (row - 0.5) * down[axis]);

/** Image coordinates of the foot of a place on a plane. */
export function pixelOf({ origin, column_mm: across, row_mm: down }, point) {
  const away = minus(point, origin);
  return [dot(away, across) / dot(across, across) + 0.5, dot(away, down) / dot(down, down) + 0.5];
}

/** Distance of a place from a plane, in millimetres. */
export function distanceTo({ origin, column_mm: across, row_mm: down }, point) {
  const normal = cross(across, down);
  return Math.abs(dot(minus(point, origin), normal)) / Math.hypot(...normal);
}

/** Position of a frame along the direction it faces: what a reader calls the slice position. */
export function positionOf({ origin, column_mm: across, row_mm: down }) {
  const normal = cross(across, down);
  const axis = [0, 1, 2].reduce((best, one) => (Math.abs(normal[one]) > Math.abs(normal[best]) ? one : best), 0);
  return { axis: "XYZ"[axis], mm: origin[axis] };
}

/** Of places of frames the one a point lies nearest to; null when none is known. */
export function nearestFrame(places, point) {
  let best = null;
  let least = Infinity;
  places.forEach((place, index) => {
    const away = place ? distanceTo(place, point) : Infinity;
    if (away < least - 1e-6) { least = away; best = index; }
  });
  return best;
}

/** Position within what a kind of plane can show, on one of its own steps. */
export function snapped({ low_mm: low, high_mm: high, step_mm: step, count }, mm) {
  if (!step) return low;
  const index = Math.min(Math.max(Math.round((mm - low) / step), 0), count - 1);
  return Math.min(low + index * step, high);
}

/** Which of a kind of plane's positions, from 0. */
export const planeIndex = ({ low_mm: low, step_mm: step }, mm) => (step ? Math.round((mm - low) / step) : 0);
