// The bar above the stage and the rail of tools: what fits is a button, the rest stands in a menu.

import { menu } from "../dialogs.js";
import { el, put } from "../dom.js";
import { t } from "../texts.js";
import { isInUse } from "../view.js";
import { hasGraphics } from "./layers.js";

/** Name of a window a frame offers; those of the file are numbered where there are several. */
export function windowName({ key, name }, isAlone = false) {
  if (key.startsWith("lut-")) return `VOI LUT ${key.slice(4)}`;
  if (key.startsWith("file-")) return [t("preset.file"), name || (isAlone ? "" : key.slice(5))].filter(Boolean).join(" ");
  return t(`preset.${key.replaceAll("-", "_")}`);
}

/** `study` is what the buttons act on. */
export function mountToolbar(element, study) {
  const bar = element.querySelector(".tools[data-kind=image]");
  const rail = element.querySelector(".rail");
  const presets = bar.querySelector(".presets");
  const overflow = bar.querySelector(".overflow");
  const items = [...bar.querySelectorAll("button[data-do]")];
  const buttons = Object.fromEntries(items.map((one) => [one.dataset.do, one]));

  const press = (event) => {
    const button = event.target.closest("button");
    if (!button || button === overflow) return;
    if (button.dataset.tool) study.setTool(button.dataset.tool);
    if (button.dataset.do && study.layout.active.loaded) study.actions[button.dataset.do]();
  };
  bar.addEventListener("click", press);
  rail.addEventListener("click", press);
  presets.addEventListener("change", () => {
    const state = study.layout.active.loaded?.meta.presentations?.find((one) => `state-${one.number}` === presets.value);
    if (state) { study.present(state); return; }
    const named = study.layout.active.loaded?.meta.windows.find((one) => one.key === presets.value);
    if (named) study.choose(named);
  });
  overflow.addEventListener("click", () => menu(overflow, items.filter((one) => one.classList.contains("away") && !one.hidden).map((one) => ({ icon: one.dataset.icon, key: one.dataset.tLabel, run: () => one.click() }))));

  /** Put what does not fit away, the last first. */
  const fit = () => {
    const all = [...bar.children].filter((one) => one !== overflow && !one.classList.contains("presets"));
    for (const one of all) one.classList.remove("away");
    overflow.hidden = true;
    if (bar.scrollWidth <= bar.clientWidth + 1) return;
    overflow.hidden = false;
    for (const one of all.reverse()) {
      if (bar.scrollWidth <= bar.clientWidth + 1) break;
      one.classList.add("away");
    }
  };
  new ResizeObserver(fit).observe(bar);

  const drawPresets = (pane) => {
    const windows = pane.loaded?.meta.windows ?? [];
    const states = pane.loaded?.meta.presentations ?? [];
    const stamp = document.documentElement.lang + JSON.stringify([windows.map((one) => one.key), states.map((one) => one.number)]);
    presets.disabled = !windows.length && !states.length;
    if (presets.dataset.stamp !== stamp) {
      presets.dataset.stamp = stamp;
      const custom = el("option", { value: "", disabled: true }, t("ui.window_custom"));
      const isAlone = windows.filter((one) => one.key.startsWith("file-")).length === 1;
      presets.replaceChildren(custom, ...windows.map((one, at) => el("option", { value: one.key }, at < 9 ? `${at + 1} · \u2068${windowName(one, isAlone)}\u2069` : windowName(one, isAlone))),
        ...states.map((one) => el("option", { value: `state-${one.number}` }, t("ui.presentation", { number: one.number }))));
    }
    put(presets, "dir", document.documentElement.dir);
    if (pane.look.presentation !== null) presets.value = `state-${pane.look.presentation}`;
    else presets.value = pane.look.rule ? "" : windows.find((one) => isInUse(one, pane.look))?.key ?? "";
  };

  /** Show the state of the active pane. */
  const draw = () => {
    const pane = study.layout.active;
    const pressed = { invert: pane.look.inverted, graphics: pane.look.graphics, rule: Boolean(pane.look.rule), single: study.layout.name === "single", mpr: study.layout.name === "mpr", compare: study.layout.name === "compare", flip: pane.turn.flipped, smooth: pane.painter.smoothing };
    for (const [name, value] of Object.entries(pressed)) put(buttons[name], "aria-pressed", value);
    for (const button of rail.querySelectorAll("[data-tool]")) put(button, "aria-pressed", button.dataset.tool === study.tool);
    rail.querySelector("[data-do=clear]").disabled = !pane.region;
    rail.querySelector("[data-tool=crosshair]").disabled = study.layout.name !== "mpr";
    const grey = Boolean(pane.loaded?.codes);
    buttons.invert.disabled = !grey;
    buttons.rule.disabled = !grey || !pane.loaded.meta.rules?.includes("three_windows");
    buttons.mpr.disabled = study.layout.name !== "mpr" && !(pane.image?.frames > 1 && grey);
    buttons.graphics.hidden = !hasGraphics(pane.loaded?.meta);
    drawPresets(pane);
  };

  return { draw, fit };
}
