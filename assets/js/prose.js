// An answer as page elements: paragraphs, headings, lists, bold, emphasis, code, tables.
// Everything else stays text. No links, pictures or markup can come out of what a model wrote.

import { directionOf, together } from "./direction.js";
import { el } from "./dom.js";

const HEADING = /^#{1,6}\s+(.*)$/;
const BULLET = /^\s*[-*•]\s+(.*)$/;
const NUMBER = /^\s*(\d{1,3})[.)]\s+(.*)$/;
const ROW = /^\s*\|.*\|\s*$/;
const RULE = /^\s*\|?[\s:|-]+\|?\s*$/;
const INLINE = /(\*\*[^*\n]+\*\*|`[^`\n]+`|\*[^*\s][^*\n]*\*)/;

/** Fill a container with the blocks of a text; `fallback` is the direction where no letter decides. */
export function writeProse(container, text, fallback) {
  const whole = spokenDirection(text) || fallback;
  container.replaceChildren(...blocks(text.split("\n"), whole));
}

function blocks(lines, whole) {
  const made = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const kind = !line.trim() ? null : HEADING.test(line) ? "h" : BULLET.test(line) ? "ul" : NUMBER.test(line) ? "ol"
      : ROW.test(line) && RULE.test(lines[at + 1] || "") && (lines[at + 1] || "").includes("-") ? "table" : "p";
    if (kind === null) { at += 1; continue; }
    let end = at + 1;
    const continues = { h: () => false, ul: (l) => BULLET.test(l), ol: (l) => NUMBER.test(l), table: (l) => ROW.test(l),
      p: (l) => l.trim() && !HEADING.test(l) && !BULLET.test(l) && !NUMBER.test(l) }[kind];
    while (end < lines.length && continues(lines[end])) end += 1;
    made.push(MAKERS[kind](lines.slice(at, end), whole));
    at = end;
  }
  return made;
}

const MAKERS = {
  h: ([line], whole) => block("h4", line.match(HEADING)[1], whole),
  p: (lines, whole) => block("p", lines.join("\n"), whole),
  ul: (lines, whole) => list("ul", lines.map((line) => line.match(BULLET)[1]), whole),
  ol(lines, whole) {
    const node = list("ol", lines.map((line) => line.match(NUMBER)[2]), whole);
    node.start = Number(lines[0].match(NUMBER)[1]);
    return node;
  },
  table(lines, whole) {
    const rows = lines.filter((line) => !RULE.test(line)).map((line) => line.trim().slice(1, -1).split("|"));
    const cell = (tag) => (text) => block(tag, text.trim(), "ltr");
    const body = rows.slice(1).map((row) => el("tr", {}, ...row.map(cell("td"))));
    const table = el("table", { dir: spokenDirection(lines.join(" ")) || whole },
      el("thead", {}, el("tr", {}, ...rows[0].map(cell("th")))), el("tbody", {}, ...body));
    // what scrolls must be reached without a mouse, and say what it is
    return el("div", { class: "table-scroll", dir: table.dir, tabindex: 0, role: "group", "aria-label": rows[0].map((cell) => cell.trim()).filter(Boolean).join(", ") || null }, table);
  },
};

/** Direction of what is said; code between it is Latin whatever the sentence is. */
const spokenDirection = (text) => directionOf(text.replace(/`[^`\n]+`/g, ""));

function list(tag, items, whole) {
  return el(tag, { dir: spokenDirection(items.join(" ")) || whole }, ...items.map((item) => block("li", item, whole)));
}

function block(tag, text, whole) {
  const node = el(tag, { dir: spokenDirection(text) || whole });
  node.append(...text.split(INLINE).filter(Boolean).map(inline));
  return node;
}

function inline(piece) {
  if (/^\*\*[^*]+\*\*$/.test(piece)) return el("strong", {}, together(piece.slice(2, -2)));
  if (/^`[^`]+`$/.test(piece)) return el("code", { dir: "ltr" }, piece.slice(1, -1));
  if (/^\*[^*]+\*$/.test(piece)) return el("em", {}, together(piece.slice(1, -1)));
  return document.createTextNode(together(piece));
}
