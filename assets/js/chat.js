// Conversation: questions with the view they are about, answers as they come, and what is done with them.

import { mountAdapters } from "./chat/adapters.js";
import { mountComposer } from "./chat/composer.js";
import { mountGrounding } from "./chat/grounding.js";
import { judgeDialog } from "./chat/judge.js";
import { TurnPainter } from "./chat/turn.js";
import { longTextDialog, notice } from "./dialogs.js";
import { logical } from "./direction.js";
import { announce, drawIcons, el, keepingFocus, listen } from "./dom.js";
import { askServer, json } from "./server.js";
import { bothOf, local, onLanguage, t, translate } from "./texts.js";
import { digestsOf } from "./view.js";
import { viewer } from "./viewer.js";

const LOOK_AGAIN_MS = 1500; // while another page awaits an answer
const SHOWN_TURNS = 15; // thirty messages: more make every update of a streamed answer slower

export function mountChat(element, props, trigger, watch) {
  const part = (name) => element.querySelector(`.${name}`);
  const [list, stop, scroller] = ["turns", "stop", "chat-scroll"].map(part);
  const runs = new Map(); // run -> turn being answered, wherever it is shown
  const state = { thread: { id: null, turns: [], language: null }, runs, chosen: new Map() };
  let shown = SHOWN_TURNS;
  let serial = 0;
  let watching = 0;
  let goal = null; // turn to scroll to once its conversation is here

  // --- drawing ---------------------------------------------------------------------------------

  const draw = () => {
    const { turns: all } = state.thread;
    const turns = all.slice(-shown);
    part("earlier").hidden = turns.length === all.length;
    part("chat-empty").hidden = all.length > 0;
    keepingFocus(list, () => list.replaceChildren(...turns.map((turn) => painter.draw(turn, turn === all.at(-1)))));
    drawRunning();
  };

  const redraw = (turn) => {
    const old = [...list.children].find((node) => node.dataset.turn === turn.id) ?? null;
    const stick = atEnd();
    keepingFocus(list, () => { // the question's element moves into what is drawn, and loses the focus by that
      const made = painter.draw(turn, turn === state.thread.turns.at(-1));
      if (old) old.replaceWith(made); else list.append(made);
    });
    if (stick) toEnd();
  };

  const isBusy = () => [...runs.values()].some((run) => run.thread === state.thread.id);

  const drawRunning = () => {
    stop.hidden = !isBusy() && !elsewhere();
    part("send").hidden = isBusy();
  };

  /** Answer of the conversation shown that this page does not follow: it was loaded again, or another page asked. */
  const elsewhere = () => (isBusy() ? null : state.thread.turns.flatMap((turn) => turn.answers).find((answer) => answer.id && answer.state === "streaming"));

  const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;

  const toEnd = () => { scroller.scrollTop = scroller.scrollHeight; };

  const toTurn = (id) => {
    const at = state.thread.turns.findIndex((turn) => turn.id === id);
    if (at < 0) { toEnd(); return; }
    shown = Math.max(shown, state.thread.turns.length - at);
    draw();
    const node = [...list.children].find((one) => one.dataset.turn === id);
    node.scrollIntoView({ block: "start" });
    node.classList.add("found");
    node.addEventListener("animationend", () => node.classList.remove("found"), { once: true });
  };

  // --- what the server says --------------------------------------------------------------------

  const receive = () => {
    const message = props.value;
    if (message) ({ thread: showThread, update: showUpdate, error: showError }[message.kind])(message);
  };

  const showThread = (message) => {
    const { refresh, first } = message;
    if (first && (runs.size || state.thread.turns.length)) return; // the reader was faster than the page's first answer
    if (refresh && (message.thread.id !== state.thread.id || isBusy())) return;
    // what was chosen before the page's first answer stays chosen for the conversation that is yet to begin
    const { id = null, turns = [], language = first ? state.thread.language : null, patient = null } = message.thread ?? {};
    if (refresh && JSON.stringify(turns) === JSON.stringify(state.thread.turns)) { awaitElsewhere(id); return; }
    const place = atEnd() ? null : scroller.scrollTop;
    state.thread = { id, turns, language, patient };
    if (runs.has(message.run)) { runs.get(message.run).thread = id; notice(t("ui.forked"), "note"); } // a question asked differently
    if (!refresh) { shown = SHOWN_TURNS; state.chosen.clear(); painter.questions.clear(); }
    const views = turns.flatMap((turn) => turn.views);
    announce("thread", { id, images: [...new Set(views.flatMap(digestsOf))], removed: message.removed });
    draw();
    composer.draw();
    awaitElsewhere(id);
    if (refresh) { if (place === null) toEnd(); else scroller.scrollTop = place; return; }
    composer.takeDraft();
    const at = turns.find((turn) => turn.id === goal);
    if (at) toTurn(goal); else toEnd();
    goal = null;
    const wanted = at?.views.at(-1) ?? (at ? turns.slice(0, turns.indexOf(at)).flatMap((turn) => turn.views) : views).at(-1);
    if (wanted) viewer.show(wanted);
  };

  /** An answer this page did not ask for, still being written: look again until it has ended. */
  const awaitElsewhere = (id) => {
    if (!elsewhere()) return;
    setTimeout(() => { if (state.thread.id === id) lookAgain(); }, LOOK_AGAIN_MS);
  };

  /** See what another page has done to the conversation shown. */
  const lookAgain = () => { if (state.thread.id && !isBusy()) trigger("refresh", { payload: { thread: state.thread.id } }); };

  const showUpdate = ({ run, thread: id, turn, turns }) => {
    const { thread } = state;
    const known = runs.get(run);
    if (known?.thread === null) announce("begun", { id });
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
    else if (known?.stopping) { known.stopping = false; trigger("stop", { payload: { run } }); } // it was asked before the server knew the run
    if (thread.id !== id) return;
    redraw(turn);
    drawRunning();
    if (!done) return;
    if (turns !== thread.turns.length) lookAgain(); else awaitElsewhere(id);
    if (!runs.size) for (const other of thread.turns) if (other !== turn) redrawTools(other);
    composer.draw();
    say(turn.answers.at(-1));
    announce("answered", { thread: id, turn: turn.id, answer: turn.answers.at(-1) });
  };

  /** Tools hidden while something was being answered come back. */
  const redrawTools = (turn) => { if ([...list.children].some((node) => node.dataset.turn === turn.id)) redraw(turn); };

  const showError = ({ run, error, gone }) => {
    const failed = runs.get(run);
    runs.delete(run);
    if (gone && gone === state.thread.id) { // deleted in another page
      showNone(true);
      if (failed?.question) composer.restore(failed.question);
      notice(local(error));
      return;
    }
    const { thread } = state;
    if (thread.turns.some((turn) => turn.id === failed?.placeholder)) {
      thread.turns = thread.turns.filter((turn) => turn.id !== failed.placeholder);
      composer.restore(failed.question);
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

  const ask = (question, view) => {
    if (!question || isBusy()) return;
    const { thread } = state;
    const run = begin({ placeholder: null, question });
    const placeholder = `asked-${run}`;
    runs.get(run).placeholder = placeholder;
    const last = thread.turns.findLast((one) => one.views.length)?.views.at(-1);
    const views = view && JSON.stringify(view) !== JSON.stringify(last) ? [view] : [];
    thread.turns.push({ id: placeholder, question, views, answers: [{ text: "", state: "streaming" }] });
    draw();
    toEnd();
    trigger("ask", { payload: { run, thread: thread.id, question, views: view ? [view] : [], language: thread.language } });
  };

  /** Note that something is being answered; the server names it by the run. */
  const begin = (known = {}) => {
    serial += 1;
    const run = `${Date.now().toString(36)}-${serial}`;
    runs.set(run, { thread: state.thread.id, ...known });
    announce("asked", { run });
    watchServer();
    return run;
  };

  const failed = (error) => notice(error.both ? local(error.both) : t("ui.server_lost"));

  const act = {
    redraw,
    again(turn) {
      const run = begin();
      state.chosen.delete(turn.id);
      turn.answers = [...turn.answers, { text: "", state: "streaming" }];
      redraw(turn);
      drawRunning();
      trigger("again", { payload: { run, thread: state.thread.id, turn: turn.id } });
    },
    async edit(turn) {
      const question = await longTextDialog("ui.edit_question", logical(turn.question), "ui.ask");
      if (!question || isBusy()) return;
      trigger("edit", { payload: { run: begin(), thread: state.thread.id, turn: turn.id, question } });
    },
    async fork(turn) {
      try {
        const { thread } = await json(`history/threads/${state.thread.id}/fork`, { turn: turn.id });
        announce("open", { id: thread });
        notice(t("ui.forked"), "note");
      } catch (error) { failed(error); }
    },
    twin(turn, answer) {
      const run = begin();
      turn.answers = [...turn.answers, { text: "", state: "streaming", translation_of: answer.id, differences: [] }];
      redraw(turn);
      drawRunning();
      trigger("twin", { payload: { run, thread: state.thread.id, answer: answer.id } });
    },
    async judge(turn, answer) {
      const judgement = await judgeDialog(answer.judgement);
      if (!judgement) return;
      try {
        const kept = await json(`history/answers/${answer.id}/judgement`, judgement);
        answer.judgement = kept.reasons.length || kept.text ? kept : null;
        redraw(turn);
      } catch (error) { failed(error); }
    },
    async copy(answer, button) {
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
    },
  };

  /** While an answer is awaited: a server that has gone must not look like a slow model. */
  const watchServer = () => {
    if (watching) return;
    let missed = 0;
    watching = setInterval(async () => {
      if (!runs.size) { clearInterval(watching); watching = 0; return; }
      const alive = await askServer("healthz", { cache: "no-store" }).then(() => true, () => false);
      missed = alive ? 0 : missed + 1;
      if (missed < 3) return;
      for (const run of [...runs.keys()]) showError({ run, error: bothOf("ui.server_lost") });
    }, 3000);
  };

  stop.addEventListener("click", () => {
    if (elsewhere()) trigger("stop", { payload: { answer: elsewhere().id } });
    for (const [run, known] of runs) if (known.thread === state.thread.id) { known.stopping = true; trigger("stop", { payload: { run } }); }
  });
  part("earlier").addEventListener("click", () => {
    const height = scroller.scrollHeight;
    shown += SHOWN_TURNS;
    draw();
    scroller.scrollTop += scroller.scrollHeight - height;
  });
  listen("goto", ({ turn }) => { goal = turn; });
  const showNone = (removed) => {
    state.thread = { id: null, turns: [], language: null };
    announce("thread", { id: null, removed });
    draw();
    composer.takeDraft();
    composer.draw();
  };
  listen("new", () => { showNone(false); composer.focus(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) lookAgain(); });

  const painter = new TurnPainter(state, act);
  const composer = mountComposer(element, { ask, isBusy, thread: () => state.thread });
  mountAdapters(part("adapter"));
  mountGrounding({ thread: () => state.thread, redraw });
  listen("images", draw);
  drawIcons(element);
  onLanguage(() => { translate(element); draw(); composer.draw(); });
  watch("value", receive);
  receive();
}
