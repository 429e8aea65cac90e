// How much an answer depends on its image: asked for once the answer is shown, written under it.

import { el, listen } from "../dom.js";
import { json } from "../server.js";
import { t } from "../texts.js";

const LEVELS = { strong: 3, weak: 2, none: 1 };

/**
 * Measure answers as they end, one after the other; a new question goes first, and what it interrupted is
 * measured after its answer. `thread()` is the conversation shown, `redraw(turn)` draws one of its turns.
 */
export function mountGrounding({ thread, redraw }) {
  const waiting = []; // answers that have ended, oldest first
  let running = null; // an AbortController while one is measured

  const measure = async () => {
    if (running) return;
    running = new AbortController();
    const { signal } = running;
    while (waiting.length && !signal.aborted) {
      const { id, answer } = waiting[0];
      const found = await json("grounding", { thread: id, answer }, "POST", signal).catch(() => ({ grounding: null }));
      if (signal.aborted) break;
      waiting.shift();
      if (found.grounding) show(id, answer, found.grounding);
    }
    running = null;
  };

  const show = (id, answer, grounding) => {
    const turn = thread().id === id && thread().turns.find((one) => one.answers.some((other) => other.id === answer));
    if (!turn) return;
    turn.answers.find((one) => one.id === answer).grounding = grounding;
    redraw(turn);
  };

  listen("answered", ({ thread: id, answer }) => {
    if (!answer.id || !answer.text || answer.translation_of || answer.grounding) return;
    waiting.push({ id, answer: answer.id });
    measure();
  });

  listen("asked", () => running?.abort());
}

/** The note under an answer: its level, and unfolded what the level means and each sentence's own. */
export function groundingNote({ difference, level, sentences }) {
  const summary = el("summary", {}, gauge(level), t(`ui.grounding.${level}`));
  const rows = sentences.length > 1 ? sentences.map((one) => el("li", {}, gauge(one.level), el("span", { dir: "auto" }, one.text), number(one.difference))) : [];
  return el("details", { class: "grounding", "data-level": level }, summary,
    el("p", {}, t("ui.grounding.meaning"), " ", number(difference)),
    rows.length ? el("ul", {}, ...rows) : null);
}

const gauge = (level) => el("span", { class: "gauge", "data-level": level, "aria-label": t(`ui.grounding.${level}`), role: "img" },
  ...[1, 2, 3].map((bar) => el("i", { class: bar <= LEVELS[level] ? "on" : null })));

const number = (value) => {
  const digits = Math.abs(value).toFixed(2);
  const sign = digits === "0.00" ? "" : value < 0 ? "−" : "+";
  return el("span", { class: "nats", dir: "ltr", title: t("ui.grounding.unit") }, sign + digits);
};
