// First script of the page: language, direction and theme are set before anything is painted.
// Gradio chooses its own language from navigator.language, so that answers the same.
(function () {
  "use strict";
  const stored = (() => { try { return localStorage.getItem("bimedix2-language"); } catch { return null; } })();
  const preferred = (navigator.language || "").toLowerCase().startsWith("ar") ? "ar" : "en";
  const root = document.documentElement;
  let language = stored === "ar" || stored === "en" ? stored : preferred;
  const setLanguage = (value) => {
    language = value;
    root.lang = value;
    root.dir = value === "ar" ? "rtl" : "ltr";
  };
  setLanguage(language);
  Object.defineProperty(navigator, "language", { configurable: true, get: () => language });
  Object.defineProperty(navigator, "languages", { configurable: true, get: () => [language] });

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const asked = new URLSearchParams(location.search).get("__theme");
  const isTheme = (value) => value === "dark" || value === "light";
  let chosen = (() => { try { return localStorage.getItem("bimedix2-theme"); } catch { return null; } })();
  const setTheme = () => {
    root.dataset.theme = isTheme(asked) ? asked : isTheme(chosen) ? chosen : dark.matches ? "dark" : "light";
  };
  const switchTheme = () => {
    root.dataset.theme = chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("bimedix2-theme", chosen); } catch { /* private mode: as long as the page */ }
  };
  setTheme();
  dark.addEventListener("change", setTheme);

  // Gradio mounts components when it is ready; the modules of this page may come later or earlier.
  const waiting = [];
  window.bimedix2 = {
    setDocumentLanguage: setLanguage,
    switchTheme,
    mount: (...part) => waiting.push(part),
    start(mount) { this.mount = mount; waiting.splice(0).forEach((part) => mount(...part)); },
  };
})();
