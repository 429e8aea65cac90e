// The question box: what the question is about, quick questions, the answer's language, the draft.

import { LONGEST_QUESTION, notice, tooLong } from "../dialogs.js";
import { el, icon, listen, write } from "../dom.js";
import { json } from "../server.js";
import { language, onLanguage, t } from "../texts.js";
import { digestsOf } from "../view.js";
import { viewer } from "../viewer.js";
import { loadPrompts, promptsDialog, suitable } from "./prompts.js";

const DRAFT = "bimedix2-draft:";

/** `ask(question)` sends one; `thread()` is the conversation; `isBusy()` tells whether it is being answered. */
export function mountComposer(element, { ask, thread, isBusy }) {
  const part = (name) => element.querySelector(`.${name}`);
  const [box, form, withImage, quick, languages] = ["question", "composer", "with-image", "quick", "answer-language"].map(part);

  // --- the draft: kept in this tab only, until it is sent ---------------------------------------

  const draftKey = () => DRAFT + (thread().id ?? "new");
  const keepDraft = () => { try { if (box.value) sessionStorage.setItem(draftKey(), box.value); else sessionStorage.removeItem(draftKey()); } catch { /* private mode */ } };
  const takeDraft = () => {
    let draft = "";
    try { draft = sessionStorage.getItem(draftKey()) ?? ""; } catch { /* private mode */ }
    box.value = draft;
    grow();
  };

  const grow = () => { warn(); box.style.height = "auto"; box.style.height = `${Math.min(box.scrollHeight + 2, 160)}px`; };

  const warn = () => {
    const text = tooLong(box.value.trim(), LONGEST_QUESTION);
    write(part("too-long"), text);
    part("too-long").hidden = !text;
    box.setAttribute("aria-invalid", String(Boolean(text)));
    return text;
  };

  const submit = () => {
    const question = box.value.trim();
    if (!question || isBusy()) return;
    if (warn()) { notice(warn()); return; }
    box.value = "";
    keepDraft();
    grow();
    ask(question, withImage.checked ? viewer.view() : null);
  };

  /** Put words where the next question is written; they can still be changed. */
  const insert = (text) => {
    const before = box.value && !/\s$/.test(box.value) ? " " : "";
    box.setRangeText(before + text, box.selectionStart ?? box.value.length, box.selectionEnd ?? box.value.length, "end");
    keepDraft();
    grow();
    box.focus();
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  box.addEventListener("input", () => { grow(); keepDraft(); });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  listen("insert", ({ text }) => insert(text));

  // --- what the question is about ----------------------------------------------------------------

  const draw = () => {
    const view = viewer.view();
    const label = part("subject");
    withImage.disabled = !view;
    label.textContent = !view ? t("ui.no_image_asked") : withImage.checked ? viewer.describe() : t("ui.without_image");
    label.dir = view && withImage.checked ? "ltr" : document.documentElement.dir;
    form.classList.toggle("plain", !view || !withImage.checked);
    part("other-patient").hidden = !withImage.checked || !isOfAnother(view);
    drawQuick(view);
    drawLanguages();
  };

  /** Whether a view is of another patient than the conversation, as far as both are known by their pseudonyms. */
  const isOfAnother = (view) => {
    const patients = (views) => views.filter(Boolean).flatMap(digestsOf).map((digest) => viewer.images.get(digest)?.patient).filter(Boolean);
    const { turns, patient } = thread();
    const known = new Set([...(patient ? [patient] : []), ...patients(turns.flatMap((turn) => turn.views))]);
    return known.size > 0 && patients([view]).some((one) => !known.has(one));
  };

  part("begin").addEventListener("click", () => document.querySelector("#history .new-thread").click());

  const drawQuick = (view) => {
    const turns = thread().turns;
    const images = new Set([...turns.flatMap((turn) => turn.views), ...(view ? [view] : [])].flatMap(digestsOf));
    const fits = suitable({ modality: viewer.modality?.() ?? "", hasRegion: Boolean(view?.region), hasAnswer: turns.some((turn) => turn.answers.length), imageCount: images.size });
    quick.hidden = !view && !turns.length;
    const stamp = JSON.stringify([fits, language()]);
    if (quick.dataset.drawn === stamp) return;
    quick.dataset.drawn = stamp;
    const edit = el("button", { type: "button", class: "tool", "aria-label": t("ui.prompts_edit"), title: t("ui.prompts_edit"), onclick: () => promptsDialog(draw) }, icon("prompts"));
    quick.replaceChildren(edit, ...fits.map(({ text }) => el("button", { class: "quick-question", type: "button", dir: "auto", title: text, onclick: () => { if (!isBusy()) ask(text, withImage.checked ? viewer.view() : null); } }, text)));
  };

  // --- the language of the answers ---------------------------------------------------------------

  const drawLanguages = () => {
    languages.value = thread().language ?? "";
    if (languages.dataset.drawn === language()) return;
    languages.dataset.drawn = language();
    const options = { "": "ui.answer_follows", ar: "ui.answer_arabic", en: "ui.answer_english" };
    languages.replaceChildren(...Object.entries(options).map(([value, key]) => el("option", { value }, t(key))));
    languages.value = thread().language ?? "";
  };

  languages.addEventListener("change", async () => {
    thread().language = languages.value || null;
    if (thread().id) await json(`history/threads/${thread().id}/language`, { language: thread().language }).catch(() => {});
  });

  withImage.addEventListener("change", draw);
  listen("view", draw);
  loadPrompts().then(draw);
  onLanguage(() => { draw(); warn(); });
  return { draw, takeDraft, focus: () => box.focus(), restore: (question) => { if (!box.value) { box.value = question; keepDraft(); grow(); } } };
}
