// A question and its answers as page elements: evidence, text, state, and what can be done with each.

import { directionOf, together } from "../direction.js";
import { el, icon } from "../dom.js";
import { writeProse } from "../prose.js";
import { language, local, t, tCount } from "../texts.js";
import { describeView, thumbnail } from "../view.js";
import { viewer } from "../viewer.js";
import { groundingNote } from "./grounding.js";

/** Answers of a turn that are not translations of another. */
export const originals = (turn) => turn.answers.filter((answer) => !answer.translation_of);

/**
 * Draws turns. `state` holds `thread`, `runs` (what is being answered) and `chosen` (turn id -> answer the
 * reader went back to); `act` holds what the buttons do.
 */
export class TurnPainter {
  constructor(state, act) {
    this.state = state;
    this.act = act;
    this.questions = new Map(); // what a question says and shows -> its element
    this.twins = new Map(); // answer id -> whether its translation is open
  }

  draw(turn, isLast) {
    const answers = originals(turn);
    const at = this.state.chosen.get(turn.id) ?? answers.length - 1;
    const node = el("article", { class: "turn", "data-turn": turn.id }, this.#question(turn));
    if (answers[at]) node.append(this.#answer(turn, answers, at, isLast));
    return node;
  }

  /** The question is drawn once: its picture must not be fetched again with every piece of the answer. */
  #question(turn) {
    const { views, carried } = this.#viewsOf(turn);
    const stamp = JSON.stringify([turn.id, turn.question, views, carried, views.map((view) => [viewer.frames(view.image), viewer.images.has(view.slide)]), language(), this.state.thread.id]);
    if (!this.questions.has(stamp)) this.questions.set(stamp, this.#asked(turn, views, carried));
    return this.questions.get(stamp);
  }

  #asked(turn, views, carried) {
    const bubble = el("div", { class: "bubble", dir: directionOf(turn.question) || document.documentElement.dir }, together(turn.question));
    const stored = !turn.id.startsWith("asked-");
    const tools = stored ? el("div", { class: "asked-tools" },
      this.#tool("pen", "ui.edit_question", () => this.act.edit(turn)),
      this.#tool("fork", "ui.fork", () => this.act.fork(turn))) : null;
    return el("div", { class: "asked" }, el("h3", { class: "sr-only" }, t("ui.you")), ...views.map((view) => this.#evidence(view, carried)), bubble, tools);
  }

  /** Views of a question; one that brought none is about those shown last before it. */
  #viewsOf(turn) {
    if (turn.views.length) return { views: turn.views, carried: false };
    const { turns } = this.state.thread;
    const before = turns.slice(0, Math.max(turns.indexOf(turn), 0)).findLast((one) => one.views.length);
    return { views: before?.views ?? [], carried: true };
  }

  #evidence(view, carried) {
    const label = describeView(view, viewer.frames(view.image), viewer.images.get(view.slide));
    const picture = carried ? null : el("img", { src: thumbnail(view), alt: "", loading: "lazy", width: 56, height: 56 });
    return el("button", { class: carried ? "evidence carried" : "evidence", "aria-label": `${t("ui.show_view")}: ${label}`, title: t("ui.show_view"), onclick: () => viewer.show(view) },
      picture, el("span", { class: "evidence-label", dir: "ltr" }, label));
  }

  #answer(turn, answers, at, isLast) {
    const answer = answers[at];
    const fallback = directionOf(turn.question) || document.documentElement.dir;
    const prose = el("div", { class: "prose" });
    writeProse(prose, answer.text, fallback);
    const twin = answer.id && turn.answers.findLast((one) => one.translation_of === answer.id);
    const node = el("div", { class: "answer", "data-state": answer.state, "data-answer": answer.id ?? "", "aria-busy": String(answer.state === "streaming") },
      el("h3", { class: "sr-only" }, t("ui.assistant")), prose, this.#foot(turn, answers, at, isLast, twin));
    if (answer.grounding) node.append(groundingNote(answer.grounding));
    if (answer.judgement) node.append(this.#judgement(answer.judgement));
    if (twin && (this.twins.get(answer.id) ?? true)) node.append(this.#twin(twin, fallback));
    return node;
  }

  #foot(turn, answers, at, isLast, twin) {
    const answer = answers[at];
    const running = answer.state === "streaming";
    const busy = this.state.runs.size > 0;
    const tools = el("div", { class: "answer-tools" });
    if (!running && answer.text) {
      tools.append(this.#tool("copy", "ui.copy", (event) => this.act.copy(answer, event.currentTarget)));
      if (isLast && turn.id && !busy) tools.append(this.#tool("again", "ui.regenerate", () => this.act.again(turn)));
      if (twin || !busy) tools.append(this.#twinTool(turn, answer, twin));
      tools.append(this.#tool("flag", "ui.judge", () => this.act.judge(turn, answer), answer.judgement ? "true" : "false"));
    } else if (!running && isLast && turn.id && !busy) tools.append(this.#tool("again", "ui.regenerate", () => this.act.again(turn)));
    if (answers.length > 1) tools.append(...this.#versions(turn, answers.length, at));
    return el("div", { class: "answer-foot" }, el("p", { class: "answer-state" }, ...stateWords(answer)), tools);
  }

  #twinTool(turn, answer, twin) {
    const open = this.twins.get(answer.id) ?? true;
    const run = twin ? () => { this.twins.set(answer.id, !open); this.act.redraw(turn); } : () => { this.twins.set(answer.id, true); this.act.twin(turn, answer); };
    return this.#tool("translate", twin ? "ui.twin_toggle" : "ui.twin", run, twin ? String(open) : undefined);
  }

  #twin(twin, fallback) {
    const prose = el("div", { class: "prose" });
    writeProse(prose, twin.text, directionOf(twin.text) || (fallback === "rtl" ? "ltr" : "rtl"));
    const words = twin.state === "complete" ? [] : stateWords(twin);
    return el("section", { class: "twin", "data-state": twin.state, "aria-label": t("ui.twin_label") },
      el("p", { class: "twin-head" }, icon("translate"), t("ui.twin_label")), prose,
      words.length ? el("p", { class: "answer-state" }, ...words) : null,
      ...twin.differences.map((one) => el("p", { class: "difference" }, icon("warning"), el("span", { dir: "auto" }, differenceWords(one)))));
  }

  #judgement({ reasons, text }) {
    const said = reasons.map((reason) => t(`ui.reason.${reason}`)).join(language() === "ar" ? "، " : ", ");
    return el("p", { class: "judgement" }, icon("flag"), el("span", {}, said), text ? el("span", {}, " — ", el("span", { class: "judgement-words", dir: directionOf(text) }, together(text))) : null);
  }

  #versions(turn, count, at) {
    const go = (to) => () => { this.state.chosen.set(turn.id, to); this.act.redraw(turn); };
    const before = this.#tool("before", "ui.previous_answer", go(at - 1));
    const after = this.#tool("after", "ui.next_answer", go(at + 1));
    before.disabled = at === 0;
    after.disabled = at === count - 1;
    return [before, el("span", { class: "version" }, t("ui.answer_of", { index: at + 1, count })), after];
  }

  #tool(name, key, onclick, pressed) {
    return el("button", { class: "tool", type: "button", "aria-label": t(key), title: t(key), "aria-pressed": pressed, onclick }, icon(name));
  }
}

/** How an answer stands, in words; nothing once it is complete. */
export function stateWords(answer) {
  if (answer.state === "streaming") return [el("span", { class: "pulse" }), progressWords(answer)];
  const words = answer.state === "complete" ? [] : [endWords(answer)];
  if (answer.error) words.push(`: ${local(answer.error)}`);
  if (answer.left_out) words.push(` ${tCount("ui.turns_left_out", answer.left_out)}`);
  return words;
}

/** What is said of an answer that ended early: that nothing was written where nothing was. */
const endWords = ({ state, text }) => t(!text && ["stopped", "interrupted"].includes(state) ? `ui.state_empty.${state}` : `ui.state.${state}`);

function progressWords({ text, queue = 0, loading = null, read = 0, seconds = null }) {
  if (text) return t("ui.state.streaming");
  if (loading) return [t(`ui.model_loading.${loading}`), ...(read > 0 ? [`${Math.round(read * 100)} %`] : []), ...(seconds !== null ? [t("ui.seconds_left", { seconds: Math.ceil(seconds) })] : [])].join(" · ");
  if (queue > 0) return queue > 1 ? tCount("ui.queue_position", queue - 1) : t("ui.queue_waiting");
  if (seconds !== null) return `${t("ui.thinking")} · ${t("ui.seconds_left", { seconds: Math.ceil(seconds) })}`;
  return read > 0 ? `${t("ui.thinking")} · ${Math.round(read * 100)} %` : t("ui.thinking");
}

/** What a translation changed that it must not, in words. */
function differenceWords({ kind, missing, added }) {
  const list = (values) => (kind.startsWith("side") ? values.map((side) => t(`ui.side.${side}`)) : values).join(" · ") || "—";
  return t(`ui.difference.${kind}`, { missing: list(missing), added: list(added) });
}
