// Regions and points on a slide: by mouse or finger, and by keyboard from what is visible.

import { el } from "../dom.js";
import { MODEL_PX, partsOf } from "./words.js";

const SMALLEST_PX = 4; // on screen; less is a click that missed

/** `dragon()` is the map, `slide()` what the server says of it; `changed()` is called after every change of a mark. */
export function makeMarks({ dragon, slide, changed }) {
  let region = null; // in pixels of level 0
  let point = null; // a place inside the region
  let grid = 0; // parts the region is cut into, at most
  let tool = null; // "region" or "point" while the mouse marks
  let from = null;

  const image = () => dragon().world.getItemAt(0);
  const between = (value, low, high) => Math.min(Math.max(value, low), high);

  /** The whole pixels of a rectangle that are on the slide. */
  const clip = (box) => {
    const { columns, rows } = slide();
    const x = between(Math.floor(box.x), 0, columns - 1);
    const y = between(Math.floor(box.y), 0, rows - 1);
    return { x, y, width: Math.max(Math.min(Math.ceil(box.x + box.width), columns) - x, 1), height: Math.max(Math.min(Math.ceil(box.y + box.height), rows) - y, 1) };
  };
  const visible = () => clip(image().viewportToImageRectangle(dragon().viewport.getBounds(true).getBoundingBox()));

  /** The square around a place that the model sees with the detail on screen, or with full detail. */
  const around = (place) => {
    const { columns, rows } = slide();
    const onScreen = image().viewportToImageZoom(dragon().viewport.getZoom(true));
    const side = Math.round(MODEL_PX / Math.min(onScreen, 1));
    const [width, height] = [Math.min(side, columns), Math.min(side, rows)];
    return { x: between(place.x - Math.floor(width / 2), 0, columns - width), y: between(place.y - Math.floor(height / 2), 0, rows - height), width, height };
  };

  const draw = () => {
    dragon().clearOverlays();
    if (!region) return;
    const [columns, rows] = partsOf({ region, rotation: 0, grid });
    const box = el("div", { class: "marked", style: columns * rows > 1 ? `--columns: ${columns}; --rows: ${rows}` : null });
    box.classList.toggle("cut", columns * rows > 1);
    dragon().addOverlay({ element: box, location: image().imageToViewportRectangle(region.x, region.y, region.width, region.height) });
    if (point) dragon().addOverlay({ element: el("div", { class: "pointed" }), location: image().imageToViewportCoordinates(point.x + 0.5, point.y + 0.5), placement: "CENTER", rotationMode: "NO_ROTATION" });
  };

  const mark = (next, { at = null, parts = 0 } = {}) => {
    region = next;
    point = next && at;
    grid = next ? parts : 0;
    draw();
    changed();
  };
  const markPoint = (place) => {
    const at = { x: between(Math.floor(place.x), 0, slide().columns - 1), y: between(Math.floor(place.y), 0, slide().rows - 1) };
    mark(around(at), { at });
  };
  const markCentre = () => markPoint(image().viewportToImageCoordinates(dragon().viewport.getCenter(true)));

  const choose = (next) => {
    tool = next;
    from = null;
    dragon()?.setMouseNavEnabled(!next);
    changed();
  };

  const place = (event) => image().viewerElementToImageCoordinates(event.position);
  const press = (event) => { from = tool ? { at: place(event), position: event.position, isDrawn: false } : null; };
  const drag = (event) => {
    if (!from || tool !== "region") return;
    event.preventDefaultAction = true;
    const [a, b] = [from.at, place(event)];
    if (Math.max(Math.abs(event.position.x - from.position.x), Math.abs(event.position.y - from.position.y)) < SMALLEST_PX) return;
    from.isDrawn = true;
    mark(clip({ x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), width: Math.abs(a.x - b.x), height: Math.abs(a.y - b.y) }));
  };
  const release = () => {
    if (!from) return;
    const { at, isDrawn } = from;
    from = null;
    const isOn = at.x >= 0 && at.y >= 0 && at.x < slide().columns && at.y < slide().rows;
    if (tool === "point" && isOn) markPoint(at);
    if (tool === "point" ? isOn : isDrawn) choose(null);
  };

  return {
    mark, markCentre, visible, clip, choose,
    follow: (canvas) => new window.OpenSeadragon.MouseTracker({ element: canvas, pressHandler: press, dragHandler: drag, releaseHandler: release }).setTracking(true),
    markVisible: () => mark(visible()),
    cut: (parts) => mark(region ?? visible(), { at: point, parts }),
    clear: () => mark(null),
    forget: () => { region = null; point = null; grid = 0; tool = null; },
    region: () => region, point: () => point, grid: () => grid, tool: () => tool,
  };
}
