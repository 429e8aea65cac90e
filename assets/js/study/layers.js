// Drawings and shutters over a frame: pixels they make white or black, laid over the colours that are drawn.

const BLACK = 0xff000000;
const WHITE = 0xffffffff;
const marked = new WeakMap(); // layer -> indices of its pixels

/** Which layers a look shows of a frame: the shutters of its presentation first, then what is drawn. */
function shown(meta, { graphics, presentation }) {
  const state = meta.presentations?.find((one) => one.number === presentation);
  const hidden = meta.layers.filter((one) => one.kind === "hidden" && state && one.presentation === presentation);
  if (!graphics) return hidden;
  const overlays = meta.layers.filter((one) => one.kind === "overlay" && (!state || state.overlays.includes(one.group)));
  const drawn = meta.layers.filter((one) => one.kind === "drawn" && state && one.presentation === presentation);
  return [...hidden, ...overlays, ...drawn];
}

/** Whether something is drawn over a frame. */
export const hasGraphics = (meta) => Boolean(meta?.layers?.some((one) => one.kind !== "hidden"));

/** Colours of a frame with its layers (one ABGR word a pixel), or null when the look shows none. */
export function withLayers({ meta, codes, colors }, words, look) {
  const layers = meta.layers?.length ? shown(meta, look) : [];
  if (!layers.length) return null;
  const made = new Uint32Array(codes ? codes.length : colors);
  if (codes) for (let at = 0; at < made.length; at += 1) made[at] = words[codes[at]];
  for (const layer of layers) {
    const word = layer.kind === "hidden" ? BLACK : WHITE;
    for (const at of indices(layer)) made[at] = word;
  }
  return made;
}

function indices(layer) {
  if (!marked.has(layer)) {
    const bytes = Uint8Array.from(atob(layer.bits), (letter) => letter.charCodeAt(0));
    const found = [];
    bytes.forEach((byte, place) => { for (let bit = 0; bit < 8; bit += 1) if (byte & (128 >> bit)) found.push(place * 8 + bit); });
    marked.set(layer, Uint32Array.from(found));
  }
  return marked.get(layer);
}
