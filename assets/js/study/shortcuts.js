// Keys of the image viewer, in one list: what they do, and what the help says of them.

/** `keys` as they are written on a keyboard, `match` as events name them, `text` the key of a sentence. */
export const SHORTCUTS = [
  { keys: ["↑", "↓"], match: { ArrowUp: "before", ArrowLeft: "before", ArrowDown: "after", ArrowRight: "after" }, text: "ui.key_slices" },
  { keys: ["Page Up", "Page Down"], match: { PageUp: "tenBefore", PageDown: "tenAfter" }, text: "ui.key_ten_slices" },
  { keys: ["Home", "End"], match: { Home: "first", End: "last" }, text: "ui.key_ends" },
  { keys: ["1 … 9"], match: {}, text: "ui.key_windows" },
  { keys: [",", "."], match: { ",": "narrower", ".": "wider" }, text: "ui.key_width" },
  { keys: ["<", ">"], match: { "<": "lower", ">": "higher" }, text: "ui.key_center" },
  { keys: ["I"], match: { i: "invert" }, text: "ui.invert" },
  { keys: ["+", "-"], match: { "+": "zoomIn", "=": "zoomIn", "-": "zoomOut" }, text: "ui.key_zoom" },
  { keys: ["Shift+↑ ↓ ← →"], match: {}, text: "ui.key_pan" },
  { keys: ["0"], match: { 0: "actual" }, text: "ui.actual_size" },
  { keys: ["F"], match: { f: "fit" }, text: "ui.fit" },
  { keys: ["R"], match: { r: "reset" }, text: "ui.reset_view" },
  { keys: ["[", "]"], match: { "[": "rotateLeft", "]": "rotateRight" }, text: "ui.key_rotate" },
  { keys: ["H", "V"], match: { h: "flip", v: "upend" }, text: "ui.key_flip" },
  { keys: ["O"], match: { o: "smooth" }, text: "ui.smooth" },
  { keys: ["P"], match: { p: "cine" }, text: "ui.cine" },
  { keys: ["M"], match: { m: "mpr" }, text: "ui.layout_mpr" },
  { keys: ["X"], match: { x: "tool:crosshair" }, text: "ui.key_crosshair" },
  { keys: ["C"], match: { c: "compare" }, text: "ui.layout_compare" },
  { keys: ["S"], match: { s: "choose" }, text: "ui.tray_add" },
  { keys: ["W"], match: { w: "tool:window" }, text: "ui.tool_window" },
  { keys: ["D", "Z"], match: { d: "tool:pan", z: "tool:zoom" }, text: "ui.key_drag_tools" },
  { keys: ["K"], match: { k: "rule" }, text: "ui.rule_three_windows" },
  { keys: ["G"], match: { g: "tool:region" }, text: "ui.region_select" },
  { keys: ["L", "A", "T", "E", "B"], match: { l: "tool:length", a: "tool:angle", t: "tool:rectangle", e: "tool:ellipse", b: "tool:probe" }, text: "ui.key_measure" },
  { keys: ["Enter"], match: {}, text: "ui.key_draw" },
  { keys: ["↑ ↓ ← →", "Shift+↑ ↓ ← →"], match: {}, text: "ui.key_pointer" },
  { keys: ["Esc"], match: { Escape: "clear" }, text: "ui.region_clear" },
];

/** What the mouse and fingers do, whatever tool is chosen. */
export const GESTURES = ["wheel", "ctrl_wheel", "pan", "right", "double", "fingers"].map((name) => ({ text: `ui.mouse_${name}` }));

const OF_CODES = { BracketLeft: "[", BracketRight: "]", Minus: "-", Equal: "=", Comma: ",", Period: "." };

/**
 * Key as a Latin keyboard names it. One in Arabic writes other letters and digits with the same keys, so for
 * what is no Latin character the key's place counts.
 */
export function latinKey({ key, code }) {
  if (key.length > 1) return key;
  if (/^[ -~]$/.test(key)) return key.toLowerCase();
  return /^(?:Key|Digit)(?<name>[A-Z0-9])$/.exec(code)?.groups.name.toLowerCase() ?? OF_CODES[code] ?? key;
}

/** Action of a pressed key, or undefined. */
export const actionOf = (event) => SHORTCUTS.map(({ match }) => match[latinKey(event)]).find(Boolean);
