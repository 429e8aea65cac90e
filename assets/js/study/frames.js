// Frames and planes from the server: codes or colours with what they mean, kept within a byte budget.

import { askServer } from "../server.js";
import { codeValues } from "./window.js";

const BUDGET = 384 * 2 ** 20; // a cine loop of 512 x 512 x 2 bytes x 700 frames
const AT_ONCE = 4; // requests for frames nobody waits for yet
const kept = new Map(); // key -> { loading, loaded }, the least recently used first
const tables = new Map(); // code map as JSON -> values of its codes: most frames share one
let bytes = 0;
let plan = []; // frames to fetch ahead, the nearest first
let fetching = 0;

const keyOf = (digest, { frame, plane }) => (plane ? `${digest}/${frame}/${JSON.stringify(plane)}` : `${digest}/${frame}`);

const addressOf = (digest, { frame, plane }) => `images/${digest}/frames/${frame}${plane ? `/plane?plane=${encodeURIComponent(JSON.stringify(plane))}` : ""}`;

/** A frame or plane that is here already, or null. */
export const peek = (digest, place) => kept.get(keyOf(digest, place))?.loaded ?? null;

/**
 * A decoded frame or plane: { meta, codes, low, high, values } for grey, { meta, colors } for colour
 * (one ABGR word a pixel). `place` is { frame, plane }.
 */
export function fetchFrame(digest, place) {
  const key = keyOf(digest, place);
  let entry = kept.get(key);
  if (entry) kept.delete(key); // put back last: used most recently
  else {
    entry = { loading: load(addressOf(digest, place)), loaded: null };
    entry.loading.then((one) => { entry.loaded = one; bytes += one.size; trim(); }, () => { if (kept.get(key) === entry) kept.delete(key); });
  }
  kept.set(key, entry);
  return entry.loading;
}

/** Fetch frames before they are asked for, in this order; a new plan replaces the old one. */
export function fetchAhead(digest, places) {
  plan = places.filter((place) => !kept.has(keyOf(digest, place))).map((place) => ({ digest, place }));
  pump();
}

function pump() {
  while (fetching < AT_ONCE && plan.length) {
    const { digest, place } = plan.shift();
    if (kept.has(keyOf(digest, place))) continue;
    fetching += 1;
    fetchFrame(digest, place).catch(() => {}).finally(() => { fetching -= 1; pump(); });
  }
}

/** How many frames of a size fit into the budget. */
export const roomFor = (size) => Math.max(Math.floor((BUDGET * 0.9) / Math.max(size, 1)), 3);

/** Forget frames of pictures that are closed. */
export function forgetFrames() {
  plan = [];
  kept.clear();
  tables.clear();
  bytes = 0;
}

async function load(address) {
  const buffer = await (await askServer(address)).arrayBuffer();
  // layout: length of the description (uint32, little-endian), the description (JSON), the pixels
  const length = new DataView(buffer).getUint32(0, true);
  const meta = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const pixels = buffer.slice(4 + length);
  const size = pixels.byteLength;
  if (meta.format !== "u16") return { meta, size, colors: words(new Uint8Array(pixels)) };
  const codes = new Uint16Array(pixels);
  return { meta, size, codes, ...extent(codes), values: valuesOf(meta.code_map) };
}

/** Smallest and largest code: tables need not be made for others. */
function extent(codes) {
  let low = 65535;
  let high = 0;
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code < low) low = code;
    if (code > high) high = code;
  }
  return { low, high };
}

function valuesOf(codeMap) {
  const key = JSON.stringify(codeMap);
  if (!tables.has(key)) tables.set(key, codeValues(codeMap));
  return tables.get(key);
}

function words(rgb) {
  const out = new Uint32Array(rgb.length / 3);
  for (let at = 0, from = 0; at < out.length; at += 1, from += 3) {
    out[at] = 0xff000000 | (rgb[from + 2] << 16) | (rgb[from + 1] << 8) | rgb[from];
  }
  return out;
}

function trim() {
  for (const [key, { loaded }] of kept) {
    if (bytes <= BUDGET || kept.size <= 2) return;
    if (!loaded) continue;
    kept.delete(key);
    bytes -= loaded.size;
  }
}
