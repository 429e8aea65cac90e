// Whole slides: a map of tiles to move over; what is asked about is what is marked, else what is visible.

import { notice } from "../dialogs.js";
import { announce, el } from "../dom.js";
import { askServer } from "../server.js";
import { local, onLanguage, t, translate } from "../texts.js";
import { viewer } from "../viewer.js";
import { gridDialog } from "./grid.js";
import { openMap } from "./library.js";
import { makeMarks } from "./marking.js";
import { describeSlide, micrometres, powerText } from "./words.js";

const POWERS = [1, 2, 4, 10, 20, 40]; // objectives of a microscope
const BAR_PX = 120; // widest scale bar
const PAN = 0.15; // of what is visible, for one press of an arrow

export function mountSlide(element) {
  const part = (name) => element.querySelector(`.${name}`);
  const [map, bar, powers, overview, findings, sees] = ["slide-map", "slide-scale", "magnifications", "slide-overview", "slide-findings", "slide-sees"].map(part);
  let slide = null; // what the server says of the slide shown
  let dragon = null; // the map
  let opening = 0; // of several slides asked for, the last is shown

  // --- the map -----------------------------------------------------------------------------------

  const isReady = () => Boolean(slide && dragon?.world.getItemCount());
  const image = () => dragon.world.getItemAt(0);
  const rotation = () => ((Math.round(dragon.viewport.getRotation() / 90) * 90) % 360 + 360) % 360;

  /** Screen pixels along one pixel of the slide. */
  const scale = () => image().viewportToImageZoom(dragon.viewport.getZoom(true));

  const open = async (next) => {
    if (slide?.digest === next.digest && isReady()) return;
    close();
    const mine = opening;
    drawFindings(next); // before the map: they take room from it
    const made = await openMap(map, next);
    if (mine !== opening) { made.destroy(); return; }
    dragon = made;
    slide = next;
    for (const event of ["animation-finish", "resize"]) dragon.addHandler(event, changed);
    dragon.addHandler("animation", drawBar);
    let isTold = false;
    dragon.addHandler("tile-load-failed", () => { if (!isTold) { isTold = true; tellWhy(); } });
    marks.follow(dragon.canvas);
    drawPowers();
    bar.lastElementChild.textContent = slide.mpp ? `${[...new Set([slide.mpp.x, slide.mpp.y].map((one) => one.toPrecision(3)))].join(" × ")} µm/px · ${slide.mpp.source}` : "";
  };

  const close = () => { opening += 1; dragon?.destroy(); dragon = null; slide = null; marks.forget(); };

  /** Say why tiles do not come, in the server's words; the session may have ended, or the slide be gone. */
  const tellWhy = async () => {
    try { await askServer(`images/${slide.digest}`); notice(t("ui.slide_tile_failed"), "warning"); } catch (error) { notice(error.both ? local(error.both) : t("ui.slide_tile_failed")); }
  };

  // --- the view ----------------------------------------------------------------------------------

  // the entries stand in the order of the server's, so that equal views are equal texts
  const view = () => (isReady() ? { slide: slide.digest, region: marks.region() ?? marks.visible(), rotation: rotation(), overview: overview.checked, point: marks.point(), grid: marks.grid() } : null);

  const describe = () => { const shown = view(); return shown ? ["SM", describeSlide(shown, slide)].join(" · ") : ""; };

  const show = async (shown) => {
    try {
      await open(await viewer.info(shown.slide));
    } catch (error) {
      notice(error.both ? local(error.both) : t("ui.slide_tile_failed"));
      return;
    }
    if (slide?.digest !== shown.slide) return;
    const { region, point = null, grid = 0 } = shown;
    overview.checked = shown.overview;
    dragon.viewport.setRotation(shown.rotation, true);
    dragon.viewport.fitBounds(image().imageToViewportRectangle(region.x, region.y, region.width, region.height), true);
    const isWhole = region.width === slide.columns && region.height === slide.rows && !point && !grid;
    marks.mark(isWhole ? null : region, { at: point, parts: grid });
  };

  const changed = () => {
    if (viewer.active() !== "slide" || !isReady()) return;
    drawBar();
    drawMarks();
    announce("view", view());
  };

  const marks = makeMarks({ dragon: () => dragon, slide: () => slide, changed });

  // --- controls ----------------------------------------------------------------------------------

  const offered = () => (slide?.magnification ? POWERS.filter((one) => one <= slide.magnification * 1.01) : []);

  const drawPowers = () => {
    powers.replaceChildren(el("option", { value: "" }, "–"), ...offered().map((one) => el("option", { value: String(one) }, powerText(one))));
    powers.disabled = !offered().length;
  };

  const drawFindings = (shown) => {
    findings.dir = document.documentElement.dir;
    findings.replaceChildren(...(shown?.findings ?? []).map((both) => el("li", {}, local(both))));
  };

  const drawBar = () => {
    if (!isReady()) return;
    const perPixel = (slide.mpp?.x ?? 1) / scale();
    const rough = perPixel * BAR_PX;
    const power10 = 10 ** Math.floor(Math.log10(rough));
    const length = [5, 2, 1].map((step) => step * power10).find((one) => one <= rough) ?? power10;
    bar.firstElementChild.style.width = `${length / perPixel}px`;
    bar.firstElementChild.textContent = slide.mpp ? micrometres(length) : `${Math.max(1, Math.round(length))} px`;
    powers.options[0].textContent = slide.magnification ? powerText(slide.magnification * scale()) : "–";
  };

  const drawMarks = () => {
    for (const tool of ["region", "point"]) part(`slide-${tool}`).setAttribute("aria-pressed", String(marks.tool() === tool));
    map.classList.toggle("marking", Boolean(marks.tool()));
    part("slide-clear").disabled = !marks.region();
    part("slide-grid").setAttribute("aria-pressed", String(marks.grid() > 0));
    sees.textContent = t("ui.model_sees", { what: describeSlide(view(), slide) });
  };

  const zoom = (factor) => { dragon.viewport.zoomBy(factor); dragon.viewport.applyConstraints(); };
  const zoomTo = (power) => dragon.viewport.zoomTo(image().imageToViewportZoom(power / slide.magnification));
  const step = (direction) => {
    const now = slide.magnification * image().viewportToImageZoom(dragon.viewport.getZoom());
    const next = direction > 0 ? offered().find((one) => one > now * 1.01) : offered().findLast((one) => one < now * 0.99);
    if (next) zoomTo(next); else if (direction < 0) fit();
  };
  const turn = (degrees) => { dragon.viewport.setRotation(rotation() + degrees); changed(); };
  const fit = () => dragon.viewport.goHome();
  const pan = (x, y) => {
    const bounds = dragon.viewport.getBounds();
    dragon.viewport.panBy(new window.OpenSeadragon.Point(x * bounds.width * PAN, y * bounds.height * PAN).rotate(-dragon.viewport.getRotation()));
    dragon.viewport.applyConstraints();
  };
  const choose = (tool) => marks.choose(marks.tool() === tool ? null : tool);
  const cut = async () => {
    if (marks.grid()) { marks.cut(0); return; }
    const [about, shown] = [slide.digest, view()];
    const parts = await gridDialog(shown, slide).catch((error) => { notice(error.both ? local(error.both) : t("ui.slide_tile_failed")); return null; });
    if (parts && slide?.digest === about) marks.mark(shown.region, { at: shown.point, parts });
  };

  powers.addEventListener("change", () => { if (powers.value && isReady()) zoomTo(Number(powers.value)); powers.value = ""; });
  overview.addEventListener("change", changed);
  for (const [name, run] of Object.entries({
    "slide-region": () => choose("region"), "slide-point": () => choose("point"), "slide-clear": marks.clear, "slide-grid": cut,
    "slide-turn": () => turn(90), "slide-turn-left": () => turn(-90), "slide-in": () => zoom(1.5), "slide-out": () => zoom(1 / 1.5), "slide-fit": fit,
  })) part(name).addEventListener("click", () => { if (isReady()) run(); });

  const KEYS = {
    ArrowLeft: () => pan(-1, 0), ArrowRight: () => pan(1, 0), ArrowUp: () => pan(0, -1), ArrowDown: () => pan(0, 1),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), PageUp: () => step(1), PageDown: () => step(-1),
    Enter: marks.markVisible, p: marks.markCentre, g: cut, Escape: () => { if (marks.tool()) marks.choose(null); else marks.clear(); },
    "]": () => turn(90), "[": () => turn(-90), f: fit, 0: fit,
  };
  map.addEventListener("keydown", (event) => {
    const run = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!run || !isReady() || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    run();
  });

  viewer.register("slide", {
    accepts: (shown) => Boolean(shown.slide),
    show, view, describe, close,
    hide: () => { if (marks.tool()) marks.choose(null); },
    modality: () => "SM",
    keys: [
      { keys: ["←", "↑", "→", "↓"], text: "ui.key_pan" }, { keys: ["+", "-"], text: "ui.key_zoom" }, { keys: ["Page Up", "Page Down"], text: "ui.key_power" },
      { keys: ["F", "0"], text: "ui.slide_whole" }, { keys: ["[", "]"], text: "ui.rotate_slide" }, { keys: ["Enter"], text: "ui.key_mark_visible" },
      { keys: ["P"], text: "ui.key_mark_centre" }, { keys: ["G"], text: "ui.slide_grid" }, { keys: ["Esc"], text: "ui.region_clear" },
    ],
    gestures: [{ text: "ui.slide_drag" }, { text: "ui.slide_wheel" }],
  });
  onLanguage(() => { translate(part("slide-tools")); drawFindings(slide); if (isReady()) drawMarks(); });
}
