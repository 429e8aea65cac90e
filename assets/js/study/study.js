// Image viewer: frames by wheel, window by drag, regions, presets; never mirrored in a right-to-left page.
// What it shows is described by a view, the same value the server renders, the model sees and history keeps.

import { notice } from "../dialogs.js";
import { announce, el } from "../dom.js";
import { local, onLanguage, t } from "../texts.js";
import { describeView, isInUse, short } from "../view.js";
import { viewer } from "../viewer.js";
import { Painter } from "./canvas.js";
import { frame } from "./frames.js";
import { draggedWindow, regionBetween } from "./gestures.js";
import { buildLut, codeValues } from "./window.js";

export function mountStudy(element) {
  const part = (name) => element.querySelector(`.${name}`);
  const [canvas, stage, presets, slider] = ["pixels", "stage", "presets", "frames"].map(part);
  const painter = new Painter(canvas);
  let image = null;
  let shown = null; // the frame on screen: { index, meta, codes | colors, values }
  let wanted = 0;
  let state = { window: null, voiLut: null, inverted: false, region: null };
  let words = new Uint32Array(65536);
  let tool = "window";

  // --- the view --------------------------------------------------------------------------------

  const view = () => (image && shown ? {
    image: image.digest, frame: shown.index, window: state.window, voi_lut: state.voiLut, inverted: state.inverted, region: state.region,
  } : null);

  const describe = () => (image && shown ? [image.modality, describeView(view(), image.frames)].filter(Boolean).join(" · ") : "");

  const changed = () => { drawTexts(); announce("view", view()); };

  const transform = () => (state.voiLut === null ? state.window : shown.meta.windows.find((one) => one.voi_lut === state.voiLut));

  const makeWords = () => {
    if (!shown.codes) return;
    const lut = buildLut(shown.meta.code_map, shown.values, transform(), state.inverted);
    for (let code = 0; code < lut.length; code += 1) words[code] = 0xff000000 | (lut[code] * 0x010101);
  };

  const paint = () => {
    if (!shown) return;
    makeWords();
    painter.show({ columns: image.columns, rows: image.rows, aspect: image.aspect, codes: shown.codes, colors: shown.colors }, words);
    changed();
  };

  // --- opening ---------------------------------------------------------------------------------

  const show = async (wish) => {
    try {
      const next = await viewer.info(wish.image);
      const other = image?.digest !== next.digest;
      image = next;
      if (other) { shown = null; painter.zoom = 1; painter.pan = [0, 0]; }
      slider.max = String(next.frames - 1);
      slider.hidden = next.frames < 2;
      drawFindings();
      await go(wish.frame, { window: wish.window, voiLut: wish.voi_lut ?? null, inverted: wish.inverted, region: wish.region ?? null });
    } catch (error) {
      if (error.both) { viewer.images.delete(wish.image); announce("images"); }
      notice(error.both ? local(error.both) : t("ui.server_lost"));
    }
  };

  const close = () => {
    image = null;
    shown = null;
    state = { window: null, voiLut: null, inverted: false, region: null };
    slider.hidden = true;
    painter.show(null, words);
    drawFindings();
    drawTexts();
  };

  const go = async (index, next = null) => {
    wanted = Math.min(Math.max(index, 0), image.frames - 1);
    const { digest } = image;
    const target = wanted;
    const loaded = await frame(digest, target);
    if (image?.digest !== digest || target !== wanted) return;
    if (!loaded.values && loaded.codes) loaded.values = codeValues(loaded.meta.code_map);
    shown = { index: target, ...loaded };
    if (next) state = next;
    if (shown.codes && !state.window && state.voiLut === null) choose(shown.meta.windows.find((one) => one.key === shown.meta.default));
    if (!shown.codes) state = { ...state, window: null, voiLut: null, inverted: false };
    slider.value = String(target);
    paint();
    for (const near of [target + 1, target - 1]) if (near >= 0 && near < image.frames) frame(digest, near).catch(() => {});
  };

  const turn = (by) => { if (image) go(wanted + by).catch(() => notice(t("ui.server_lost"))); };

  // --- changing --------------------------------------------------------------------------------

  const choose = (named) => {
    state.voiLut = named.voi_lut;
    state.window = named.voi_lut === null ? { center: named.center, width: named.width, function: named.function, name: named.name } : null;
  };

  const actions = {
    invert: () => { if (shown.codes) { state.inverted = !state.inverted; paint(); } },
    clear: () => { state.region = null; paint(); },
    zoomIn: () => zoom(1.25),
    zoomOut: () => zoom(0.8),
    actual: () => { painter.actualSize(); changed(); },
    fit: () => { painter.fit(); changed(); },
    reset: () => { if (image) { painter.fit(); show({ ...image.default_view, frame: wanted }); } },
  };

  const zoom = (factor) => {
    const box = canvas.getBoundingClientRect();
    painter.zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
    changed();
  };

  const setTool = (name) => {
    tool = name;
    for (const button of element.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    stage.dataset.cursor = name;
  };

  // --- pointers --------------------------------------------------------------------------------

  const pointers = new Map();
  let drag = null;

  const begin = (event) => {
    if (!shown) return;
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) { drag = { kind: "pinch", apart: apart() }; return; }
    const kind = event.button === 1 || event.shiftKey ? "pan" : event.button === 2 ? "window" : tool;
    drag = { kind, x: event.clientX, y: event.clientY, from: painter.toImage(event.clientX, event.clientY), before: state.region };
    if (kind === "window") drag.window = startWindow();
    event.preventDefault();
  };

  const apart = () => { const [a, b] = [...pointers.values()]; return { distance: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 }; };

  /** The window a drag starts from; a VOI LUT has no width, so the range of this frame stands in. */
  const startWindow = () => state.window ?? shown.meta.windows.find((one) => one.key === "full") ?? null;

  const follow = (event) => {
    if (!pointers.has(event.pointerId)) return;
    const [lastX, lastY] = pointers.get(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (!drag) return;
    if (drag.kind === "pinch") {
      const now = apart();
      painter.zoomAt(now.distance / drag.apart.distance, now.x, now.y);
      painter.move(now.x - drag.apart.x, now.y - drag.apart.y);
      drag.apart = now;
      changed();
    } else if (drag.kind === "pan") {
      painter.move(event.clientX - lastX, event.clientY - lastY);
      changed();
    } else if (drag.kind === "region") {
      state.region = regionBetween(drag.from, painter.toImage(event.clientX, event.clientY), image);
      changed();
    } else if (drag.window) {
      state.window = draggedWindow(drag.window, event.clientX - drag.x, event.clientY - drag.y);
      state.voiLut = null;
      paint();
    }
  };

  const end = (event) => {
    pointers.delete(event.pointerId);
    if (drag?.kind === "region" && !state.region) state.region = null;
    drag = null;
  };

  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", follow);
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => actions.fit());
  let turned = 0;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (!shown) return;
    if (event.ctrlKey) { painter.zoomAt(Math.exp(-event.deltaY * 0.0015), event.clientX, event.clientY); changed(); return; }
    // A touchpad sends many small steps where a mouse sends one large one.
    turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(turned / 40);
    if (!steps) return;
    turned = 0;
    turn(Math.sign(steps));
  }, { passive: false });

  // --- keys, buttons, files --------------------------------------------------------------------

  const keys = {
    ArrowUp: () => turn(-1), ArrowLeft: () => turn(-1), ArrowDown: () => turn(1), ArrowRight: () => turn(1),
    PageUp: () => turn(-10), PageDown: () => turn(10), Home: () => turn(-1e6), End: () => turn(1e6),
    "+": actions.zoomIn, "=": actions.zoomIn, "-": actions.zoomOut, "0": actions.actual,
    i: actions.invert, r: actions.reset, f: actions.fit, Escape: actions.clear,
  };

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !shown) return;
    const named = /^[1-9]$/.test(event.key) ? shown.meta.windows[Number(event.key) - 1] : null;
    if (!named && !keys[event.key]) return;
    event.preventDefault();
    if (named) { choose(named); paint(); } else keys[event.key]();
  });

  element.querySelector(".toolbar").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.tool) setTool(button.dataset.tool);
    if (button?.dataset.do && shown) actions[button.dataset.do]();
  });
  presets.addEventListener("change", () => {
    const named = shown?.meta.windows.find((one) => one.key === presets.value);
    if (named) { choose(named); paint(); }
  });
  slider.addEventListener("input", () => turn(Number(slider.value) - wanted));

  // --- texts around the image ------------------------------------------------------------------

  const drawTexts = () => {
    const has = Boolean(image && shown);
    part("corner.start").textContent = has ? [image.modality, `${image.columns}×${image.rows}`].filter(Boolean).join("\n") : "";
    const windowText = has && state.window && state.voiLut === null ? `W ${short(state.window.width)}  C ${short(state.window.center)}` : has && state.voiLut !== null ? "VOI LUT" : "";
    const zoomText = has ? `${Math.round((painter.placement.sx / painter.ratio) * 100)} %` : "";
    part("corner.end").textContent = [has && image.frames > 1 ? `${shown.index + 1}/${image.frames}` : "", windowText, zoomText].filter(Boolean).join("\n");
    for (const side of ["top", "right", "bottom", "left"]) part(`mark.${side}`).textContent = has ? shown.meta.marks[side] : "";
    canvas.setAttribute("aria-label", has ? `${t("ui.viewer_label")}: ${describe()}` : t("ui.viewer_label"));
    element.querySelector("[data-do=invert]").setAttribute("aria-pressed", String(state.inverted));
    element.querySelector("[data-do=clear]").disabled = !state.region;
    slider.setAttribute("aria-valuetext", has ? t("ui.frame_of", { index: shown.index + 1, count: image.frames }) : "");
    drawRegion();
    drawPresets();
  };

  const drawRegion = () => {
    const shape = element.querySelector(".region-shape");
    const region = shown && state.region;
    shape.toggleAttribute("hidden", !region);
    if (!region) return;
    const [x, y] = painter.toScreen(region.x, region.y);
    const [right, bottom] = painter.toScreen(region.x + region.width, region.y + region.height);
    for (const [name, value] of Object.entries({ x, y, width: right - x, height: bottom - y })) shape.setAttribute(name, value);
  };

  const presetName = ({ key, name }) => {
    if (key.startsWith("lut-")) return `VOI LUT ${key.slice(4)}`;
    if (key.startsWith("file-")) return `${t("preset.file")} ${name || key.slice(5)}`;
    return t(`preset.${key.replaceAll("-", "_")}`);
  };

  const drawPresets = () => {
    const windows = shown?.meta.windows ?? [];
    presets.style.visibility = windows.length ? "visible" : "hidden";
    const stamp = document.documentElement.lang + JSON.stringify(windows.map((one) => one.key));
    presets.disabled = !windows.length;
    if (presets.dataset.stamp !== stamp) {
      presets.dataset.stamp = stamp;
      const custom = el("option", { value: "", disabled: true }, t("ui.window_custom"));
      presets.replaceChildren(custom, ...windows.map((one) => el("option", { value: one.key }, presetName(one))));
    }
    presets.value = windows.find((one) => isInUse(one, state))?.key ?? "";
  };

  const drawFindings = () => {
    const list = part("findings");
    const findings = image?.findings ?? [];
    list.hidden = !findings.length;
    list.dir = document.documentElement.dir;
    list.replaceChildren(...findings.map((both) => el("li", {}, local(both))));
  };

  painter.drawn = () => drawRegion();
  new ResizeObserver(() => painter.resize()).observe(canvas);
  setTool("window");
  onLanguage(() => { drawTexts(); drawFindings(); });
  viewer.painter = painter;
  viewer.register("image", {
    accepts: (one) => typeof one?.image === "string",
    show,
    hide: () => { slider.hidden = true; },
    close,
    view,
    describe,
    modality: () => image?.modality ?? "",
  });
}
