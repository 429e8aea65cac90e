// Panes on the stage: one, three planes with the slices themselves, or two images side by side.

import { Pane } from "./pane.js";

const COUNTS = { single: 1, mpr: 4, compare: 2 };

export class Layout {
  /** `events` are given to every pane; `chosen()` is told when another pane becomes the active one. */
  constructor(host, events, chosen) {
    this.host = host;
    this.events = events;
    this.chosen = chosen;
    this.panes = [];
    this.active = null;
    this.set("single");
  }

  /** Have as many panes as a layout needs; the active one stays, as the first. */
  set(name) {
    this.name = name;
    const active = this.active ?? this.#made();
    for (const pane of this.panes) if (pane !== active) pane.remove();
    this.panes = [active];
    while (this.panes.length < COUNTS[name]) this.panes.push(this.#made());
    this.host.dataset.layout = name;
    this.host.replaceChildren(...this.panes.map((pane) => pane.element));
    this.activate(active);
  }

  activate(pane) {
    const other = this.active !== pane;
    this.active = pane;
    for (const one of this.panes) one.element.classList.toggle("active", one === pane && this.panes.length > 1);
    if (other) this.chosen(pane);
  }

  #made() { return new Pane(this.events); }
}
