// Slices chosen to be asked about together: a montage with their numbers, as the model will be given it.

import { notice } from "../dialogs.js";
import { el, icon, keepingFocus } from "../dom.js";
import { t, tCount } from "../texts.js";
import { describeView, thumbnail } from "../view.js";

const MOST = 36;

/** Number that is drawn into a cell: the slice's own where all are of one image, else a count. */
export function labelsOf(views) {
  const one = new Set(views.map((view) => view.image)).size === 1 && views.every((view) => !view.plane);
  const numbers = views.map((view) => String(view.frame + 1));
  return one && new Set(numbers).size === numbers.length ? numbers : views.map((_, at) => `#${at + 1}`);
}

/** Columns that keep a montage of equal cells about square. */
const columnsOf = (count) => Math.ceil(Math.sqrt(count));

export class Tray {
  /** `show(view)` goes to a chosen slice; `changed()` is told when what is chosen changes. */
  constructor(element, { show, changed }) {
    this.element = element;
    this.views = [];
    this.show = show;
    this.changed = changed;
  }

  /** The montage, or null when nothing is chosen. */
  montage() {
    if (!this.views.length) return null;
    return { montage: this.views, columns: columnsOf(this.views.length), labels: labelsOf(this.views) };
  }

  add(view) {
    const stamp = JSON.stringify(view);
    if (this.views.some((one) => JSON.stringify(one) === stamp)) return;
    if (this.views.length >= MOST) { notice(t("ui.tray_full", { count: MOST }), "warning"); return; }
    this.set([...this.views, view]);
  }

  set(views) {
    this.views = views;
    this.draw();
    this.changed();
  }

  clear() { if (this.views.length) this.set([]); }

  draw() {
    this.element.hidden = !this.views.length;
    this.element.dir = document.documentElement.dir;
    keepingFocus(this.element, () => this.element.replaceChildren(...this.#parts()), document.querySelector("#viewer .pane.active .pixels, #viewer .pixels"));
  }

  #parts() {
    if (!this.views.length) return [];
    const labels = labelsOf(this.views);
    const cells = this.views.map((view, at) => el("span", { class: "tray-cell" },
      el("button", { type: "button", class: "strip-image", title: t("ui.show_view"), "aria-label": `${t("ui.show_view")}: ${labels[at]} · ${describeView(view)}`, onclick: () => this.show(view) },
        el("img", { src: thumbnail(view), alt: "", width: 44, height: 44 })),
      el("span", { class: "tray-label", dir: "ltr" }, labels[at]),
      el("button", { type: "button", class: "tool tray-remove", "aria-label": `${t("ui.tray_remove")}: ${labels[at]}`, title: t("ui.tray_remove"), onclick: () => this.set(this.views.filter((one) => one !== view)) }, icon("close"))));
    const montage = this.montage();
    return [
      el("span", { class: "tray-title" }, tCount("ui.tray", this.views.length)),
      ...cells,
      el("button", { type: "button", class: "button", onclick: () => this.show(montage) }, t("ui.tray_preview")),
      el("button", { type: "button", class: "button", onclick: () => this.clear() }, t("ui.tray_clear"))];
  }
}
