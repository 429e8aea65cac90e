// Search over every conversation, while typing: hits newest first, with the words found marked.

import { notice } from "../dialogs.js";
import { el } from "../dom.js";
import { json } from "../server.js";
import { language, local, t, when } from "../texts.js";
import { directionOf } from "../direction.js";

const MODALITIES = ["CR", "CT", "DX", "GM", "MG", "MR", "NM", "OP", "OPT", "PT", "RF", "SM", "US", "XA", "XC"];
const REASONS = ["any", "wrong_side", "wrong_finding", "wrong_language", "not_grounded", "other"];
const PAUSE_MS = 180;

/** `open(thread, turn)` shows a hit; `changed()` is called when hits come or go. */
export function mountSearch(element, open, changed) {
  const part = (name) => element.querySelector(`.${name}`);
  const [box, list] = ["search", "hits"].map(part);
  const filters = ["by-modality", "by-feedback", "by-since", "by-until", "by-phrase"].map(part);
  const [modality, feedback, since, until, phrase] = filters;
  let hits = null; // null: not searching
  let more = false;
  let asked = 0;
  let timer = 0;

  /** Whether anything is searched for: words, or messages of some kind or time. */
  const isAsked = () => Boolean(box.value.trim() || [modality, feedback, since, until].some((one) => one.value));

  const isOpen = () => hits !== null;

  const values = (before) => {
    const moment = (date, days) => new Date(new Date(`${date}T00:00:00`).getTime() + days * 86_400_000).toISOString();
    return new URLSearchParams(Object.entries({
      q: box.value.trim(), match: phrase.checked ? "phrase" : "beginnings", modality: modality.value, feedback: feedback.value,
      since: since.value && moment(since.value, 0), until: until.value && moment(until.value, 1), before,
    }).filter(([, value]) => value));
  };

  const run = async (before = "") => {
    clearTimeout(timer);
    asked += 1;
    const mine = asked;
    if (!isAsked()) { show(null); return; }
    const answer = await json(`history/search?${values(before)}`).catch((error) => ({ error }));
    if (mine !== asked) return;
    if (answer.error) { notice(answer.error.both ? local(answer.error.both) : t("ui.search_failed")); return; }
    more = answer.more;
    show(before ? [...hits, ...answer.hits] : answer.hits);
  };

  const show = (found) => {
    hits = found;
    list.hidden = !isOpen();
    part("threads").hidden = isOpen();
    list.replaceChildren(...(hits ?? []).map(hit));
    if (isOpen() && more) list.append(el("li", {}, el("button", { class: "button", onclick: () => run(String(hits.at(-1).number)) }, t("ui.show_more"))));
    changed();
  };

  const hit = (one) => {
    const text = one.pieces.map(({ text: words, marked }) => (marked ? el("mark", {}, words) : words));
    const [cutBefore, cutAfter] = one.cut;
    const dir = directionOf(one.pieces.map((piece) => piece.text).join("")) ?? document.documentElement.dir;
    return el("li", { class: "hit" }, el("button", { class: "hit-open", onclick: () => open(one.thread, one.turn) },
      el("span", { class: "thread-title", dir: directionOf(one.title) ?? document.documentElement.dir }, one.title || t("ui.untitled")),
      el("span", { class: "excerpt", dir }, cutBefore ? "… " : "", ...text, cutAfter ? " …" : ""),
      el("span", { class: "thread-date" }, t(one.answer ? "ui.assistant" : "ui.you"), " · ", when(one.created))));
  };

  /** Sentence below the list, for conversations or for hits. */
  const drawn = (threads) => {
    const empty = part("history-empty");
    const key = isOpen() ? (hits.length ? null : "ui.search_empty") : threads ? null : "ui.history_empty";
    empty.textContent = key ? t(key) : "";
    empty.hidden = !key;
  };

  const translated = () => {
    const options = (select, codes, name) => {
      const chosen = select.value;
      select.replaceChildren(el("option", { value: "" }, t("ui.filter_all")), ...codes.map((code) => el("option", { value: code }, name(code))));
      select.value = chosen;
    };
    options(modality, MODALITIES, (code) => code);
    options(feedback, REASONS, (code) => t(`ui.reason.${code}`));
    box.lang = language();
    if (isOpen()) show(hits);
  };

  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(run, PAUSE_MS); });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && box.value) { event.preventDefault(); box.value = ""; run(); }
    if (event.key === "Enter") run();
    if (event.key === "ArrowDown") { event.preventDefault(); list.querySelector("button")?.focus(); }
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...list.querySelectorAll("button")];
    (buttons[buttons.indexOf(document.activeElement) + step] ?? box).focus();
  });
  for (const filter of filters) filter.addEventListener("change", () => run());
  part("filters").addEventListener("submit", (event) => event.preventDefault());
  part("filter").addEventListener("click", (event) => {
    const hidden = part("filters").toggleAttribute("hidden");
    event.currentTarget.setAttribute("aria-expanded", String(!hidden));
  });
  translated();
  return { isOpen, drawn, translated, again: () => { if (isOpen()) run(); } };
}
