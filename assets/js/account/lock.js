// Who is signed in, and the cover of a page nobody has used for a while. What was typed stays behind it.

import { el } from "../dom.js";
import { local, onLanguage, t } from "../texts.js";

const NOTED_EVERY_MS = 60_000;
const USES = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"];
const channel = "BroadcastChannel" in window ? new BroadcastChannel("bimedix2-lock") : { postMessage() {} };
let user = null;
let used = Date.now();
let noted = Date.now();
let cover = null;

const post = (url, options = {}) => plainFetch(url, { method: "POST", ...options });
const plainFetch = window.fetch.bind(window);

// Whatever part of the page asks: an ended or locked sign-in covers it.
window.fetch = async (...request) => {
  const answer = await plainFetch(...request);
  if (answer.status === 401 && user) raise();
  return answer;
};

async function begin() {
  const found = await (await plainFetch("account/state")).json();
  if (found.state === "out") { location.assign("account/sign-in"); return; }
  user = found;
  if (found.state === "locked") raise();
  for (const use of USES) addEventListener(use, noteUse, { passive: true, capture: true });
  setInterval(look, 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  channel.onmessage = ({ data }) => {
    if (data.kind === "used") used = Math.max(used, data.at);
    else if (data.kind === "locked") raise();
    else if (data.kind === "open" && data.owner === user.owner) lower();
    else location.reload();
  };
  showUser();
}

function noteUse() {
  if (cover) return;
  used = Date.now();
  if (used - noted < NOTED_EVERY_MS) return;
  noted = used;
  channel.postMessage({ kind: "used", at: used });
  // reading and windowing ask the server for nothing, which would take it for absence
  post("account/here").then((answer) => { if (answer.status === 401) raise(); }).catch(() => {});
}

function look() {
  if (!cover && Date.now() - used > user.lockAfter * 1000) lock();
}

function lock() {
  raise();
  channel.postMessage({ kind: "locked" });
  post("account/lock").catch(() => {});
}

/** Cover the page. The dialog is modal: nothing behind it takes a key or a click. */
function raise() {
  if (cover) return;
  document.documentElement.classList.add("locked");
  const password = el("input", { id: "lock-password", type: "password", autocomplete: "current-password", maxlength: 256, required: true, dir: "auto" });
  const line = el("p", { class: "error", role: "alert" });
  const open = user.password
    ? el("form", { onsubmit: (event) => { event.preventDefault(); unlock(password, line); } },
        el("input", { type: "text", autocomplete: "username", hidden: true, value: user.name }),
        el("label", { for: "lock-password", "data-t": "account.password" }), password, line,
        el("button", { class: "button primary", "data-t": "account.unlock" }))
    : el("p", {}, el("a", { class: "button", href: "account/organisation", "data-t": "account.unlock" }));
  cover = el("dialog", { class: "lock", "aria-labelledby": "lock-title", "aria-describedby": "lock-reason" },
    el("h2", { id: "lock-title", "data-t": "account.locked" }), el("p", {}, el("bdi", {}, user.name)),
    el("p", { id: "lock-reason", "data-t": "account.locked_reason" }), open,
    el("p", {}, el("a", { class: "other", href: "account/sign-in", "data-t": "account.not_you" })));
  cover.addEventListener("cancel", (event) => event.preventDefault());
  // a browser may close a dialog at the second Escape all the same
  cover.addEventListener("close", () => { if (cover) cover.showModal(); });
  document.body.append(cover);
  cover.unlistenLanguage = onLanguage(() => { for (const node of cover.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t); });
  cover.showModal();
  password.focus();
}

async function unlock(password, line) {
  const body = new URLSearchParams({ name: user.name, password: password.value });
  const answer = await post("account/sign-in", { body, headers: { accept: "application/json" } }).catch(() => null);
  if (!answer) return;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) { line.textContent = local(said.error); password.select(); return; }
  channel.postMessage({ kind: "open", owner: said.owner });
  if (said.owner === user.owner) lower();
  else location.reload();
}

function lower() {
  if (!cover) return;
  const gone = cover;
  cover = null;
  used = noted = Date.now();
  gone.unlistenLanguage();
  gone.close();
  gone.remove();
  document.documentElement.classList.remove("locked");
}

/** The name leads to the account; the button covers the page at once. */
function showUser() {
  const masthead = document.querySelector("#page .masthead");
  if (!masthead) { setTimeout(showUser, 200); return; }
  const button = el("button", { type: "button", class: "button", onclick: lock });
  const link = el("a", { href: "account", dir: "auto" }, user.name);
  masthead.append(el("span", { class: "user" }, link, button));
  onLanguage(() => { button.textContent = t("account.lock_now"); link.title = t("account.own"); });
}

begin();
