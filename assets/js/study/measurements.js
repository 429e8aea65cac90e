// Measurements: values come from the server, which has the original pixels; they are kept with the conversation.

import { notice } from "../dialogs.js";
import { logical } from "../direction.js";
import { announce, el, icon, keepingFocus } from "../dom.js";
import { json } from "../server.js";
import { local, t } from "../texts.js";

const UNITS = { mm2: "mm²", px2: "px²", deg: "°", BQML: "Bq/mL", raw: "" };

const unitOf = (unit) => UNITS[unit] ?? unit;
const digits = (value) => String(Math.abs(value) >= 100 ? Math.round(value * 10) / 10 : Number(value.toPrecision(3)));
const written = ({ value, unit }) => `${digits(value)}${unit === "deg" ? "" : " "}${unitOf(unit)}`.trim();
const quantity = (measurement, name) => measurement.quantities.find((one) => one.name === name);

/** Lines that stand beside a shape on the picture; the same in both languages. */
export function labelOf(measurement) {
  const { quantities } = measurement;
  if (quantities.length === 1) return written(quantities[0]);
  const [mean, sd, min, max, area] = ["mean", "sd", "min", "max", "area"].map((name) => quantity(measurement, name));
  return `${digits(mean.value)} ± ${digits(sd.value)} ${unitOf(mean.unit)}\n${digits(min.value)} … ${digits(max.value)}\n${written(area)}`;
}

/** A sentence about a measurement, for the list and for a question. */
export function sentenceOf(measurement) {
  const { shape, quantities, spacing } = measurement;
  const values = Object.fromEntries(quantities.map((one) => [one.name, written(one)]));
  const doubt = spacing && !spacing.calibrated ? ` (${t("ui.uncalibrated")})` : "";
  return t(`ui.measured_${shape.kind}`, values) + doubt;
}

/** Where a measurement was made: a frame, or a plane through a volume. */
const placeKey = ({ image, frame, plane }) => JSON.stringify(plane ? [image, plane.plane, plane.position_mm, plane.projection, plane.thickness_mm] : [image, frame]);

export class Measurements {
  /** `show(view)` puts the viewer back to where a measurement was made; `changed()` is told when the list changes. */
  constructor(list, { show, changed }) {
    this.list = list;
    this.show = show;
    this.changed = changed;
    this.all = []; // { id, view, measurement }; id is null until it is kept with a conversation
    this.thread = null;
  }

  /** Measure a shape in what a pane shows. */
  async add(view, kind, points) {
    try {
      const made = await json("measure", { thread: this.thread, view: { ...view, region: null }, shape: { kind, points } });
      this.all.push(made);
      this.draw();
      this.changed();
    } catch (error) {
      notice(error.both ? local(error.both) : t("ui.server_lost"));
    }
  }

  /** Those of what a view shows. */
  on(view) { return view ? this.all.filter((one) => placeKey(one.view) === placeKey(view)) : []; }

  /** Another conversation; a new one takes along what was measured before its first question. */
  async of(thread) {
    const pending = this.thread === null && thread !== null ? this.all.filter((one) => one.id === null) : [];
    this.thread = thread;
    try {
      const { measurements } = thread === null ? { measurements: [] } : await json(`measure?thread=${encodeURIComponent(thread)}`);
      if (this.thread !== thread) return;
      this.all = measurements;
      for (const one of pending) this.all.push(await json("measure", { thread, view: one.view, shape: one.measurement.shape }));
    } catch (error) {
      notice(error.both ? local(error.both) : t("ui.server_lost"));
    }
    this.draw();
    this.changed();
  }

  async #remove(one) {
    try {
      if (one.id !== null) await json(`measure/${encodeURIComponent(one.id)}`, undefined, "DELETE");
      this.all = this.all.filter((other) => other !== one);
    } catch (error) {
      notice(error.both ? local(error.both) : t("ui.server_lost"));
    }
    this.draw();
    this.changed();
  }

  draw() {
    this.list.hidden = !this.all.length;
    this.list.dir = document.documentElement.dir;
    keepingFocus(this.list, () => this.list.replaceChildren(...this.all.map((one, at) => {
      const sentence = sentenceOf(one.measurement);
      const name = (key) => `${t(key)}: ${sentence}`;
      return el("li", { class: "measure" },
        el("button", { type: "button", class: "measure-show", title: t("ui.show_view"), onclick: () => this.show(one.view) }, el("span", { class: "measure-number" }, String(at + 1)), el("bdi", {}, sentence)),
        el("button", { type: "button", class: "tool", "aria-label": name("ui.measure_insert"), title: t("ui.measure_insert"), onclick: () => announce("insert", { text: logical(sentence) }) }, icon("ask")),
        el("button", { type: "button", class: "tool", "aria-label": name("ui.measure_remove"), title: t("ui.measure_remove"), onclick: () => this.#remove(one) }, icon("bin")));
    })), document.querySelector("#viewer .pane.active .pixels, #viewer .pixels"));
  }
}
