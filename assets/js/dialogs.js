// Questions the page asks back, menus and short notices. Native <dialog>: focus stays inside, Escape cancels.

import { el, icon } from "./dom.js";
import { Remaining } from "./remaining.js";
import { t } from "./texts.js";

const WORTH_MS = 1000; // what is over sooner needs no progress

let serial = 0;

/** Ask yes or no; resolves to true or false. */
export function confirmDialog(question, action) {
  const yes = el("button", { class: "button danger", value: "yes" }, t(action));
  return openDialog([el("p", {}, t(question))], yes).then((answer) => answer === "yes");
}

/** Ask for a line of text; resolves to it, or null. An empty line counts only where it is `optional`. */
export function textDialog(label, value, { optional = false } = {}) {
  const input = el("input", { type: "text", maxlength: 200, required: !optional, dir: "auto", id: "dialog-text" });
  input.value = value;
  const yes = el("button", { class: "button primary", value: "yes" }, t("ui.save"));
  const asked = openDialog([el("label", { for: "dialog-text" }, t(label)), input], yes);
  input.select();
  return asked.then((answer) => (answer === "yes" && (optional || input.value.trim()) ? input.value.trim() : null));
}

/** Most characters of a question; the server's own limit (app/ui/wire.py). */
export const LONGEST_QUESTION = 8000;

/** Sentence for a text longer than may be sent, else "". Nothing that was pasted is cut without a word. */
export function tooLong(text, most) {
  const count = text.length > most ? [...text].length : 0; // characters, as the server counts them
  return count > most ? t("ui.text_too_long", { count, most }) : "";
}

/** Line below a text in a dialog that says when it is too long; until it is shorter the dialog cannot be confirmed. */
export function lengthWarning(area, most) {
  const line = el("p", { class: "too-long", role: "status", hidden: true });
  area.addEventListener("input", () => {
    line.textContent = tooLong(area.value.trim(), most);
    line.hidden = !line.textContent;
    area.setCustomValidity(line.textContent);
  });
  return line;
}

/** Ask for a longer text; resolves to it, or null. Ctrl+Enter saves. */
export function longTextDialog(label, value, action = "ui.save", most = LONGEST_QUESTION) {
  const area = el("textarea", { required: true, dir: "auto", id: "dialog-text", rows: 5 });
  area.value = value;
  const yes = el("button", { class: "button primary", value: "yes" }, t(action));
  const asked = openDialog([el("label", { for: "dialog-text" }, t(label)), area, lengthWarning(area, most)], yes);
  area.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); yes.click(); } });
  area.focus();
  return asked.then((answer) => (answer === "yes" && area.value.trim() ? area.value.trim() : null));
}

/** Ask with own content; resolves to "yes" or something else. Without `yes` there is only a way out. */
export function openDialog(content, yes, { wide = false } = {}) {
  const no = el("button", { class: "button", value: "no", formnovalidate: true }, t(yes ? "ui.cancel" : "ui.close"));
  const dialog = el("dialog", { class: wide ? "dialog wide" : "dialog" }, el("form", { method: "dialog" }, ...content, el("div", { class: "dialog-buttons" }, no, yes)));
  const heading = dialog.querySelector("h2, legend, label, p");
  serial += 1; // one dialog may ask over another: each has names of its own
  if (heading) { heading.id = `dialog-heading-${serial}`; dialog.setAttribute("aria-labelledby", heading.id); }
  // A form's first button answers Enter: in a question that destroys something that is "cancel".
  document.getElementById("page").append(dialog);
  dialog.showModal();
  const input = dialog.querySelector("input[type=text]");
  if (input && yes) input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); yes.click(); } });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue); });
  });
}

/** Menu at a button: arrows move, Escape and a click elsewhere close it. Items: { icon, key, run, danger }. */
export function menu(anchor, items) {
  const close = () => { box.remove(); document.removeEventListener("pointerdown", away, true); anchor.setAttribute("aria-expanded", "false"); };
  const away = (event) => { if (!box.contains(event.target)) close(); };
  const choose = (run) => () => { close(); if (anchor.isConnected) anchor.focus(); run(); };
  const box = el("div", { class: "menu", role: "menu" }, ...items.map((one) => el("button", { type: "button", role: "menuitem", tabindex: -1, class: one.danger ? "danger" : null, onclick: choose(one.run) }, one.icon ? icon(one.icon) : null, el("span", { dir: "auto" }, one.text ?? t(one.key)))));
  const place = anchor.getBoundingClientRect();
  document.getElementById("page").append(box);
  const size = box.getBoundingClientRect();
  const fits = place.bottom + size.height < innerHeight;
  box.style.top = `${fits ? place.bottom + 2 : Math.max(place.top - size.height - 2, 4)}px`;
  box.style.left = `${Math.min(Math.max(document.documentElement.dir === "rtl" ? place.left : place.right - size.width, 4), innerWidth - size.width - 4)}px`;
  anchor.setAttribute("aria-expanded", "true");
  const buttons = [...box.children];
  buttons[0].focus();
  box.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (event.key === "Escape" || event.key === "Tab") { event.preventDefault(); event.stopPropagation(); close(); anchor.focus(); }
    else if (to !== undefined) { event.preventDefault(); buttons.at(to % buttons.length).focus(); }
  });
  document.addEventListener("pointerdown", away, true);
}

const shelf = () => {
  const made = document.getElementById("notices") ?? el("div", { id: "notices", role: "alert" });
  if (!made.isConnected) document.getElementById("page").append(made);
  return made;
};

/** Say that something takes its time, once it takes longer than a second: { progress(share), end() }. */
export function working(text) {
  const remaining = new Remaining();
  const line = el("p", { dir: "auto" }, text);
  const bar = el("progress", { max: 1, "aria-label": text });
  const card = el("div", { class: "notice working" }, icon("note"), el("div", { class: "working-text" }, line, bar));
  const timer = setTimeout(() => shelf().append(card), WORTH_MS);
  const progress = (share) => {
    const seconds = remaining.told(share);
    if (share < 1) bar.value = share; else bar.removeAttribute("value");
    line.textContent = seconds === null ? text : `${text} · ${t("ui.seconds_left", { seconds })}`;
  };
  return { progress, end: () => { clearTimeout(timer); card.remove(); } };
}

/** Show a notice until it is closed; errors are spoken at once. */
export function notice(text, kind = "error") {
  const card = el("div", { class: `notice ${kind}` }, icon(kind === "error" ? "warning" : "note"), el("p", { dir: "auto" }, text));
  const close = el("button", { class: "tool", "aria-label": t("ui.close"), onclick: () => card.remove() }, icon("close"));
  card.append(close);
  shelf().append(card);
  while (shelf().children.length > 3) shelf().firstChild.remove();
  if (kind !== "error") setTimeout(() => card.remove(), 4000);
}
