// Conversation: questions with the view they are about, answers as they come, and the question box.

import { directionOf, logical } from "./direction.js";
import { notice } from "./dialogs.js";
import { announce, drawIcons, el, icon, listen } from "./dom.js";
import { writeProse } from "./prose.js";
import { bothOf, language, local, onLanguage, t, tCount, translate } from "./texts.js";
import { describeView, thumbnail } from "./view.js";
import { viewer } from "./viewer.js";

const SHOWN_TURNS = 15; // thirty messages: more make every update of a streamed answer slower
const QUICK = ["ui.quick_describe", "ui.quick_modality", "ui.quick_abnormal", "ui.quick_region", "ui.quick_report"];

export function mountChat(element, props, trigger, watch) {
  const part = (name) => element.querySelector(`.${name}`);
  const [list, box, form, stop, withImage] = ["turns", "question", "composer", "stop", "with-image"].map(part);
  const scroller = part("chat-scroll");
  const runs = new Map(); // run -> turn being answered, wherever it is shown
  const chosen = new Map(); // turn id -> answer the reader went back to
  const questions = new Map(); // what a question says and shows -> its element
  let thread = { id: null, turns: [] };
  let shown = SHOWN_TURNS;
  let serial = 0;
  let watching = 0;

  // --- drawing ---------------------------------------------------------------------------------

  const draw = () => {
    const turns = thread.turns.slice(-shown);
    part("earlier").hidden = turns.length === thread.turns.length;
    part("chat-empty").hidden = thread.turns.length > 0;
    list.replaceChildren(...turns.map((turn) => drawTurn(turn, turn === thread.turns.at(-1))));
    drawRunning();
  };

  const drawTurn = (turn, isLast) => {
    const at = chosen.get(turn.id) ?? turn.answers.length - 1;
    const answer = turn.answers[at];
    const node = el("article", { class: "turn", "data-turn": turn.id }, drawQuestion(turn));
    if (answer) node.append(drawAnswer(turn, answer, at, isLast));
    return node;
  };

  /** The question is drawn once: its picture must not be fetched again with every piece of the answer. */
  const drawQuestion = (turn) => {
    const { views, carried } = viewsOf(turn);
    const stamp = JSON.stringify([turn.id, turn.question, views, carried, views.map((view) => viewer.frames(view.image)), language()]);
    if (!questions.has(stamp)) {
      const bubble = el("div", { class: "bubble", dir: directionOf(turn.question) || document.documentElement.dir }, turn.question);
      questions.set(stamp, el("div", { class: "asked" }, el("h3", { class: "sr-only" }, t("ui.you")), ...views.map((view) => evidence(view, carried)), bubble));
    }
    return questions.get(stamp);
  };

  /** Views of a question; one that brought none is about those shown last before it. */
  const viewsOf = (turn) => {
    if (turn.views.length) return { views: turn.views, carried: false };
    const before = thread.turns.slice(0, Math.max(thread.turns.indexOf(turn), 0)).findLast((one) => one.views.length);
    return { views: before?.views ?? [], carried: true };
  };

  const evidence = (view, carried) => {
    const label = describeView(view, viewer.frames(view.image));
    const picture = carried ? null : el("img", { src: thumbnail(view), alt: "", loading: "lazy", width: 56, height: 56 });
    return el("button", { class: carried ? "evidence carried" : "evidence", "aria-label": `${t("ui.show_view")}: ${label}`, title: t("ui.show_view"), onclick: () => viewer.show(view) },
      picture, el("span", { class: "evidence-label", dir: "ltr" }, label));
  };

  const drawAnswer = (turn, answer, at, isLast) => {
    const running = answer.state === "streaming";
    const prose = el("div", { class: "prose" });
    writeProse(prose, answer.text, directionOf(turn.question) || document.documentElement.dir);
    const state = el("p", { class: "answer-state" }, ...stateWords(answer));
    const tools = el("div", { class: "answer-tools" });
    if (!running && answer.text) tools.append(tool("copy", "ui.copy", (event) => copy(answer, event.currentTarget)));
    if (!running && isLast && turn.id && !runs.size) tools.append(tool("again", "ui.regenerate", () => again(turn)));
    if (turn.answers.length > 1) tools.append(...versions(turn, at));
    return el("div", { class: "answer", "data-state": answer.state, "aria-busy": String(running) },
      el("h3", { class: "sr-only" }, t("ui.assistant")), prose, el("div", { class: "answer-foot" }, state, tools));
  };

  const stateWords = (answer) => {
    if (answer.state === "streaming") return [el("span", { class: "pulse" }), progressWords(answer)];
    const words = answer.state === "complete" ? [] : [t(`ui.state.${answer.state}`)];
    if (answer.error) words.push(`: ${local(answer.error)}`);
    if (answer.left_out) words.push(` ${tCount("ui.turns_left_out", answer.left_out)}`);
    return words;
  };

  const progressWords = ({ text, queue = 0, read = 0, seconds = null }) => {
    if (text) return t("ui.state.streaming");
    if (queue > 0) return queue > 1 ? tCount("ui.queue_position", queue - 1) : t("ui.queue_waiting");
    if (seconds !== null) return `${t("ui.thinking")} · ${t("ui.seconds_left", { seconds: Math.ceil(seconds) })}`;
    return read > 0 ? `${t("ui.thinking")} · ${Math.round(read * 100)} %` : t("ui.thinking");
  };

  const versions = (turn, at) => {
    const go = (to) => () => { chosen.set(turn.id, to); redraw(turn); };
    const before = tool("before", "ui.previous_answer", go(at - 1));
    const after = tool("after", "ui.next_answer", go(at + 1));
    before.disabled = at === 0;
    after.disabled = at === turn.answers.length - 1;
    const count = el("span", { class: "version" }, t("ui.answer_of", { index: at + 1, count: turn.answers.length }));
    return [before, count, after];
  };

  const tool = (name, key, onclick) => el("button", { class: "tool", "aria-label": t(key), title: t(key), onclick }, icon(name));

  const redraw = (turn) => {
    const old = [...list.children].find((node) => node.dataset.turn === turn.id) ?? null;
    const stick = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    const made = drawTurn(turn, turn === thread.turns.at(-1));
    if (old) old.replaceWith(made); else list.append(made);
    if (stick) toEnd();
  };

  const drawRunning = () => {
    const running = [...runs.values()].some((run) => run.thread === thread.id);
    stop.hidden = !running;
    part("send").hidden = running;
  };

  const toEnd = () => { scroller.scrollTop = scroller.scrollHeight; };

  // --- what the server says --------------------------------------------------------------------

  const receive = () => {
    const message = props.value;
    if (message) ({ thread: showThread, update: showUpdate, error: showError }[message.kind])(message);
  };

  const showThread = (message) => {
    if (message.refresh && (message.thread.id !== thread.id || runs.size)) return;
    thread = { id: message.thread?.id ?? null, turns: message.thread?.turns ?? [] };
    shown = SHOWN_TURNS;
    chosen.clear();
    questions.clear();
    const views = thread.turns.flatMap((turn) => turn.views);
    announce("thread", { id: thread.id, images: [...new Set(views.map((view) => view.image))], removed: message.removed });
    draw();
    toEnd();
    if (views.length && !message.refresh) viewer.show(views.at(-1));
    awaitElsewhere(thread.id);
  };

  /** An answer this page did not ask for, still being written: look again until it has ended. */
  const awaitElsewhere = (id) => {
    if (thread.turns.at(-1)?.answers.at(-1)?.state !== "streaming" || runs.size) return;
    setTimeout(() => { if (thread.id === id && id) trigger("refresh", { payload: { thread: id } }); }, 1500);
  };

  const showUpdate = ({ run, thread: id, turn }) => {
    const known = runs.get(run);
    const done = turn.answers.at(-1).state !== "streaming";
    if (known && thread.id === known.thread) {
      if (thread.id === null) { thread.id = id; announce("thread", { id }); }
      const at = thread.turns.findIndex((other) => other.id === turn.id || other.id === known.placeholder);
      if (at < 0) thread.turns.push(turn); else thread.turns[at] = turn;
      const old = [...list.children].find((node) => node.dataset.turn === known.placeholder);
      if (old) old.dataset.turn = turn.id;
    }
    if (known) known.thread = id;
    if (done) runs.delete(run);
    if (thread.id !== id) return;
    redraw(turn);
    drawRunning();
    if (done) say(turn.answers.at(-1));
  };

  const showError = ({ run, error }) => {
    const failed = runs.get(run);
    runs.delete(run);
    if (thread.turns.some((turn) => turn.id === failed?.placeholder)) {
      thread.turns = thread.turns.filter((turn) => turn.id !== failed.placeholder);
      if (!box.value) box.value = failed.question;
    }
    for (const turn of thread.turns.filter(() => !runs.size)) {
      turn.answers = turn.answers.filter((answer) => answer.id);
      for (const answer of turn.answers) if (answer.state === "streaming") answer.state = "interrupted";
    }
    draw();
    notice(local(error));
  };

  const say = (answer) => { part("spoken").textContent = `${t("ui.assistant")}: ${logical(answer.text)} ${answer.state === "complete" ? "" : t(`ui.state.${answer.state}`)}`; };

  // --- what the reader does --------------------------------------------------------------------

  const ask = (question) => {
    if (!question || !stop.hidden) return;
    const view = withImage.checked ? viewer.view() : null;
    const run = newRun();
    const placeholder = `asked-${run}`;
    const last = thread.turns.findLast((one) => one.views.length)?.views.at(-1);
    const views = view && JSON.stringify(view) !== JSON.stringify(last) ? [view] : [];
    const turn = { id: placeholder, question, views, answers: [{ text: "", state: "streaming" }] };
    runs.set(run, { thread: thread.id, placeholder, question });
    thread.turns.push(turn);
    draw();
    toEnd();
    watchServer();
    trigger("ask", { payload: { run, thread: thread.id, question, views: view ? [view] : [] } });
  };

  const again = (turn) => {
    const run = newRun();
    runs.set(run, { thread: thread.id });
    chosen.delete(turn.id);
    turn.answers = [...turn.answers, { text: "", state: "streaming" }];
    redraw(turn);
    drawRunning();
    watchServer();
    trigger("again", { payload: { run, thread: thread.id, turn: turn.id } });
  };

  /** While an answer is awaited: a server that has gone must not look like a slow model. */
  const watchServer = () => {
    if (watching) return;
    let missed = 0;
    watching = setInterval(async () => {
      if (!runs.size) { clearInterval(watching); watching = 0; return; }
      const alive = await fetch("healthz", { cache: "no-store" }).then((answer) => answer.ok, () => false);
      missed = alive ? 0 : missed + 1;
      if (missed < 3) return;
      for (const run of [...runs.keys()]) showError({ run, error: bothOf("ui.server_lost") });
    }, 3000);
  };

  const newRun = () => { serial += 1; return `${Date.now().toString(36)}-${serial}`; };

  const copy = async (answer, button) => {
    const text = logical(answer.text);
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a page without https has no clipboard interface
      const area = el("textarea", { class: "sr-only" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.classList.add("done");
    button.title = t("ui.copied");
    part("spoken").textContent = t("ui.copied");
  };

  const submit = () => {
    const question = box.value.trim();
    if (!question || !stop.hidden) return;
    box.value = "";
    grow();
    ask(question);
  };

  const grow = () => { box.style.height = "auto"; box.style.height = `${Math.min(box.scrollHeight + 2, 160)}px`; };

  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  box.addEventListener("input", grow);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  stop.addEventListener("click", () => {
    for (const [run, { thread: id }] of runs) if (id === thread.id) trigger("stop", { payload: { run } });
  });
  part("earlier").addEventListener("click", () => {
    const height = scroller.scrollHeight;
    shown += SHOWN_TURNS;
    draw();
    scroller.scrollTop += scroller.scrollHeight - height;
  });
  listen("new", () => {
    thread = { id: null, turns: [] };
    announce("thread", { id: null });
    draw();
    box.focus();
  });

  // --- the question's subject ------------------------------------------------------------------

  const drawSubject = () => {
    const view = viewer.view();
    const label = part("subject");
    withImage.disabled = !view;
    label.textContent = !view ? t("ui.no_image_asked") : withImage.checked ? viewer.describe() : t("ui.without_image");
    label.dir = view && withImage.checked ? "ltr" : document.documentElement.dir;
    part("composer").classList.toggle("plain", !view || !withImage.checked);
    drawQuick(view);
  };

  const drawQuick = (view) => {
    part("quick").hidden = !view;
    const keys = QUICK.filter((key) => key !== "ui.quick_region" || view?.region);
    if (part("quick").dataset.drawn === keys.join() + language()) return;
    part("quick").dataset.drawn = keys.join() + language();
    part("quick").replaceChildren(...keys.map((key) => el("button", { class: "quick-question", type: "button", onclick: () => ask(t(key)) }, t(key))));
  };

  withImage.addEventListener("change", drawSubject);
  listen("view", drawSubject);
  listen("images", draw);
  drawIcons(element);
  onLanguage(() => { translate(element); draw(); drawSubject(); });
  watch("value", receive);
  receive();
}
