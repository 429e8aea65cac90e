// What of a slide is shown, in a few characters: the magnification, size and pictures that the model is given.

export const MODEL_PX = 336; // along a side of the square the model sees; see viewers/slide_view.py
const LONGEST_PX = 4096;

const short = (number) => String(Math.abs(number) >= 100 ? Math.round(number) : Number(number.toPrecision(3)));

/** A length in a unit a reader uses. */
export const micrometres = (value) => (value >= 1000 ? `${short(value / 1000)} mm` : `${short(value)} µm`);

/** Magnification as it is written on an objective. */
export const powerText = (value) => `${short(value)}×`;

/** Pixels of full detail along one pixel of a region's picture; the same rule as the server's. */
export function scaleOf({ width, height }) {
  let scale = 1;
  while (Math.floor(Math.min(width, height) / (2 * scale)) >= MODEL_PX) scale *= 2;
  while (Math.ceil(Math.max(width, height) / scale) > LONGEST_PX) scale *= 2;
  return scale;
}

/** Columns and rows a region is cut into, as it is seen when turned; the same rule as the server's. */
export function partsOf({ region, rotation, grid }) {
  if (!grid) return [1, 1];
  for (let scale = 1; ; scale *= 2) {
    const parts = [region.width, region.height].map((side) => Math.max(1, Math.floor(side / (MODEL_PX * scale))));
    if (parts[0] * parts[1] <= grid) return rotation % 180 ? parts.toReversed() : parts;
  }
}

/** How many pictures the model is given of a view. */
export function picturesOf(view, slide) {
  const [columns, rows] = partsOf(view);
  const isWhole = slide && view.region.width === slide.columns && view.region.height === slide.rows;
  return 1 + (view.overview && !isWhole ? 1 : 0) + (columns * rows > 1 ? columns * rows : 0);
}

/** A view of a slide; `slide` is what the server says of it, without which there are pixels alone. */
export function describeSlide(view, slide) {
  const turned = view.rotation % 180 !== 0;
  const sides = turned ? [view.region.height, view.region.width] : [view.region.width, view.region.height];
  const mpp = slide?.mpp && (turned ? [slide.mpp.y, slide.mpp.x] : [slide.mpp.x, slide.mpp.y]);
  const size = mpp ? sides.map((side, axis) => micrometres(side * mpp[axis])).join(" × ") : `${sides.join("×")} px`;
  const power = slide?.magnification ? powerText(slide.magnification / scaleOf(view.region)) : "";
  const [columns, rows] = partsOf(view);
  const pictures = picturesOf(view, slide);
  return [power, size, view.point ? "⌖" : "", columns * rows > 1 ? `${columns}×${rows}` : "", pictures > 1 ? `[${pictures}]` : ""].filter(Boolean).join(" · ");
}
