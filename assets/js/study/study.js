// Viewer of images, series and volumes: panes on the stage, the tools that act on them, and what is asked about.

import { notice } from "../dialogs.js";
import { announce, el, listen } from "../dom.js";
import { local, onLanguage, t } from "../texts.js";
import { describeView } from "../view.js";
import { viewer } from "../viewer.js";
import { Cine } from "./cine.js";
import { mountFooter } from "./footer.js";
import { fetchAhead, forgetFrames, roomFor } from "./frames.js";
import { Layout } from "./layout.js";
import { follow, geometryOf, middleOf, planeAt, PLANES, pointAt } from "./linking.js";
import { labelOf, Measurements } from "./measurements.js";
import { mirrored, quarter, upended } from "./orient.js";
import { planeIndex } from "./place.js";
import { listenTo } from "./pointers.js";
import { GESTURES, SHORTCUTS } from "./shortcuts.js";
import { mountToolbar } from "./toolbar.js";
import { dragWindow, startWindow } from "./tools.js";
import { Tray } from "./tray.js";

const TELL_EVERY_MS = 120; // while a window is dragged
const PLANES_AHEAD = 6; // planes fetched on either side: the server cuts each when it is asked
const THREE_WINDOWS = { name: "three_windows", channels: ["lung", "soft_tissue", "bone"] };
const LETTERS = ["A", "B"];
const NUDGE = 30; // pixels of a drag one key press stands for: a tenth of the window

export class Study {
  constructor(element) {
    this.element = element;
    this.part = (name) => element.querySelector(`.${name}`);
    this.tool = "window";
    const events = { changed: (pane) => this.changed(pane), drawn: () => {} };
    this.cine = new Cine(() => this.step(1, { wrap: true }), () => this.footer.draw());
    this.layout = new Layout(this.part("panes"), events, () => this.refresh());
    this.tray = new Tray(this.part("tray"), { show: (view) => this.show(view, { open: true }), changed: () => { this.preview(null); this.tell(); } });
    this.measurements = new Measurements(this.part("measures"), { show: (view) => this.show(view, { open: true }), changed: () => this.drawMeasured() });
    this.actions = this.#actions();
    listenTo(this.layout.active, this);
    this.footer = mountFooter(element, this);
    this.toolbar = mountToolbar(element, this);
    this.setTool("window");
  }

  // --- what is shown ---------------------------------------------------------------------------

  /** Shown value: the montage that was chosen, two images side by side, or what the active pane shows. */
  view() {
    const chosen = this.tray.montage();
    if (chosen) return chosen;
    const views = this.layout.panes.map((pane) => pane.view());
    if (this.layout.name === "compare" && views.every(Boolean)) return { montage: views, columns: 2, labels: LETTERS };
    return this.layout.active.view();
  }

  describe() {
    const view = this.view();
    if (!view) return "";
    const { image } = this.layout.active;
    return [image?.modality, describeView(view, view.image ? image?.frames : 0)].filter(Boolean).join(" · ");
  }

  /** Put the page back exactly to a view or a montage. `open` is for a choice from the list: it keeps the layout. */
  async show(shown, { open = false } = {}) {
    try {
      this.cine.stop();
      if (shown.montage) { await this.#showMontage(shown); return; }
      if (!open) this.tray.clear();
      this.preview(null);
      await this.#showView(shown, open);
    } catch (error) {
      if (error.both && shown.image) { viewer.images.delete(shown.image); announce("images"); }
      notice(error.both ? local(error.both) : t("ui.server_lost"));
    }
  }

  async #showView(view, open) {
    const image = await viewer.info(view.image);
    const { name, active, panes } = this.layout;
    const linked = name === "mpr" && active.image?.digest === view.image && view.plane && !view.region;
    if (linked) {
      const pane = panes.find((one) => one.place?.plane?.plane === view.plane.plane) ?? active;
      this.layout.activate(pane);
      await pane.show(image, view);
      this.windowed(pane);
      this.#link(pane, middleOf(pane));
      return;
    }
    if (!(open && name === "compare")) this.setLayout("single");
    await this.layout.active.show(image, view);
    this.#locate(this.layout.active);
    this.ahead(1);
  }

