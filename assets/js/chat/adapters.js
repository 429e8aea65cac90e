// Which adapter answers: a list beside the question, only where there are adapters.

import { el } from "../dom.js";
import { notice } from "../dialogs.js";
import { json } from "../server.js";
import { local, onLanguage, t } from "../texts.js";

export async function mountAdapters(list) {
  const known = await json("adapters").catch(() => ({ names: [] }));
  if (!known.names.length) return;
  let { chosen } = known;

  const draw = () => {
    list.replaceChildren(el("option", { value: "" }, t("ui.adapter_none")), ...known.names.map((name) => el("option", { value: name, dir: "auto" }, name)));
    list.value = chosen;
  };

  list.addEventListener("change", async () => {
    try {
      ({ chosen } = await json("adapters", { name: list.value }));
    } catch (error) {
      notice(local(error.both) || t("ui.server_lost"));
    }
    list.value = chosen;
  });

  onLanguage(draw);
  list.hidden = false;
}
