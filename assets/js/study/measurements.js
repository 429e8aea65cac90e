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
    this.pending = []; // those made before a conversation's first question
    this.carried = Promise.resolve();
    this.begunAs = null; // conversation the pending ones went along with
    this.thread = null;
  }

  /** Measure a shape in what a pane shows. */
  async add(view, kind, points) {
    const { thread } = this;
    try {
      const made = await json("measure", { thread, view: { ...view, region: null }, shape: { kind, points } });
      if (thread !== null) { if (thread === this.thread) this.all.push(made); } else this.#wait(made);
      this.draw();
      this.changed();
    } catch (error) {
      notice(error.both ? local(error.both) : t("ui.server_lost"));
    }
  }

  /** Keep a measurement for the first question of a conversation, which may have been asked meanwhile. */
  #wait(made) {
    this.pending.push(made);
    if (this.thread === null) this.all = [...this.pending];
    else if (this.thread === this.begunAs) { this.begun(this.thread); this.of(this.thread); }
  }

  /** Those of what a view shows. */
  on(view) { return view ? this.all.filter((one) => placeKey(one.view) === placeKey(view)) : []; }

  /** A first question has begun a conversation: what was measured before it goes along, into no other one. */
  begun(thread) {
    this.begunAs = thread;
    this.carried = this.#carry(thread, this.pending);
    this.pending = [];
  }

  async #carry(thread, going) {
    try {
      for (const one of going) await json("measure", { thread, view: one.view, shape: one.measurement.shape });
    } catch (error) {
      notice(error.both ? local(error.both) : t("ui.server_lost"));
    }
  }

  /** Show another conversation's; what waits for a first question waits on, and is seen where none was asked yet. */
  async of(thread) {
    this.thread = thread;
    if (thread === null) this.all = [...this.pending];
    else await this.#load(thread);
    if (this.thread !== thread) return;
    this.draw();
    this.changed();
  }

  async #load(thread) {
    try {
      await this.carried;
      const { measurements } = await json(`measure?thread=${encodeURIComponent(thread)}`);
      if (this.thread === thread) this.all = measurements;
    } catch (error) {
      notice(error.both ? local(error.both) : t("ui.server_lost"));
    }
  }

  /** Forget what waits: the image it was made on is gone. */
  forget() {
    this.pending = [];
    if (this.thread === null) this.of(null);
  }

  async #remove(one) {
    try {
      if (one.id !== null) await json(`measure/${encodeURIComponent(one.id)}`, undefined, "DELETE");
      this.all = this.all.filter((other) => other !== one);
      this.pending = this.pending.filter((other) => other !== one);
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
