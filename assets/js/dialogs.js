// Questions the page asks back, and short notices. Native <dialog>: focus stays inside, Escape cancels.

import { el, icon } from "./dom.js";
import { t } from "./texts.js";

/** Ask yes or no; resolves to true or false. */
export function confirmDialog(question, action) {
  const yes = el("button", { class: "button danger", value: "yes" }, t(action));
  return openDialog([el("p", {}, t(question))], yes).then((answer) => answer === "yes");
}

/** Ask for a line of text; resolves to it, or null. */
export function textDialog(label, value) {
  const input = el("input", { type: "text", maxlength: 200, required: true, dir: "auto", id: "dialog-text" });
  input.value = value;
  const yes = el("button", { class: "button primary", value: "yes" }, t("ui.save"));
  const asked = openDialog([el("label", { for: "dialog-text" }, t(label)), input], yes);
  input.select();
  return asked.then((answer) => (answer === "yes" && input.value.trim() ? input.value.trim() : null));
}

function openDialog(content, yes) {
  const no = el("button", { class: "button", value: "no", formnovalidate: true }, t("ui.cancel"));
  const dialog = el("dialog", { class: "dialog" }, el("form", { method: "dialog" }, ...content, el("div", { class: "dialog-buttons" }, no, yes)));
  // A form's first button answers Enter: in a question that destroys something that is "cancel".
  document.getElementById("page").append(dialog);
  dialog.showModal();
  const input = dialog.querySelector("input");
  if (input) input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); yes.click(); } });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue); });
  });
}

/** Show a notice until it is closed; errors are spoken at once. */
export function notice(text, kind = "error") {
  let shelf = document.getElementById("notices");
  if (!shelf) document.getElementById("page").append((shelf = el("div", { id: "notices", role: "alert" })));
  const card = el("div", { class: `notice ${kind}` }, icon(kind === "error" ? "warning" : "note"), el("p", { dir: "auto" }, text));
  const close = el("button", { class: "tool", "aria-label": t("ui.close"), onclick: () => card.remove() }, icon("close"));
  card.append(close);
  shelf.append(card);
  while (shelf.children.length > 3) shelf.firstChild.remove();
  if (kind !== "error") setTimeout(() => card.remove(), 4000);
}
