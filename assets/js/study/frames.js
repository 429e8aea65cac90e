// Frames of images from the server: codes or colours with what they mean, kept within a byte budget.

import { askServer } from "../server.js";

const BUDGET = 384 * 2 ** 20; // a cine loop of 512 x 512 x 2 bytes x 700 frames
const kept = new Map();
let bytes = 0;

/** A decoded frame: { meta, codes } for grey, { meta, colors } for colour (one ABGR word a pixel). */
export function frame(digest, index) {
  const key = `${digest}/${index}`;
  if (!kept.has(key)) {
    const loading = load(digest, index);
    kept.set(key, loading);
    loading.then((one) => { bytes += one.size; trim(); }, () => kept.delete(key));
  } else {
    const again = kept.get(key);
    kept.delete(key);
    kept.set(key, again);
  }
  return kept.get(key);
}

async function load(digest, index) {
  const buffer = await (await askServer(`images/${digest}/frames/${index}`)).arrayBuffer();
  // layout: length of the description (uint32, little-endian), the description (JSON), the pixels
  const length = new DataView(buffer).getUint32(0, true);
  const meta = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const pixels = buffer.slice(4 + length);
  const size = pixels.byteLength;
  return meta.format === "u16" ? { meta, size, codes: new Uint16Array(pixels) } : { meta, size, colors: words(new Uint8Array(pixels)) };
}

function words(rgb) {
  const out = new Uint32Array(rgb.length / 3);
  for (let at = 0, from = 0; at < out.length; at += 1, from += 3) {
    out[at] = 0xff000000 | (rgb[from + 2] << 16) | (rgb[from + 1] << 8) | rgb[from];
  }
  return out;
}

function trim() {
  for (const [key, loading] of kept) {
    if (bytes <= BUDGET || kept.size <= 2) return;
    kept.delete(key);
    loading.then((one) => { bytes -= one.size; });
  }
}
