// What is on screen, as a value: the same the server renders, the model is given and history keeps.

import { describeSlide } from "./slide/words.js";
import { t } from "./texts.js";
import { viewer } from "./viewer.js";

/** Picture of exactly what a view shows. */
export const thumbnail = (view) => `shown/render?side=160&view=${encodeURIComponent(JSON.stringify(view))}`;

/** What is shown in a few characters, of a plain picture alone in the page's language: frame or plane, window, region; numbers of a montage. */
export function describeView(view, count = 0, slide = null) {
  if (view.montage) return `${view.montage.length} × [${(view.labels.some(Boolean) ? view.labels : view.montage.map((one) => describeView(one))).join(", ")}]`;
  if (view.slide) return describeSlide(view, slide);
  const parts = [numberOf(view, count)];
  if (view.presentation != null) parts.push(`PR ${view.presentation}`);
  if (view.rule) parts.push("RGB");
  else if (view.window) parts.push(`W ${short(view.window.width)} C ${short(view.window.center)}`);
  if (view.region) parts.push(`${view.region.width}×${view.region.height} px`);
  return parts.filter(Boolean).join(" · ") || pictureOf(view);
}

/** What there is to say of a plain picture: that it is one, and its size. */
function pictureOf({ image }) {
  const { columns, rows } = viewer.images.get(image) ?? {};
  return [t("ui.picture"), columns && `\u2066${columns}×${rows} px\u2069`].filter(Boolean).join(" · ");
}

/** Frame among so many, or the plane and where it lies. */
function numberOf({ frame, plane }, count) {
  if (plane) return `${plane.plane.slice(0, 3).toUpperCase()} ${Number(plane.position_mm.toFixed(1))} mm${plane.projection === "none" ? "" : ` ${plane.projection.toUpperCase()} ${plane.thickness_mm} mm`}`;
  return count > 1 ? `${frame + 1}/${count}` : frame > 0 ? `#${frame + 1}` : "";
}

export const short = (number) => String(Math.abs(number) >= 100 ? Math.round(number) : Number(number.toPrecision(3)));

/** Whether a named window of a frame is the one in use. */
export const isInUse = (named, state) => named.voi_lut === state.voiLut
  && (state.voiLut !== null || ["center", "width", "function"].every((name) => named[name] === state.window?.[name]));

/** Digests of every picture a shown value of any kind needs, each once. */
export const digestsOf = (shown) => [...new Set(shown.image ? [shown.image] : shown.slide ? [shown.slide] : (shown.montage ?? []).flatMap(digestsOf))];
