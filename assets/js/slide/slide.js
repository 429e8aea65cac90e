// Whole slides: a map of tiles to move over; what is asked about is the marked region, else what is visible.

import { announce, el } from "../dom.js";
import { onLanguage, translate } from "../texts.js";
import { short } from "../view.js";
import { viewer } from "../viewer.js";

const POWERS = [1.25, 2.5, 5, 10, 20, 40];
const BAR_PX = 120; // widest scale bar
let library = null;

/** The map library, fetched the first time a slide is shown. */
function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    document.head.append(el("script", { src: "page/js/vendor/openseadragon/openseadragon.min.js", onload: () => resolve(window.OpenSeadragon), onerror: reject }));
  });
  return library;
}

/** A length in a unit a reader uses. */
const micrometres = (value) => (value >= 1000 ? `${short(value / 1000)} mm` : `${short(value)} µm`);

export function mountSlide(element) {
  const part = (name) => element.querySelector(`.${name}`);
  const [map, bar, powers, overview] = ["slide-map", "slide-scale", "magnifications", "slide-overview"].map(part);
  let slide = null; // what the server says of the slide shown
  let dragon = null; // the map
  let region = null; // marked, in pixels of level 0
  let marking = false;

  // --- the map -----------------------------------------------------------------------------------

  const open = async (next) => {
    const OpenSeadragon = await loadLibrary();
    if (slide?.digest === next.digest && dragon) return;
    dragon?.destroy();
    slide = next;
    region = null;
    const { digest, columns: width, rows: height, tile, levels } = next;
    dragon = new OpenSeadragon.Viewer({
      element: map, drawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorPosition: "TOP_RIGHT",
      animationTime: 0.3, maxZoomPixelRatio: 4, gestureSettingsMouse: { clickToZoom: false }, crossOriginPolicy: false,
      tileSources: { width, height, tileSize: tile, tileOverlap: 0, minLevel: 0, maxLevel: levels - 1, getTileUrl: (level, x, y) => `slides/${digest}/tiles/${level}/${x}_${y}.jpeg` },
    });
    dragon.addHandler("animation-finish", changed);
    dragon.addHandler("resize", changed);
    new OpenSeadragon.MouseTracker({ element: dragon.canvas, pressHandler: press, dragHandler: drag, releaseHandler: release }).setTracking(true);
    await new Promise((resolve) => { if (dragon.world.getItemCount()) resolve(); else dragon.addOnceHandler("open", resolve); });
    drawPowers();
  };

  const image = () => dragon.world.getItemAt(0);
  const clip = (box) => {
    const x = Math.min(Math.max(Math.floor(box.x), 0), slide.columns - 1);
    const y = Math.min(Math.max(Math.floor(box.y), 0), slide.rows - 1);
    return { x, y, width: Math.max(Math.min(Math.ceil(box.x + box.width), slide.columns) - x, 1), height: Math.max(Math.min(Math.ceil(box.y + box.height), slide.rows) - y, 1) };
  };
  const visible = () => clip(image().viewportToImageRectangle(dragon.viewport.getBounds(true).getBoundingBox()));
  const rotation = () => ((Math.round(dragon.viewport.getRotation() / 90) * 90) % 360 + 360) % 360;

  /** Screen pixels along one pixel of the slide. */
  const scale = () => image().viewportToImageZoom(dragon.viewport.getZoom(true));

  // --- the view ----------------------------------------------------------------------------------

  const view = () => (slide && dragon?.world.getItemCount() ? { slide: slide.digest, region: region ?? visible(), rotation: rotation(), overview: overview.checked } : null);

  const describe = () => {
    const shown = view();
    if (!shown) return "";
    const { width, height } = shown.region;
    const size = slide.mpp ? `${micrometres(width * slide.mpp.x)} × ${micrometres(height * slide.mpp.y)}` : `${width}×${height} px`;
    return ["SM", power(), size].filter(Boolean).join(" · ");
  };

  const power = () => (slide.magnification ? `${short(slide.magnification * Math.min(scale(), 1))}×` : "");

  const show = async (shown) => {
    await open(await viewer.info(shown.slide));
    overview.checked = shown.overview;
    const whole = shown.region.width === slide.columns && shown.region.height === slide.rows;
    dragon.viewport.setRotation(shown.rotation, true);
    const box = image().imageToViewportRectangle(shown.region.x, shown.region.y, shown.region.width, shown.region.height);
    dragon.viewport.fitBounds(box, true);
    mark(whole ? null : shown.region);
  };

  const mark = (next) => {
    region = next;
    dragon.clearOverlays();
    if (region) dragon.addOverlay({ element: el("div", { class: "marked" }), location: image().imageToViewportRectangle(region.x, region.y, region.width, region.height) });
    part("slide-clear").disabled = !region;
    changed();
  };

  const changed = () => { if (viewer.active() === "slide" && dragon?.world.getItemCount()) { drawBar(); announce("view", view()); } };

  // --- marking -----------------------------------------------------------------------------------

  let from = null;
  const place = (event) => image().viewerElementToImageCoordinates(event.position);
  const press = (event) => { from = marking ? place(event) : null; };
  const drag = (event) => {
    if (!from) return;
    event.preventDefaultAction = true;
    const to = place(event);
    mark(clip({ x: Math.min(from.x, to.x), y: Math.min(from.y, to.y), width: Math.abs(to.x - from.x), height: Math.abs(to.y - from.y) }));
  };
  const release = () => { if (from) setMarking(false); from = null; };
  const setMarking = (on) => {
    marking = on;
    part("slide-region").setAttribute("aria-pressed", String(on));
    dragon?.setMouseNavEnabled(!on);
  };

  // --- controls ----------------------------------------------------------------------------------

  const drawPowers = () => {
    const offered = slide.magnification ? POWERS.filter((one) => one <= slide.magnification * 1.01) : [];
    powers.replaceChildren(el("option", { value: "" }, "–"), ...offered.map((one) => el("option", { value: String(one) }, `${one}×`)));
    powers.disabled = !offered.length;
  };

  const drawBar = () => {
    const perPixel = (slide.mpp?.x ?? 1) / scale();
    const rough = perPixel * BAR_PX;
    const power10 = 10 ** Math.floor(Math.log10(rough));
    const length = [5, 2, 1].map((step) => step * power10).find((one) => one <= rough) ?? power10;
    bar.firstElementChild.style.width = `${length / perPixel}px`;
    bar.firstElementChild.textContent = slide.mpp ? micrometres(length) : `${short(length)} px`;
  };

  const zoom = (factor) => { dragon.viewport.zoomBy(factor); dragon.viewport.applyConstraints(); };
  const turn = () => { dragon.viewport.setRotation(rotation() + 90); changed(); };
  const fit = () => dragon.viewport.goHome();
  powers.addEventListener("change", () => {
    if (powers.value) dragon.viewport.zoomTo(image().imageToViewportZoom(Number(powers.value) / slide.magnification));
    powers.value = "";
  });
  overview.addEventListener("change", changed);
  for (const [name, run] of Object.entries({
    "slide-region": () => setMarking(!marking), "slide-clear": () => mark(null), "slide-turn": turn,
    "slide-in": () => zoom(1.5), "slide-out": () => zoom(1 / 1.5), "slide-fit": fit,
  })) part(name).addEventListener("click", () => { if (dragon) run(); });
  map.addEventListener("keydown", (event) => {
    // Enter marks what is visible; the map itself knows arrows, + and -
    const run = { Enter: () => mark(visible()), Escape: () => mark(null), "]": turn, f: fit }[event.key];
    if (!run || !dragon || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    run();
  });

  viewer.register("slide", {
    accepts: (shown) => Boolean(shown.slide),
    show, view, describe,
    hide: () => {},
    close: () => { dragon?.destroy(); dragon = null; slide = null; region = null; },
    modality: () => "SM",
    keys: [{ keys: ["Enter"], text: "ui.region_select" }, { keys: ["Esc"], text: "ui.region_clear" }, { keys: ["]"], text: "ui.rotate_slide" }, { keys: ["F"], text: "ui.slide_whole" }],
  });
  onLanguage(() => translate(part("slide-tools")));
}
