// Direction of text that mixes Arabic and Latin: decided for each block from what it says.

const ARABIC = /[\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC]/g;
const LATIN = /[A-Za-z\u00C0-\u024F]/g;
const FIRST = /[A-Za-z\u00C0-\u024F\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC]/;
const CONTROLS = /[\u200E\u200F\u061C\u202A-\u202E\u2066-\u2069]/g;

/**
 * "rtl", "ltr" or null when there is no letter. The first letter alone misleads for sentences such as
 * "RUL: عقدة رئوية", so the share of Arabic letters decides together with it.
 */
export function directionOf(text) {
  const arabic = (text.match(ARABIC) || []).length;
  const latin = (text.match(LATIN) || []).length;
  if (!arabic && !latin) return null;
  const startsArabic = text.match(FIRST)[0].charCodeAt(0) >= 0x590;
  const share = arabic / (arabic + latin);
  return (startsArabic ? share > 0.15 : share > 0.5) ? "rtl" : "ltr";
}

/** For display: what is isolated and short stays on one line, so that no number ends one and its unit begins the next. */
export const together = (text) => text.replace(/\u2066[^\u2066-\u2069]{1,24}\u2069/g, (one) => one.replaceAll(" ", "\u00A0"));

/** Text without the invisible marks that only serve display: what is copied is what was said. */
export const logical = (text) => text.replace(CONTROLS, "");
