// What is on screen, as a value: the same the server renders, the model is given and history keeps.

/** Picture of exactly what a view shows. */
export const thumbnail = (view) => `shown/render?side=160&view=${encodeURIComponent(JSON.stringify(view))}`;

/** A view in a few characters, the same in both languages: frame, window, region. */
export function describeView(view, count = 0) {
  const parts = count > 1 ? [`${view.frame + 1}/${count}`] : view.frame > 0 ? [`#${view.frame + 1}`] : [];
  if (view.window) parts.push(`W ${short(view.window.width)} C ${short(view.window.center)}`);
  if (view.region) parts.push(`${view.region.width}×${view.region.height} px`);
  return parts.join(" · ");
}

export const short = (number) => String(Math.abs(number) >= 100 ? Math.round(number) : Number(number.toPrecision(3)));

/** Whether a named window of a frame is the one in use. */
export const isInUse = (named, state) => named.voi_lut === state.voiLut
  && (state.voiLut !== null || ["center", "width", "function"].every((name) => named[name] === state.window?.[name]));

/** Digests of every picture a shown value of any kind needs, each once. */
export const digestsOf = (shown) => [...new Set(shown.image ? [shown.image] : shown.slide ? [shown.slide] : (shown.montage ?? []).flatMap(digestsOf))];
