// Texts of the pages without Gradio: both languages stand in the page, the style sheet shows one.

const TABLES = JSON.parse(document.getElementById("bimedix2-page").textContent).texts;
const STORE = "bimedix2-language";
const LOCALES = { en: "en-GB", ar: "ar-u-nu-latn-ca-gregory" };

/** Element with text; text enters through textContent only. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Sentence of a key in both languages; a value may be a function of the language. */
export function said(key, values = {}) {
  return of((language) => (TABLES[language][key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    if (value === undefined) return whole;
    return `\u2068${typeof value === "function" ? value(language) : value}\u2069`;
  }));
}

/** Sentence the server sent in both languages. */
export const sent = (both) => of((language) => both?.[language] ?? "");

/** Date and time; digits stay Western. */
export const when = (iso) => (language) =>
  new Intl.DateTimeFormat(LOCALES[language], { dateStyle: "medium", timeStyle: "short", hour12: false }).format(new Date(iso));

export function of(text) {
  const part = document.createDocumentFragment();
  for (const language of ["en", "ar"]) {
    part.append(el("span", { lang: language, dir: language === "ar" ? "rtl" : "ltr" }, text(language)));
  }
  return part;
}

/** Ask the server; what it refuses stands in the page's error line. Resolves to its answer, or null. */
export async function ask(url, body) {
  const line = document.querySelector("main .error");
  const options = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(url, options);
  if (answer.status === 401) location.assign("account/sign-in");
  if (answer.ok) {
    line.replaceChildren();
    return answer.status === 204 ? {} : answer.json();
  }
  line.replaceChildren(sent((await answer.json().catch(() => ({}))).error));
  line.scrollIntoView({ block: "nearest" });
  return null;
}

const button = document.querySelector("button.language");
if (button) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = document.documentElement.lang === "ar" ? "en" : "ar";
    window.bimedix2.setDocumentLanguage(next);
    try { localStorage.setItem(STORE, next); } catch { /* private mode: the choice lasts as long as the page */ }
  });
}
