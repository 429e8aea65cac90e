// History column: conversations, newest first. Titles come from questions, so they enter as text only.

import { confirmDialog, textDialog } from "./dialogs.js";
import { drawIcons, el, icon, listen } from "./dom.js";
import { onLanguage, t, translate, when } from "./texts.js";

export function mountHistory(element, props, trigger, watch) {
  const list = element.querySelector("ul");
  let current = null;

  const draw = () => {
    const threads = props.value?.threads ?? [];
    list.replaceChildren(...threads.map(item));
    element.querySelector(".history-empty").hidden = threads.length > 0;
  };

  const item = (thread) => {
    const title = thread.title || t("ui.untitled");
    const open = el("button", { class: "thread-open", "aria-current": thread.id === current ? "true" : null, onclick: () => openThread(thread.id) },
      el("span", { class: "thread-title", dir: "auto" }, title),
      el("span", { class: "thread-date" }, when(thread.updated)));
    const rename = tool("pen", "ui.rename", title, async () => {
      const answer = await textDialog("ui.rename_title", thread.title);
      if (answer) trigger("rename", { payload: { thread: thread.id, title: answer } });
    });
    const remove = tool("bin", "ui.delete", title, async () => {
      if (!(await confirmDialog("ui.delete_confirm", "ui.delete"))) return;
      trigger("remove", { payload: { thread: thread.id, current } });
    });
    return el("li", { class: thread.id === current ? "thread current" : "thread", "data-thread": thread.id }, open, el("span", { class: "thread-tools" }, rename, remove));
  };

  const tool = (name, key, title, onclick) =>
    el("button", { class: "tool", "aria-label": `${t(key)}: ${title}`, title: t(key), onclick }, icon(name));

  const openThread = (id) => {
    element.closest("#workbench")?.removeAttribute("data-drawer");
    trigger("open", { payload: { thread: id } });
  };

  drawIcons(element);
  element.querySelector(".new-thread").addEventListener("click", () => {
    element.closest("#workbench")?.removeAttribute("data-drawer");
    document.dispatchEvent(new CustomEvent("bimedix2:new"));
  });
  listen("open", ({ id }) => openThread(id));
  listen("thread", ({ id }) => { current = id; draw(); });
  onLanguage(() => { translate(element); draw(); });
  watch("value", draw);
}
