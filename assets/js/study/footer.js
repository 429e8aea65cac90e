// Below the stage: slider, cine, and how thick a slab of a volume is seen.

import { el, put } from "../dom.js";
import { t } from "../texts.js";
import { planeIndex } from "./place.js";
import { RATES, rateOf } from "./cine.js";

const PROJECTIONS = ["none", "mip", "minip", "mean"];

/** `study` is what the controls act on. */
export function mountFooter(element, study) {
  const footer = element.querySelector(".footer");
  const part = (name) => footer.querySelector(`.${name}`);
  const [play, rates, slider, projection, thickness, millimetres] = ["play", "rates", "frames", "projection", "thickness", "millimetres"].map(part);

  slider.addEventListener("input", () => study.step(Number(slider.value) - indexOf(study.layout.active)));
  play.addEventListener("click", () => study.actions.cine());
  rates.addEventListener("change", () => { study.cine.rate = Number(rates.value); });
  projection.addEventListener("change", () => study.slab({ projection: projection.value }));
  thickness.addEventListener("input", () => study.slab({ thickness_mm: Number(thickness.value) }));

  const indexOf = ({ place, grid }) => (place?.plane ? (grid ? planeIndex(grid, place.plane.position_mm) : 0) : place?.frame ?? 0);
  const countOf = ({ image, place, grid }) => (place?.plane ? grid?.count ?? 1 : image?.frames ?? 1);

  /** Rates to choose from: the image's own first. */
  const drawRates = (own) => {
    const stamp = document.documentElement.lang + own;
    if (rates.dataset.stamp === stamp) return;
    rates.dataset.stamp = stamp;
    const exact = Number(own.toFixed(1));
    const all = [...new Set([exact, ...RATES])].sort((one, other) => one - other);
    rates.replaceChildren(...all.map((rate) => el("option", { value: rate }, t("ui.cine_rate", { rate }))));
    rates.value = String(exact);
    study.cine.rate = exact;
  };

  const draw = () => {
    const pane = study.layout.active;
    const count = pane.loaded ? countOf(pane) : 1;
    const plane = pane.place?.plane;
    slider.hidden = count < 2;
    slider.max = String(count - 1);
    slider.value = String(pane.loaded ? indexOf(pane) : 0);
    put(slider, "aria-valuetext", t("ui.frame_of", { index: Number(slider.value) + 1, count }));
    for (const one of [play, rates]) one.hidden = count < 2;
    put(play, "aria-pressed", study.cine.playing);
    put(play.querySelector("use"), "href", `page/icons/icons.svg#${study.cine.playing ? "pause" : "play"}`);
    for (const one of [rates, projection]) put(one, "dir", document.documentElement.dir); // the viewer itself never turns
    if (pane.image) drawRates(rateOf(pane.image, pane.geometry?.times_s));
    for (const one of [projection, thickness, millimetres]) one.hidden = !plane;
    footer.hidden = count < 2 && !plane;
    if (!plane) return;
    projection.value = plane.projection;
    thickness.disabled = plane.projection === "none";
    thickness.value = String(plane.thickness_mm);
    millimetres.textContent = plane.projection === "none" ? "" : `${plane.thickness_mm} mm`;
  };

  const translate = () => projection.replaceChildren(...PROJECTIONS.map((name) => el("option", { value: name }, t(`ui.projection_${name}`))));
  translate();
  return { draw, translate };
}
