// A region in more detail than one picture has: what that takes is said before it is asked for.

import { notice, openDialog } from "../dialogs.js";
import { el } from "../dom.js";
import { json } from "../server.js";
import { t } from "../texts.js";
import { describeSlide, powerText } from "./words.js";

/** Offer to cut a region into parts; resolves to how many at most, or null. */
export async function gridDialog(view, slide) {
  const { choices } = await json(`slides/${view.slide}/grid?view=${encodeURIComponent(JSON.stringify({ ...view, grid: 0 }))}`);
  if (!choices.length) { notice(t("ui.grid_needless"), "note"); return null; }
  const label = ({ columns, rows, magnification, pictures, seconds, fits, never }) => [
    t("ui.grid_parts", { columns, rows }),
    magnification === null ? null : powerText(magnification),
    t("ui.grid_pictures", { count: pictures }),
    seconds === null ? t("ui.grid_time_unknown") : timeText(seconds),
    never ? t("ui.grid_never") : fits === false ? t("ui.grid_no_room") : null,
  ].filter(Boolean);
  const first = choices.find((choice) => !choice.never);
  const options = choices.map((choice) => {
    const input = el("input", { type: "radio", name: "grid", value: String(choice.grid), checked: choice === first, disabled: choice.never });
    return { input, row: el("label", { class: "grid-choice" }, input, ...label(choice).map((text) => el("span", { dir: "auto" }, text))) };
  });
  const yes = el("button", { class: "button primary", value: "yes", disabled: !first }, t("ui.grid_use"));
  const answer = await openDialog([
    el("h2", {}, t("ui.slide_grid")),
    el("p", {}, t("ui.grid_why", { what: describeSlide({ ...view, grid: 0, overview: false }, slide) })),
    el("div", { class: "grid-choices", role: "radiogroup", "aria-label": t("ui.slide_grid") }, ...options.map(({ row }) => row)),
    el("p", { class: "quiet" }, t("ui.grid_limits")),
  ], yes);
  return answer === "yes" ? Number(options.find(({ input }) => input.checked).input.value) : null;
}

const timeText = (seconds) => (seconds < 90 ? t("ui.grid_seconds", { seconds: seconds < 10 ? Math.max(seconds, 0.1).toFixed(1) : Math.round(seconds) }) : t("ui.grid_minutes", { minutes: (seconds / 60).toFixed(seconds < 600 ? 1 : 0) }));
