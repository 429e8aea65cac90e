// The viewer panel: the ways files get in, the list of what is open, and the kinds of viewers on its stage.

import { notice } from "./dialogs.js";
import { drawIcons, el, listen } from "./dom.js";
import { mountStudy } from "./study/study.js";
import { local, onLanguage, t, translate } from "./texts.js";
import { acceptFiles, uploadError, uploadFiles } from "./upload.js";
import { digestsOf, thumbnail } from "./view.js";
import { viewer } from "./viewer.js";

/** Each takes the panel's element and registers its kind. */
const KINDS = [mountStudy];

export function mountViewer(element) {
  const part = (name) => element.querySelector(`.${name}`);
  const strip = part("strip");

  const upload = async (files) => {
    if (!files.length) return;
    const box = part("progress");
    box.hidden = false;
    const results = await uploadFiles(files, (name, share) => {
      box.querySelector("progress").value = share;
      box.querySelector(".progress-text").textContent = share < 1 ? t("ui.uploading", { name }) : t("ui.loading");
    });
    box.hidden = true;
    for (const result of results) {
      if (result.image) viewer.add(result.image); else notice(uploadError(result, local));
    }
    const last = results.findLast((result) => result.image);
    if (last) await viewer.show(last.image.default_view);
  };

  const draw = () => {
    const shown = viewer.view();
    const digests = shown ? digestsOf(shown) : [];
    const images = [...viewer.images.values()];
    part("drop-hint").hidden = Boolean(shown);
    strip.hidden = images.length < 2;
    const stamp = JSON.stringify([document.documentElement.lang, images.map((one) => one.digest), digests]);
    if (strip.dataset.stamp === stamp) return;
    strip.dataset.stamp = stamp;
    strip.replaceChildren(...images.map((one, at) => el("button", {
      class: "strip-image", "aria-label": t("ui.image_of", { index: at + 1, count: images.length }), "aria-pressed": String(digests.includes(one.digest)),
      onclick: () => viewer.show(one.default_view),
    }, el("img", { src: thumbnail(one.default_view), alt: "", width: 52, height: 52 }))));
  };

  drawIcons(element);
  for (const mount of KINDS) mount(element);
  acceptFiles(element, upload);
  listen("view", draw);
  listen("images", draw);
  listen("thread", async ({ images: digests = [], removed }) => {
    if (removed) { viewer.images.clear(); if (!digests.length) viewer.close(); }
    for (const digest of digests) await viewer.info(digest).catch(() => {});
    draw();
  });
  onLanguage(() => { translate(element); draw(); });
}
