// The history over the page, where there is no room for it beside viewer and chat.

import { listen } from "./dom.js";

/** `button` opens and closes it; so do Escape and pointing beside it. The focus goes in and comes back. */
export function mountDrawer(button) {
  const bench = () => document.getElementById("workbench"); // mounted after the header
  const isOpen = () => bench()?.hasAttribute("data-drawer") && button.offsetWidth > 0;

  const set = (open, { back = true } = {}) => {
    bench().toggleAttribute("data-drawer", open);
    button.setAttribute("aria-expanded", String(open));
    if (open) bench().querySelector("#history .new-thread").focus();
    else if (back) button.focus();
  };

  button.addEventListener("click", () => set(!isOpen()));
  listen("drawer", ({ open }) => { if (open !== Boolean(isOpen())) set(open, { back: false }); });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !isOpen() || document.querySelector("dialog[open], .menu")) return;
    if (event.target.matches("#history .search") && event.target.value) return; // it empties the search first
    event.preventDefault();
    event.stopPropagation();
    set(false);
  }, true);
  document.addEventListener("pointerdown", (event) => {
    if (isOpen() && !event.target.closest("#history, #header .drawer, dialog, .menu, #notices")) set(false, { back: false });
  }, true);
}
