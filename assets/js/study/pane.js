// One picture on the stage: a frame of an image or a plane through it, as a view says.

import { el, put, write } from "../dom.js";
import { t } from "../texts.js";
import { Painter } from "./canvas.js";
import { fetchFrame, peek } from "./frames.js";
import { withLayers } from "./layers.js";
import { Overlay } from "./overlay.js";
import { turnedMarks } from "./orient.js";
import { cornerTexts } from "./corners.js";
import { buildWords } from "./window.js";

const SIDES = ["top", "right", "bottom", "left"];
const CORNERS = ["start", "top-end", "bottom-start", "end"];

export const PLAIN = { window: null, voiLut: null, inverted: false, rule: null, graphics: false, presentation: null };
const WAITING_MS = 400; // a picture that takes longer says that it is on its way
const UPRIGHT = { rotation: 0, flipped: false };

export class Pane {
  /** `changed(pane)` is called when what is on screen has changed, `drawn(pane)` when it was drawn. */
  constructor({ changed, drawn }) {
    this.canvas = el("canvas", { class: "pixels", tabindex: 0, role: "img" });
    this.overlay = new Overlay(this);
    this.marks = Object.fromEntries(SIDES.map((side) => [side, el("span", { class: `mark ${side}` })]));
    this.corners = Object.fromEntries(CORNERS.map((name) => [name, el("div", { class: `corner ${name}`, dir: "ltr" })]));
    this.waiting = el("div", { class: "waiting", role: "status" });
    this.element = el("div", { class: "pane" }, this.canvas, this.overlay.svg, this.waiting, ...Object.values(this.marks), ...Object.values(this.corners));
    this.painter = new Painter(this.canvas);
    this.painter.drawn = () => { this.overlay.draw(); drawn(this); };
    this.changed = changed;
    this.words = new Uint32Array(65536);
    this.image = null;
    this.geometry = null; // where the image lies, once it is known
    this.clear();
    this.observer = new ResizeObserver(() => { this.painter.resize(); if (this.loaded) this.texts(); });
    this.observer.observe(this.canvas);
  }

  clear() {
    this.loaded = null; // pixels on screen
    this.place = null; // { frame, plane } of them
    this.wanted = null; // the same of those on their way
    this.look = PLAIN;
    this.turn = UPRIGHT;
    this.region = null;
    this.painter.show(null, this.words);
    this.texts();
    this.overlay.draw();
  }

  remove() { this.observer.disconnect(); this.element.remove(); }

  /** The view of what is on screen, or null. */
  view() {
    if (!this.image || !this.loaded) return null;
    const { window, voiLut, inverted, rule, graphics, presentation } = this.look;
    return {
      image: this.image.digest, frame: this.place.frame, window, voi_lut: voiLut, inverted, region: this.region,
      rotation: this.turn.rotation, flipped: this.turn.flipped, plane: this.place.plane, rule, graphics, presentation,
    };
  }

  /** Be exactly at a view of an image. */
  async show(image, view) {
    if (this.image?.digest !== image.digest) { this.clear(); this.painter.zoom = 1; this.painter.pan = [0, 0]; this.geometry = null; }
    this.image = image;
    const look = { window: view.window, voiLut: view.voi_lut ?? null, inverted: view.inverted, rule: view.rule ?? null, graphics: view.graphics ?? false, presentation: view.presentation ?? null };
    const turn = { rotation: view.rotation ?? 0, flipped: view.flipped ?? false };
    await this.go({ frame: view.frame, plane: view.plane ?? null }, { look, turn, region: view.region ?? null });
  }

  /** Another frame or plane of the same image; the last one asked for wins. Pixels that are here appear at once. */
  async go(place, state = {}) {
    this.wanted = place;
    const { digest } = this.image;
    const here = peek(digest, place);
    if (here) { fetchFrame(digest, place); this.#put(place, here, state); return; }
    this.pending = { ...this.pending, ...state }; // what a discarded request was to bring is not lost
    const told = setTimeout(() => write(this.waiting, t("ui.loading")), WAITING_MS);
    const loaded = await fetchFrame(digest, place).finally(() => { clearTimeout(told); if (this.wanted === place) write(this.waiting, ""); });
    if (this.wanted !== place || this.image?.digest !== digest) return;
    this.#put(place, loaded, state);
  }

  #put(place, loaded, state) {
    write(this.waiting, "");
    const kept = { ...this.pending, ...state };
    this.pending = null;
    const moved = !samePlane(this.place?.plane, place.plane);
    this.place = place;
    this.loaded = loaded;
    if (moved && !("region" in kept)) this.region = null;
    Object.assign(this, kept);
    if (!loaded.meta.presentations?.some((one) => one.number === this.look.presentation)) this.look = { ...this.look, presentation: null };
    if (!loaded.codes) this.look = { ...PLAIN, graphics: this.look.graphics, presentation: this.look.presentation };
    else if (!this.look.window && this.look.voiLut === null) this.choose(loaded.meta.windows.find((one) => one.key === loaded.meta.default));
    else if (this.look.voiLut !== null && !loaded.meta.windows.some((one) => one.voi_lut === this.look.voiLut)) this.choose(loaded.meta.windows.find((one) => one.key === loaded.meta.default));
    this.paint();
  }

  /** Take one of the windows a frame names. */
  choose(named) {
    const window = named.voi_lut === null ? { center: named.center, width: named.width, function: named.function, name: named.name } : null;
    this.look = { ...this.look, window, voiLut: named.voi_lut, rule: null };
  }

  /** Positions of the kind of plane on screen, once they are known. */
  get grid() { return this.place?.plane ? this.geometry?.planes[this.place.plane.plane] ?? null : null; }

  get aspect() { return this.loaded.meta.pixel_aspect; }
  get columns() { return this.loaded.meta.width; }
  get rows() { return this.loaded.meta.height; }

  paint() {
    if (!this.loaded) return;
    const { codes, colors } = this.loaded;
    if (codes) buildWords(this.words, this.loaded, this.look);
    const laid = withLayers(this.loaded, this.words, this.look);
    const pixels = laid ? { colors: laid } : { codes, colors };
    this.painter.show({ columns: this.columns, rows: this.rows, aspect: this.aspect, ...pixels }, this.words, this.turn);
    this.texts();
    this.changed(this);
  }

  /** Marks, corners and the name a screen reader says. */
  texts() {
    const marks = this.loaded ? turnedMarks(this.loaded.meta.marks, this.turn) : {};
    for (const side of SIDES) write(this.marks[side], marks[side] ?? "");
    const corners = this.loaded ? cornerTexts(this) : {};
    for (const name of CORNERS) write(this.corners[name], (corners[name] ?? []).filter(Boolean).join("\n"));
    const said = Object.values(corners).flat().filter(Boolean).join(", ");
    put(this.canvas, "aria-label", said ? `${t("ui.viewer_label")}: ${said}` : t("ui.viewer_label"));
  }
}

const samePlane = (one, other) => (one?.plane ?? null) === (other?.plane ?? null);
