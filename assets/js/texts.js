// Texts of the page in both languages, live. The server puts both tables into the page.

/** What the server wrote into the page: the texts of both languages and the model's name. */
export const page = JSON.parse(document.getElementById("bimedix2-page").textContent);
const TABLES = page.texts;
const STORE = "bimedix2-language";
const listeners = new Set();

export const language = () => document.documentElement.lang;

/** Sentence of a key; `{name}` is replaced by values.name, isolated so that it cannot reorder its neighbours. */
export function t(key, values = {}) {
  const text = TABLES[language()][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? isolate(String(values[name])) : whole));
}

/** Sentence of a key for a count, in the plural form the language asks for. */
export function tCount(key, count) {
  const form = new Intl.PluralRules(language()).select(count);
  return t(`${key}.${form}` in TABLES[language()] ? `${key}.${form}` : `${key}.other`, { count });
}

/** A sentence of the page in both languages, as the server sends its own. */
export const bothOf = (key) => ({ en: TABLES.en[key], ar: TABLES.ar[key] });

/** One of two sentences the server sent in both languages. */
export const local = (both) => (both ? both[language()] ?? both.en : "");

const isolate = (text) => (language() === "ar" ? `\u2068${text}\u2069` : text);

/** Date and time in the page's language; digits stay Western, as all clinical values do. */
export function when(iso) {
  const date = new Date(iso);
  const locale = language() === "ar" ? "ar-u-nu-latn-ca-gregory" : "en-GB";
  const sameDay = date.toDateString() === new Date().toDateString();
  const options = sameDay ? { hour: "2-digit", minute: "2-digit", hour12: false } : { day: "numeric", month: "short", year: "numeric" };
  return new Intl.DateTimeFormat(locale, options).format(date);
}

/** Run now and after every change of language. */
export function onLanguage(run) {
  listeners.add(run);
  run();
  return () => listeners.delete(run);
}

/** Fill an element's marked parts: data-t is its text, data-t-label its name and hint, data-t-placeholder its placeholder. */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    if (node.matches("button, select, input")) node.title = t(node.dataset.tLabel);
  }
  for (const node of root.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
}

/** Switch the language of everything without a reload: conversation, image and draft stay as they are. */
export async function setLanguage(value) {
  window.bimedix2.setDocumentLanguage(value);
  try { localStorage.setItem(STORE, value); } catch { /* private mode: the choice lasts as long as the page */ }
  document.title = t("app.title");
  for (const run of listeners) run();
  // Gradio's own few texts (a lost connection): its locale has no public switch, so its module is asked directly.
  const core = [...document.querySelectorAll('link[href*="/assets/core-"]')].map((link) => link.href).find((url) => url.endsWith(".js"));
  if (core) (await import(core)).changeLocale?.(value);
}
