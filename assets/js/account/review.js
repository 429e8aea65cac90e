// Reading everybody's conversations: a list without words, and one conversation at a time.

import { ask, el, of, said, when } from "./both.js";

const list = document.querySelector("nav .rows");
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
  for (const one of list.querySelectorAll("[aria-current]")) one.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  const turns = found.thread.turns.map((turn) => el("section", {},
    el("h3", {}, said("account.review_question")), el("p", { class: "said", dir: "auto" }, turn.question),
    ...turn.views.map((view, index) => picture(id, turn.id, index)),
    ...turn.answers.flatMap((answer) => [el("h3", {}, said("account.review_answer")), el("p", { class: "said", dir: "auto" }, answer.text)])));
  shown.replaceChildren(el("h2", { dir: "auto" }, found.thread.title), ...turns);
  shown.focus();
}

function picture(thread, turn, index) {
  const part = of(() => "");
  const image = el("img", { src: `review/threads/${encodeURIComponent(thread)}/turns/${encodeURIComponent(turn)}/views/${index}`, loading: "lazy", alt: "" });
  part.append(el("figure", {}, image, el("figcaption", { class: "quiet" }, said("account.review_view"))));
  return part;
}

more.addEventListener("click", listMore);
listMore();
