// Keyboard: the shortcuts of the whole page, and the list of all of them on "?".

import { openDialog } from "./dialogs.js";
import { announce, el } from "./dom.js";
import { t } from "./texts.js";
import { viewer } from "./viewer.js";

// Each of `keys` does what the sentence says; those that are pressed together are written with a plus.
const PAGE = [
  { keys: ["?"], key: "ui.help" },
  { keys: ["/"], key: "ui.key_question" },
  { keys: ["S"], key: "ui.search" },
  { keys: ["N"], key: "ui.new_conversation" },
  { keys: ["V"], key: "ui.key_viewer" },
  { keys: ["L"], key: "ui.key_language" },
  { keys: ["Esc"], key: "ui.key_stop" },
  { keys: ["Tab", "Shift+Tab"], key: "ui.key_tab" },
  { keys: ["↑", "↓"], key: "ui.key_menus" },
];
const QUESTION = [
  { keys: ["Enter"], key: "ui.ask" },
  { keys: ["Shift+Enter"], key: "ui.key_new_line" },
  { keys: ["Ctrl+Enter"], key: "ui.key_save" },
];
const LETTERS = "bimedix2-letters";
let isOpen = false;

/** Whether single keys act on the page while neither a field nor the image has the focus; a reader may turn that off. */
const lettersAct = () => { try { return localStorage.getItem(LETTERS) !== "off"; } catch { return true; } };

const row = ({ keys, key }) => el("div", {}, el("dt", {}, t(key)), el("dd", {}, ...keys.flatMap((one, at) => [at ? " / " : "", ...chord(one)])));

const chord = (keys) => (keys.length === 1 ? [keys] : keys.split("+")).flatMap((one, at) => [at ? " + " : "", el("kbd", {}, one)]);

/** Every group of shortcuts: the page's, the question's, those of the viewer on the stage. */
const groups = () => [
  { title: "ui.keys_page", shortcuts: PAGE },
  { title: "ui.keys_question", shortcuts: QUESTION },
  { title: "ui.keys_image", shortcuts: viewer.shortcuts().map(({ keys, text }) => ({ keys, key: text })) },
  { title: "ui.keys_mouse", shortcuts: viewer.gestures().map(({ text }) => ({ keys: [], key: text })) },
].filter(({ shortcuts }) => shortcuts.length);

export async function showHelp() {
  if (isOpen) return;
  isOpen = true;
  const lists = groups().map(({ title, shortcuts }) => el("section", {}, el("h3", {}, t(title)), shortcuts[0].keys.length ? el("dl", {}, ...shortcuts.map(row)) : el("ul", {}, ...shortcuts.map(({ key }) => el("li", {}, t(key))))));
  const box = el("input", { type: "checkbox", id: "letters-act", checked: lettersAct() });
  box.addEventListener("change", () => { try { localStorage.setItem(LETTERS, box.checked ? "on" : "off"); } catch { /* private mode: they act */ } });
  const choice = el("label", { class: "check", for: "letters-act" }, box, el("span", {}, t("ui.key_letters")));
  await openDialog([el("h2", {}, t("ui.help")), el("div", { class: "shortcuts", tabindex: 0, role: "group", "aria-label": t("ui.help") }, ...lists), choice], null, { wide: true });
  isOpen = false;
}

/** Whether a key belongs to what is being typed, or to a dialog that is open. */
const isTyping = (target) => target.closest?.("input:not([type=checkbox], [type=range]), textarea, select, dialog[open], .menu, [contenteditable]");

export function mountKeyboard(switchLanguage) {
  const click = (selector) => document.querySelector(`${selector}:not([hidden])`)?.click();
  const focus = (selector) => document.querySelector(selector)?.focus();
  const actions = {
    "?": showHelp, "/": () => focus("#chat .question"), s: () => focus("#history .search"),
    n: () => announce("new"), v: () => focus("#viewer .pixels"), l: switchLanguage, Escape: () => click("#chat .stop"),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    // right after Enter the focus is still in the question, and Escape must stop its answer
    if (isTyping(event.target) && !(event.key === "Escape" && event.target.matches("#chat .question"))) return;
    if (event.key !== "Escape" && !lettersAct()) return;
    // letters by their place too: a keyboard in Arabic writes other letters with the same keys
    const named = actions[event.key] ?? (/^Key[A-Z]$/.test(event.code) && !/^[a-z]$/i.test(event.key) ? actions[event.code.slice(3).toLowerCase()] : event.key === "؟" ? showHelp : actions[event.key.toLowerCase()]);
    if (!named) return;
    event.preventDefault();
    named();
  });
}
