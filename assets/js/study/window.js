// From stored code to grey level: the browser's half of viewers/window.py, same operations in the same order.

export const CODES = 65536;

const roundHalfEven = (y) => {
  const floor = Math.floor(y);
  const rest = y - floor;
  return rest < 0.5 ? floor : rest > 0.5 ? floor + 1 : floor + (floor & 1);
};

/** Modality value of every code, Float64Array of 65536. */
export function codeValues(codeMap) {
  if (codeMap.table) {
    const bytes = Uint8Array.from(atob(codeMap.table), (letter) => letter.charCodeAt(0));
    return new Float64Array(bytes.buffer); // little-endian, as every browser's own
  }
  const values = new Float64Array(CODES);
  for (let code = 0; code < CODES; code += 1) values[code] = (code - codeMap.offset) * codeMap.slope + codeMap.intercept;
  return values;
}

function windowed({ center, width, function: kind }) {
  if (kind === "SIGMOID") return (value) => 255 / (1 + Math.exp((-4 * (value - center)) / width));
  const c = kind === "LINEAR" ? center - 0.5 : center;
  const w = kind === "LINEAR" ? width - 1 : width;
  const low = c - w / 2;
  const high = c + w / 2;
  return (value) => (value <= low ? 0 : value > high ? 255 : ((value - c) / w + 0.5) * 255);
}

function tabled({ first, table, bits }) {
  const last = table.length - 1;
  const largest = 2 ** bits - 1;
  return (value) => (table[Math.min(Math.max(roundHalfEven(value) - first, 0), last)] * 255) / largest;
}

/** Grey level of every code, Uint8Array of 65536; only codes from `low` to `high` where those are given. */
export function buildLut(codeMap, values, transform, inverted, low = 0, high = CODES - 1) {
  const grey = new Uint8Array(CODES);
  const level = transform.table ? tabled(transform) : windowed(transform);
  for (let code = low; code <= high; code += 1) {
    const y = roundHalfEven(Math.min(Math.max(level(values[code]), 0), 255));
    grey[code] = inverted ? 255 - y : y;
  }
  if (codeMap.padding) grey.fill(0, codeMap.padding[0], codeMap.padding[1] + 1);
  return grey;
}

/** Write the ABGR word of each code of a frame into `words`: grey levels, or three windows as red, green and blue. */
export function buildWords(words, { meta, values, low, high }, look) {
  const table = (transform, inverted) => buildLut(meta.code_map, values, transform, inverted, low, high);
  if (look.rule) {
    const [red, green, blue] = look.rule.channels.map((key) => table(meta.windows.find((one) => one.key === key), false));
    for (let code = low; code <= high; code += 1) words[code] = 0xff000000 | (blue[code] << 16) | (green[code] << 8) | red[code];
    return;
  }
  const transform = look.voiLut === null ? look.window : meta.windows.find((one) => one.voi_lut === look.voiLut);
  const grey = table(transform, look.inverted);
  for (let code = low; code <= high; code += 1) words[code] = 0xff000000 | (grey[code] * 0x010101);
}
