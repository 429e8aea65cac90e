// Entry of the page's own code: gives each mounted component its behaviour.

import { mountChat } from "./chat.js";
import { logical } from "./direction.js";
import { drawIcons, el } from "./dom.js";
import { mountDrawer } from "./drawer.js";
import { mountKeyboard, showHelp } from "./help.js";
import { mountHistory } from "./history.js";
import { mountViewer } from "./panel.js";
import { language, onLanguage, page, setLanguage, t, translate } from "./texts.js";

function mountHeader(element) {
  drawIcons(element);
  element.querySelector(".demonstration").hidden = !page.model.demonstration;
  element.querySelector(".language").addEventListener("click", switchLanguage);
  element.querySelector(".help").addEventListener("click", showHelp);
  const theme = element.querySelector(".theme");
  const drawTheme = () => theme.setAttribute("aria-pressed", String(document.documentElement.dataset.theme === "dark"));
  theme.addEventListener("click", () => { window.bimedix2.switchTheme(); drawTheme(); });
  drawTheme();
  mountKeyboard(switchLanguage);
  mountDrawer(element.querySelector(".drawer"));
  onLanguage(() => {
    translate(element);
    element.querySelector(".model").textContent = t("ui.model_in_use", { name: modelName() });
    const button = element.querySelector(".language");
    button.lang = language() === "ar" ? "en" : "ar";
  });
}

const switchLanguage = () => setLanguage(language() === "ar" ? "en" : "ar");

/** The embedded model has a name of its own in each language; any other goes by its folder's. */
const modelName = () => (page.model.name === "demonstration model" ? t("ui.demonstration_model") : page.model.name);

/** What is copied by hand is what was said: the marks that keep measurements in order on screen stay here. */
document.addEventListener("copy", (event) => {
  const selection = getSelection();
  const text = selection.toString();
  const plain = (shown) => logical(shown).replace(/\u00A0|&nbsp;/g, " ");
  if (event.target.matches?.("input, textarea") || text === plain(text)) return;
  const markup = el("div", {}, ...Array.from({ length: selection.rangeCount }, (_, at) => selection.getRangeAt(at).cloneContents()));
  event.clipboardData.setData("text/plain", plain(text));
  event.clipboardData.setData("text/html", plain(markup.innerHTML));
  event.preventDefault();
});

const parts = { header: mountHeader, history: mountHistory, viewer: mountViewer, chat: mountChat };

window.bimedix2.start((name, element, props, trigger, watch) => {
  parts[name](element, props, trigger, watch);
});
setLanguage(language());
// Gradio writes its own title once it is ready, in the one language it was given.
new MutationObserver(() => {
  if (document.title !== t("app.title")) document.title = t("app.title");
}).observe(document.head, { childList: true, subtree: true, characterData: true });
