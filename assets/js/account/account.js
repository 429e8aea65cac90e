// One's account: where one is signed in and, for an administrator, everybody who may.

import { ask, el, said, when } from "./both.js";

async function showSignIns() {
  const section = document.getElementById("sign-ins");
  const found = await ask("account/sign-ins");
  if (!found) return;
  section.hidden = false;
  section.querySelector(".rows").replaceChildren(...found.signIns.map((one) => el("li", {},
    el("span", { class: "grow" }, el("bdi", {}, one.program || "?"), " ", el("span", { class: "quiet" }, said("account.last_used", { time: when(one.seen) }))),
    one.here ? el("span", { class: "quiet" }, said("account.this_browser")) : el("button", { type: "button", class: "button", click: () => end(one.id) }, said("account.end_sign_in")))));
}

async function end(id) {
  await ask(`account/sign-ins/${id}/end`, {});
  showSignIns();
}

const users = document.getElementById("users");

async function showUsers() {
  const found = await ask("account/users");
  if (found) users.querySelector(".rows").replaceChildren(...found.users.map(userRow));
}

function userRow(user) {
  const change = (task) => async () => { if (await ask("account/users/change", { name: user.name, task })) showUsers(); };
  const seen = user.seen ? said("account.last_used", { time: when(user.seen) }) : said("account.never_used");
  const row = el("li", {},
    el("span", { class: "grow" }, el("bdi", {}, user.name), " ", el("span", { class: "quiet" }, said(`account.role_${user.role}`), " · ", said(`account.state_${user.disabled ? "disabled" : "active"}`), " · ", seen)),
    el("button", { type: "button", class: "button", click: change(user.disabled ? "enable" : "disable") }, said(user.disabled ? "account.enable" : "account.disable")));
  if (user.password) row.append(el("button", { type: "button", class: "button", click: () => askReset(user, row) }, said("account.reset")));
  return row;
}

/** The new password is typed in the row itself; it never stands in an address. */
function askReset(user, row) {
  const id = `reset-${user.name}`;
  const input = el("input", { id, type: "password", autocomplete: "new-password", maxlength: 256, required: true });
  const form = el("form", { class: "grow", submit: async (event) => {
    event.preventDefault();
    if (await ask("account/users/change", { name: user.name, task: "reset", password: input.value })) showUsers();
  } }, el("label", { for: id }, said("account.first_password")), input, el("button", { class: "button" }, said("account.reset")));
  row.replaceChildren(el("bdi", {}, user.name), form);
  input.focus();
}

showSignIns();
if (users) {
  showUsers();
  const form = users.querySelector("form.add");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(form));
    if (await ask("account/users", given)) { form.reset(); showUsers(); }
  });
}
