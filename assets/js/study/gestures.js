// What a drag means, in modality values and image pixels.

/** Window after a drag: sideways is width, up and down is centre, in steps of the width it started from. */
export function draggedWindow(start, dx, dy) {
  const step = Math.max(start.width, 1e-6) / 300;
  const least = start.function === "LINEAR" ? 1 : start.width / 1000;
  const exact = start.width >= 20 ? Math.round : (value) => Number(value.toPrecision(4));
  return { function: start.function, name: "", width: Math.max(exact(start.width + dx * step), least), center: exact(start.center + dy * step) };
}

/** Whole pixels between two points of an image, or null when that is less than two either way. */
export function regionBetween([x1, y1], [x2, y2], image) {
  const inside = (value, limit) => Math.min(Math.max(value, 0), limit);
  const left = Math.floor(inside(Math.min(x1, x2), image.columns));
  const top = Math.floor(inside(Math.min(y1, y2), image.rows));
  const width = Math.ceil(inside(Math.max(x1, x2), image.columns)) - left;
  const height = Math.ceil(inside(Math.max(y1, y2), image.rows)) - top;
  return width < 2 || height < 2 ? null : { x: left, y: top, width, height };
}
