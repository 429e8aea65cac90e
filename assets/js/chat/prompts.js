// Quick questions that suit what is on screen, and the dialog in which a reader words them differently.

import { confirmDialog, longTextDialog, notice, openDialog } from "../dialogs.js";
import { el, icon, keepingFocus } from "../dom.js";
import { json } from "../server.js";
import { language, local, t } from "../texts.js";

const LONGEST = 1000;
const SHOWN = 7;
let prompts = [];

/** Fetch the reader's questions. */
export async function loadPrompts() {
  prompts = (await json("prompts").catch(() => ({ prompts: [] }))).prompts;
}

/** Questions for what is on screen: { id, text }. Those of its modality come first. */
export function suitable({ modality, hasRegion, hasAnswer, imageCount }) {
  const needs = { "": true, region: hasRegion, answer: hasAnswer, two_images: imageCount > 1 };
  const fits = prompts.filter((one) => one.texts[language()] && needs[one.needs] && (!one.modalities.length || one.modalities.includes(modality)));
  const rank = (one) => (one.needs === "region" || one.own ? 0 : one.id === "describe" ? 1 : one.modalities.length ? 2 : 3);
  return fits.toSorted((a, b) => rank(a) - rank(b)).slice(0, SHOWN + fits.filter((one) => one.own).length).map((one) => ({ id: one.id, text: one.texts[language()] }));
}

/** Let the reader word, add, remove and put back questions; calls `changed` after each. */
export async function promptsDialog(changed) {
  const list = el("ul", { class: "prompt-list" });
  const draw = () => keepingFocus(list, () => list.replaceChildren(...prompts.map(row)));

  const row = (one) => el("li", {},
    el("span", { class: "prompt-text", dir: "auto" }, one.texts[language()] || el("em", {}, t("ui.prompt_hidden"))),
    tool("pen", "ui.prompt_edit", () => edit(one)),
    one.own ? tool("bin", "ui.delete", () => restore(one, "ui.prompt_delete_confirm"))
      : one.changed.length ? tool("reset", "ui.prompt_restore", () => restore(one, "ui.prompt_restore_confirm"))
        : tool("close", "ui.prompt_hide", () => save({ id: one.id, language: language(), text: "" })));

  const tool = (name, key, onclick) => el("button", { type: "button", class: "tool", "aria-label": t(key), title: t(key), onclick }, icon(name));

  const save = async (body) => {
    try { await json("prompts", body); } catch (error) { notice(error.both ? local(error.both) : t("ui.server_lost")); }
    await again();
  };

  const again = async () => { await loadPrompts(); draw(); changed(); };

  const edit = async (one) => {
    const text = await longTextDialog("ui.prompt_text", one?.texts[language()] ?? "", "ui.save", LONGEST);
    if (text) await save({ id: one?.id ?? null, language: language(), text });
  };

  const restore = async (one, question) => {
    if (!(await confirmDialog(question, one.own ? "ui.delete" : "ui.prompt_restore"))) return;
    await json(`prompts/${one.id}`, undefined, "DELETE").catch(() => notice(t("ui.server_lost")));
    await again();
  };

  draw();
  const add = el("button", { type: "button", class: "button", onclick: () => edit(null) }, icon("plus"), t("ui.prompt_add"));
  await openDialog([el("h2", {}, t("ui.quick_questions")), list, add], null, { wide: true });
}