  async #showMontage(shown) {
    const isPair = shown.montage.length === 2 && shown.columns === 2 && shown.labels.join() === LETTERS.join();
    if (isPair) {
      this.tray.clear();
      this.preview(null);
      const images = await Promise.all(shown.montage.map((view) => viewer.info(view.image)));
      this.setLayout("compare");
      for (const [at, view] of shown.montage.entries()) {
        await this.layout.panes[at].show(images[at], view);
        this.#locate(this.layout.panes[at]);
      }
      return;
    }
    for (const view of shown.montage) await viewer.info(view.image);
    if (!this.layout.active.loaded) await this.layout.active.show(await viewer.info(shown.montage[0].image), shown.montage[0]);
    this.tray.set(shown.montage);
    this.preview(shown);
  }

  /** The picture of a montage over the panes, as the model is given it. */
  preview(shown) {
    const box = this.part("preview");
    box.hidden = !shown;
    box.replaceChildren(...(shown ? [el("img", { src: `shown/render?view=${encodeURIComponent(JSON.stringify(shown))}`, alt: t("ui.tray_preview") }), el("button", { type: "button", class: "button", onclick: () => this.preview(null) }, t("ui.close"))] : []));
  }

  /** Learn where an image lies: which planes it has, when its frames were taken. */
  async #locate(pane) {
    const { image } = pane;
    if (image.frames < 2) { this.refresh(); return; }
    const geometry = await geometryOf(image.digest).catch(() => null);
    if (pane.image !== image) return;
    pane.geometry = geometry;
    pane.texts();
    this.refresh();
  }

  close() {
    this.cine.stop();
    this.setLayout("single");
    const pane = this.layout.active;
    pane.image = null;
    pane.geometry = null;
    pane.clear();
    this.tray.clear();
    this.measurements.forget();
    forgetFrames();
    this.refresh();
  }

  // --- layouts ---------------------------------------------------------------------------------

  setLayout(name) {
    this.preview(null);
    if (this.layout.name === name) return;
    const before = new Set(this.layout.panes);
    if (this.layout.name === "mpr") for (const pane of this.layout.panes) pane.overlay.point = null;
    this.layout.set(name);
    for (const pane of this.layout.panes) if (!before.has(pane)) listenTo(pane, this);
    if (name !== "mpr" && this.tool === "crosshair") this.setTool("window");
    this.refresh();
    this.tell();
  }

  async #mpr() {
    const { active } = this.layout;
    const geometry = await geometryOf(active.image.digest).catch(() => null);
    if (!geometry?.planes.axial || !active.loaded.meta.place) { notice(geometry?.reason ? local(geometry.reason) : t("ui.no_volume")); return; }
    const point = middleOf(active);
    const view = { ...active.view(), region: null, rotation: 0, flipped: false };
    const { frame } = active.place;
    this.setLayout("mpr");
    this.setTool("crosshair");
    // the three planes, then the slices as they were taken
    const order = [...PLANES.map((plane) => ({ frame, plane: planeAt(geometry, plane, point) })), { frame, plane: null }];
    await Promise.all(this.layout.panes.map((pane, at) => {
      const shown = pane.show(active.image, { ...view, ...order[at] });
      pane.geometry = geometry;
      return shown;
    }));
    for (const pane of this.layout.panes) { pane.painter.fit(); pane.texts(); }
    this.#link(null, point);
    this.refresh();
  }

  /** Let every other pane go through a place. */
  #link(source, point) {
    for (const pane of this.layout.panes) {
      if (!pane.loaded) continue;
      if (pane !== source) follow(pane, pane.geometry, point);
      else { pane.overlay.point = point; pane.overlay.draw(); }
    }
  }

  // --- changing --------------------------------------------------------------------------------

  #actions() {
    const active = () => this.layout.active;
    const turned = (how) => () => { const pane = active(); pane.turn = how(pane.turn); pane.paint(); };
    const zoom = (factor) => () => {
      const box = active().canvas.getBoundingClientRect();
      active().painter.zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
      this.looked(active());
    };
    const nudged = (width, center) => () => {
      const pane = active();
      const start = startWindow(pane);
      if (!pane.loaded.codes || !start) return;
      dragWindow(pane, start, width * NUDGE, center * NUDGE);
      this.windowed(pane);
    };
    const layout = (name) => () => this.setLayout(this.layout.name === name ? "single" : name);
    return {
      before: () => this.step(-1), after: () => this.step(1), tenBefore: () => this.step(-10), tenAfter: () => this.step(10),
      first: () => this.step(-1e6), last: () => this.step(1e6),
      invert: () => { const pane = active(); if (pane.loaded.codes) { pane.look = { ...pane.look, inverted: !pane.look.inverted }; this.windowed(pane); } },
      narrower: nudged(-1, 0), wider: nudged(1, 0), lower: nudged(0, -1), higher: nudged(0, 1),
      rule: () => { const pane = active(); if (pane.loaded.meta.rules?.includes("three_windows")) { pane.look = { ...pane.look, rule: pane.look.rule ? null : THREE_WINDOWS }; this.windowed(pane); } },
      graphics: () => { const pane = active(); pane.look = { ...pane.look, graphics: !pane.look.graphics }; this.windowed(pane); },
      clear: () => { const pane = active(); pane.leaveDrawing?.(); pane.region = null; pane.paint(); },
      zoomIn: zoom(1.25), zoomOut: zoom(0.8),
      actual: () => { active().painter.actualSize(); this.looked(active()); },
      fit: () => { active().painter.fit(); this.looked(active()); },
      reset: () => this.#reset(active()),
      rotateLeft: turned((turn) => quarter(turn, -1)), rotateRight: turned((turn) => quarter(turn, 1)),
      flip: turned(mirrored), upend: turned(upended),
      smooth: () => { for (const pane of this.layout.panes) { pane.painter.smoothing = !pane.painter.smoothing; pane.painter.draw(); pane.texts(); } this.refresh(); },
      cine: () => { if (this.#count(active()) > 1) this.cine.toggle(); },
      single: () => this.setLayout("single"),
      mpr: () => { if (this.layout.name === "mpr") this.setLayout("single"); else if (active().image?.frames > 1) this.#mpr().catch(() => notice(t("ui.server_lost"))); },
      compare: layout("compare"),
      choose: () => { const view = active().view(); if (view) this.tray.add(view); },
    };
  }

  async #reset(pane) {
    if (!pane.image) return;
    pane.painter.fit();
    await pane.show(pane.image, { ...pane.image.default_view, frame: pane.place.frame, plane: pane.place.plane });
    this.windowed(pane);
  }

  setTool(name) {
    if (name === "crosshair" && this.layout.name !== "mpr") return;
    for (const pane of this.layout.panes) pane.leaveDrawing?.();
    this.tool = name;
    this.part("stage").dataset.cursor = name;
    this.refresh();
  }

  activate(pane) { if (this.layout.active !== pane) { this.cine.stop(); this.layout.activate(pane); } }

  /** Take a window by name. */
  choose(named) {
    const pane = this.layout.active;
    pane.look = { ...pane.look, presentation: null };
    pane.choose(named);
    this.windowed(pane);
  }

  /** Show a frame as a presentation state says. */
  async present({ view }) {
    const pane = this.layout.active;
    await pane.show(pane.image, view);
    this.windowed(pane);
  }

  /** The window of a pane has changed: those linked with it follow. */
  windowed(pane) {
    pane.paint();
    if (this.layout.name !== "mpr") return;
    for (const other of this.layout.panes) if (other !== pane && other.loaded) { other.look = pane.look; other.paint(); }
  }

  /** Only how a pane is looked at has changed, not what it shows. */
  looked(pane) { pane.texts(); }

  #count(pane) { return pane.place?.plane ? pane.grid?.count ?? 1 : pane.image?.frames ?? 1; }

  /** Slices forward or back in the active pane. */
  step(by, { wrap = false } = {}) {
    const pane = this.layout.active;
    if (!pane.image || !pane.loaded) return;
    const count = this.#count(pane);
    const wanted = pane.wanted ?? pane.place;
    if (wanted.plane && !pane.grid) return;
    const at = wanted.plane ? planeIndex(pane.grid, wanted.plane.position_mm) : wanted.frame;
    const next = wrap ? (at + by) % count : Math.min(Math.max(at + by, 0), count - 1);
    if (next === at) return;
    if (!wrap) this.cine.stop();
    const place = wanted.plane ? { ...wanted, plane: { ...wanted.plane, position_mm: pane.grid.low_mm + next * pane.grid.step_mm } } : { ...wanted, frame: next };
    pane.go(place).catch((error) => notice(error.both ? local(error.both) : t("ui.server_lost")));
    this.ahead(Math.sign(by));
    if (this.layout.name === "mpr") this.#stepped(pane, place);
  }

  /** In linked panes a step moves the place they are linked by. */
  #stepped(pane, place) {
    const point = [...(pane.overlay.point ?? middleOf(pane))];
    if (place.plane) point[pane.grid.axis] = place.plane.position_mm;
    else {
      const [here, there] = [pane.geometry.frames[pane.place.frame], pane.geometry.frames[place.frame]];
      if (here && there) there.origin.forEach((value, axis) => { point[axis] += value - here.origin[axis]; });
    }
    this.#link(pane, point);
  }

  /** Fetch what a reader is likely to turn to next. */
  ahead(direction) {
    const pane = this.layout.active;
    const count = this.#count(pane);
    const place = pane.wanted ?? pane.place;
    if (!place || count < 2 || (place.plane && !pane.grid)) return;
    const at = place.plane ? planeIndex(pane.grid, place.plane.position_mm) : place.frame;
    const room = place.plane ? PLANES_AHEAD * 2 : roomFor(pane.loaded?.size ?? 1);
    const places = [];
    for (let away = 1; away < count && places.length < room; away += 1) {
      for (const index of [at + away * (direction || 1), at - away * (direction || 1)]) {
        if (index < 0 || index >= count) continue;
        places.push(place.plane ? { ...place, plane: { ...place.plane, position_mm: pane.grid.low_mm + index * pane.grid.step_mm } } : { ...place, frame: index });
      }
    }
    fetchAhead(pane.image.digest, places);
  }

  /** Link all panes by the place under a point of one. */
  point(pane, pixel) {
    const place = pointAt(pane, pixel);
    if (!place || this.layout.name !== "mpr") return;
    this.#link(pane, place);
    this.tell();
  }

  /** How thick a slab the planes show, and what is made of it. */
  slab(change) {
    for (const pane of this.layout.panes) {
      const { plane } = pane.place ?? {};
      if (!plane) continue;
      const next = { ...(pane.wanted ?? pane.place).plane, ...change };
      if (next.projection !== "none" && !next.thickness_mm) next.thickness_mm = 10;
      pane.go({ ...pane.place, plane: next }).catch(() => notice(t("ui.server_lost")));
    }
  }

  // --- measuring -------------------------------------------------------------------------------

  measure(pane, kind, points) { this.measurements.add(pane.view(), kind, points); }

  drawMeasured() {
    for (const pane of this.layout.panes) {
      pane.overlay.measurements = this.measurements.on(pane.view()).map(({ measurement }) => ({ shape: measurement.shape, label: labelOf(measurement) }));
      pane.overlay.draw();
    }
  }

  // --- telling ---------------------------------------------------------------------------------

  changed(pane) {
    pane.overlay.measurements = this.measurements.on(pane.view()).map(({ measurement }) => ({ shape: measurement.shape, label: labelOf(measurement) }));
    if (pane === this.layout.active) this.#soon();
    this.tell();
  }

  /** Bar and slider once for each frame that is drawn, however often something changed before it. */
  #soon() {
    this.refreshing ||= requestAnimationFrame(() => { this.refreshing = 0; this.refresh(); });
  }

  /** Tell the rest of the page, at once and then no oftener than a reader can follow. */
  tell() {
    if (this.telling) { this.untold = true; return; }
    announce("view", viewer.view());
    this.telling = setTimeout(() => {
      this.telling = 0;
      if (this.untold) { this.untold = false; this.tell(); }
    }, TELL_EVERY_MS);
  }

  /** Bring bar, slider and findings up to the active pane. */
  refresh() {
    if (!this.toolbar) return; // the first pane is made before the bar
    this.toolbar.draw();
    this.footer.draw();
    this.#findings();
  }

  #findings() {
    const list = this.part("findings");
    const findings = this.layout.active.image?.findings ?? [];
    const stamp = JSON.stringify([findings, document.documentElement.lang]);
    list.hidden = !findings.length;
    if (list.dataset.stamp === stamp) return;
    list.dataset.stamp = stamp;
    list.dir = document.documentElement.dir;
    list.replaceChildren(...findings.map((both) => el("li", {}, local(both))));
  }

  translate() {
    this.footer.translate();
    for (const pane of this.layout.panes) pane.texts();
    this.tray.draw();
    this.measurements.draw();
    this.refresh();
  }
}

export function mountStudy(element) {
  const study = new Study(element);
  viewer.study = study;
  Object.defineProperty(viewer, "painter", { get: () => study.layout.active.painter, configurable: true });
  onLanguage(() => study.translate());
  listen("begun", ({ id }) => study.measurements.begun(id));
  listen("thread", ({ id, removed }) => {
    if (removed) study.measurements.forget(); // its image may have gone with the conversation
    study.measurements.of(id);
  });
  viewer.register("image", {
    accepts: (one) => typeof one?.image === "string" || (Array.isArray(one?.montage) && one.montage.every((view) => typeof view.image === "string")),
    show: (shown, options) => { study.translate(); return study.show(shown, options); },
    hide: () => { study.cine.stop(); },
    close: () => study.close(),
    view: () => study.view(),
    describe: () => study.describe(),
    modality: () => study.layout.active.image?.modality ?? "",
    keys: SHORTCUTS,
    gestures: GESTURES,
  });
}
