// History column: conversations with their marks, and the search. Titles come from questions: text only.

import { confirmDialog, menu, notice, textDialog, working } from "./dialogs.js";
import { directionOf, logical } from "./direction.js";
import { announce, drawIcons, el, icon, keepingFocus, listen } from "./dom.js";
import { mountSearch } from "./history/search.js";
import { askServer, json, sendFile } from "./server.js";
import { local, onLanguage, t, translate, when } from "./texts.js";

export function mountHistory(element, props, trigger, watch) {
  const part = (name) => element.querySelector(`.${name}`);
  const list = part("threads");
  let current = null;
  let tag = null; // conversations of one tag only
  let filtered = null; // what the server gave for that tag
  let older = []; // further conversations than the server sends by itself
  let more = false;
  let tags = [];

  const sent = () => props.value?.threads ?? [];
  const known = () => {
    const first = filtered ?? sent();
    const ids = new Set(first.map((one) => one.id));
    return [...first, ...older.filter((one) => !ids.has(one.id))];
  };

  // --- drawing ---------------------------------------------------------------------------------

  const draw = () => {
    const threads = known();
    keepingFocus(list, () => list.replaceChildren(...threads.map(item)), part("new-thread"));
    search.drawn(threads.length);
    part("more").hidden = search.isOpen() || !(more || (!filtered && props.value?.more && !older.length));
  };

  const item = (thread) => {
    const title = thread.title || t("ui.untitled");
    const marks = [thread.pinned ? icon("pin") : null, ...thread.tags.map((name) => el("span", { class: "chip", dir: "auto" }, name))];
    const open = el("button", { class: "thread-open", title: logical(title), "aria-current": thread.id === current ? "true" : null, onclick: () => openThread(thread.id) },
      el("span", { class: "thread-title", dir: directionOf(title) ?? document.documentElement.dir }, title),
      el("span", { class: "thread-date" }, ...marks, when(thread.updated)));
    const tools = el("button", { class: "tool", "aria-label": `${t("ui.thread_menu")}: ${title}`, title: t("ui.thread_menu"), "aria-haspopup": "menu", onclick: (event) => openMenu(event.currentTarget, thread) }, icon("more"));
    return el("li", { class: thread.id === current ? "thread current" : "thread", "data-thread": thread.id }, open, el("span", { class: "thread-tools" }, tools));
  };

  const drawTags = () => {
    const row = part("tag-row");
    row.hidden = !tags.length;
    row.replaceChildren(...tags.map((name) => el("button", { type: "button", class: "chip", dir: "auto", "aria-pressed": String(name === tag), onclick: () => chooseTag(name === tag ? null : name) }, name)));
  };

  // --- what a conversation offers --------------------------------------------------------------

  const openMenu = (anchor, thread) => menu(anchor, [
    { icon: "pin", key: thread.pinned ? "ui.unpin" : "ui.pin", run: () => change(json(`${path(thread)}/pin`, { pinned: !thread.pinned })) },
    { icon: "pen", key: "ui.rename", run: () => rename(thread) },
    { icon: "tag", key: "ui.edit_tags", run: () => editTags(thread) },
    { icon: "export", key: "ui.export", run: () => exportThread(thread) },
    { icon: "bin", key: "ui.delete", danger: true, run: () => remove(thread) },
  ]);

  const path = (thread) => `history/threads/${thread.id}`;

  const rename = async (thread) => {
    const answer = await textDialog("ui.rename_title", logical(thread.title));
    if (answer) trigger("rename", { payload: { thread: thread.id, title: answer } });
  };

  const editTags = async (thread) => {
    const answer = await textDialog("ui.tags_title", thread.tags.join(", "), { optional: true });
    if (answer !== null) await change(json(`${path(thread)}/tags`, { tags: answer.split(/[,،]/) }));
    await loadTags();
  };

  const exportThread = async (thread) => {
    const work = working(t("ui.exporting"));
    try {
      const answer = await askServer(`${path(thread)}/export`);
      const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? "bimedix2.zip";
      const url = URL.createObjectURL(await answer.blob());
      el("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) { failed(error); } finally { work.end(); }
  };

  const remove = async (thread) => {
    if (!(await confirmDialog("ui.delete_confirm", "ui.delete"))) return;
    older = older.filter((one) => one.id !== thread.id);
    if (filtered) filtered = filtered.filter((one) => one.id !== thread.id);
    trigger("remove", { payload: { thread: thread.id, current } });
  };

  const failed = (error) => notice(error.both ? local(error.both) : t("ui.server_lost"));

  /** After a change the list is asked for anew: a pin or a tag moves conversations. */
  const change = (request) => request.then(reload, failed);

  const reload = async () => {
    if (tag !== null) await chooseTag(tag);
    trigger("list", { payload: {} });
  };

  const loadTags = () => json("history/tags").then((answer) => { tags = answer.tags; if (tag !== null && !tags.includes(tag)) chooseTag(null); drawTags(); }, () => {});

  const chooseTag = async (name) => {
    tag = name;
    older = [];
    more = false;
    filtered = null;
    if (name !== null) await page(null).then((answer) => { filtered = answer.threads; more = answer.more; }, failed);
    drawTags();
    draw();
  };

  const page = (before) => json(`history/threads?${new URLSearchParams({ ...(before && { before }), ...(tag !== null && { tag }) })}`);

  part("more").addEventListener("click", async () => {
    await page(known().at(-1)?.id).then((answer) => { older = [...older, ...answer.threads]; more = answer.more; }, failed);
    draw();
  });

  // --- import ----------------------------------------------------------------------------------

  part("import").addEventListener("click", () => part("import-file").click());
  part("import-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    const work = working(t("ui.importing"));
    const answer = await sendFile("history/import", file, work.progress).finally(work.end);
    if (!answer.thread) { notice(answer.error ? local(answer.error) : t("ui.upload_lost")); return; }
    openThread(answer.thread);
    trigger("list", { payload: {} });
    loadTags();
  });

  // --- opening ---------------------------------------------------------------------------------

  const openThread = (id, turn = null) => {
    announce("drawer", { open: false });
    announce("goto", { turn });
    trigger("open", { payload: { thread: id } });
  };

  const search = mountSearch(element, openThread, () => draw());
  drawIcons(element);
  part("new-thread").addEventListener("click", () => {
    announce("drawer", { open: false });
    announce("new");
  });
  listen("open", ({ id }) => { openThread(id); trigger("list", { payload: {} }); });
  listen("thread", ({ id }) => { current = id; draw(); });
  listen("new", () => { current = null; draw(); });
  onLanguage(() => { translate(element); search.translated(); drawTags(); draw(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) trigger("list", { payload: {} }); });
  watch("value", () => { search.again(); draw(); });
  loadTags();
}
