// What is wrong with an answer: reasons to tick and words of the reader's own.

import { lengthWarning, openDialog } from "../dialogs.js";
import { logical } from "../direction.js";
import { el } from "../dom.js";
import { t } from "../texts.js";

const LONGEST = 4000; // characters; the server's own limit (app/routes/history.py)
const REASONS = ["wrong_side", "wrong_finding", "wrong_language", "not_grounded", "other"];

/** Ask for a judgement, beginning with the one there is; resolves to { reasons, text }, or null. */
export async function judgeDialog(judgement) {
  const boxes = REASONS.map((reason) => el("input", { type: "checkbox", value: reason, checked: judgement?.reasons.includes(reason) ?? false }));
  const area = el("textarea", { rows: 3, dir: "auto", id: "dialog-text" });
  area.value = logical(judgement?.text ?? "");
  const yes = el("button", { class: "button primary", value: "yes" }, t("ui.save"));
  const choices = el("fieldset", { class: "choices" }, el("legend", {}, t("ui.judge_title")),
    ...boxes.map((box) => el("label", { class: "check" }, box, el("span", {}, t(`ui.reason.${box.value}`)))));
  const answer = await openDialog([choices, el("label", { for: "dialog-text" }, t("ui.judge_words")), area, lengthWarning(area, LONGEST)], yes);
  return answer === "yes" ? { reasons: boxes.filter((box) => box.checked).map((box) => box.value), text: area.value.trim() } : null;
}
