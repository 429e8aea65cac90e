// Reading everybody's conversations: a list without words, and one conversation at a time.

import { ask, el, of, said, when } from "./both.js";

const list = document.querySelector("nav .rows:not(.hits)");
const find = document.querySelector(".find");
const hits = document.querySelector(".hits");
const moreHits = document.querySelector(".more-hits");
const HITS = 20;
const more = document.querySelector(".more");
const shown = document.querySelector("article");
const PAGE = 50;
let last = null;

async function listMore() {
  const found = await ask(`review/threads${last ? `?before=${encodeURIComponent(last)}` : ""}`);
  if (!found) return;
  list.append(...found.threads.map((one) => el("li", {}, el("button", { type: "button", class: "row", click: (event) => open(one.id, event.currentTarget) },
    said("account.review_of", { owner: one.owner }), el("br"), el("span", { class: "quiet" }, of(when(one.updated)), ` · ${one.turns}`)))));
  last = found.threads.at(-1)?.id ?? last;
  more.hidden = found.threads.length < PAGE;
  if (!list.children.length) list.append(el("li", {}, said("account.review_none")));
}

async function open(id, button) {
  const found = await ask(`review/threads/${encodeURIComponent(id)}`);
  if (!found) return;
  for (const one of document.querySelectorAll("nav [aria-current]")) one.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  const turns = found.thread.turns.map((turn) => el("section", {},
    el("h3", {}, said("account.review_question")), el("p", { class: "said", dir: "auto" }, turn.question),
    ...turn.views.map((view, index) => picture(id, turn.id, index)),
    ...turn.answers.flatMap((answer) => [el("h3", {}, said("account.review_answer")), el("p", { class: "said", dir: "auto" }, answer.text)])));
  shown.replaceChildren(el("h2", { dir: "auto" }, found.thread.title), ...turns);
  shown.focus();
}

/** Start of a day here, as the server reads it; `days` later. */
function day(text, days = 0) {
  if (!text) return "";
  const [year, month, date] = text.split("-").map(Number);
  return new Date(year, month - 1, date + days).toISOString();
}

async function search(before) {
  const asked = new FormData(find);
  const query = new URLSearchParams({ q: asked.get("q"), user: asked.get("user"), since: day(asked.get("since")), until: day(asked.get("until"), 1) });
  if (before) query.set("before", before);
  const found = await ask(`review/search?${query}`);
  if (!found) return;
  if (!before) hits.replaceChildren();
  hits.append(...found.hits.map((one) => el("li", {}, el("button", { type: "button", class: "row", click: (event) => open(one.thread, event.currentTarget) },
    said("account.review_of", { owner: one.owner }), el("br"),
    el("span", { dir: "auto" }, ...one.pieces.map((piece) => (piece.marked ? el("mark", {}, piece.text) : piece.text))), el("br"),
    el("span", { class: "quiet" }, of(when(one.created)))))));
  if (!hits.children.length) hits.append(el("li", {}, said("account.find_none")));
  moreHits.hidden = found.hits.length < HITS;
  moreHits.value = found.hits.at(-1)?.number ?? "";
}

function picture(thread, turn, index) {
  const part = of(() => "");
  const image = el("img", { src: `review/threads/${encodeURIComponent(thread)}/turns/${encodeURIComponent(turn)}/views/${index}`, loading: "lazy", alt: "" });
  part.append(el("figure", {}, image, el("figcaption", { class: "quiet" }, said("account.review_view"))));
  return part;
}

more.addEventListener("click", listMore);
find.addEventListener("submit", (event) => { event.preventDefault(); search(""); });
moreHits.addEventListener("click", () => search(moreHits.value));
listMore();
