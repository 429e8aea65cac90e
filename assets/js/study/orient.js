// How an image lies on screen: turned and flipped as viewers/proportions.py does it, flip first, then clockwise.

/** Letters at the edges after a turn: the same exchange as EdgeMarks.turned. */
export function turnedMarks({ top, right, bottom, left }, { rotation, flipped }) {
  const edges = flipped ? [top, left, bottom, right] : [top, right, bottom, left];
  const steps = rotation / 90;
  const at = (place) => edges[(place - steps + 4) % 4];
  return { top: at(0), right: at(1), bottom: at(2), left: at(3) };
}

/** Turned by another quarter, clockwise when `by` is 1; what is flipped stays flipped on screen. */
export const quarter = ({ rotation, flipped }, by) => ({ rotation: (rotation + 90 * by + 360) % 360, flipped });

/** Left and right on screen exchanged, whatever the rotation. */
export const mirrored = ({ rotation, flipped }) => ({ rotation: (360 - rotation) % 360, flipped: !flipped });

/** Top and bottom on screen exchanged. */
export const upended = ({ rotation, flipped }) => ({ rotation: (540 - rotation) % 360, flipped: !flipped });

/**
 * Map from pixels (column, row) to the picture with square pixels, in widths of a pixel:
 * x = a * column + b * row + e, y = c * column + d * row + f; and the picture's width and height.
 */
export function layOut(columns, rows, aspect, { rotation, flipped }) {
  const across = columns;
  const down = rows * aspect;
  const flip = flipped ? { u: -1, u0: across } : { u: 1, u0: 0 };
  const upright = { a: flip.u, b: 0, e: flip.u0, c: 0, d: aspect, f: 0 };
  const { a, d, e } = upright;
  switch (rotation) {
    case 90: return { a: 0, b: -d, e: down, c: a, d: 0, f: e, width: down, height: across };
    case 180: return { a: -a, b: 0, e: across - e, c: 0, d: -d, f: down, width: across, height: down };
    case 270: return { a: 0, b: d, e: 0, c: -a, d: 0, f: across - e, width: down, height: across };
    default: return { ...upright, width: across, height: down };
  }
}
