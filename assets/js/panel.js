// The viewer panel: the ways files get in, the list of what is open, and the kinds of viewers on its stage.

import { notice } from "./dialogs.js";
import { announce, drawIcons, el, keepingFocus, listen } from "./dom.js";
import { json } from "./server.js";
import { isStudy, uploadStudy } from "./study/intake.js";
import { Remaining } from "./remaining.js";
import { mountSlide } from "./slide/slide.js";
import { mountStudy } from "./study/study.js";
import { local, onLanguage, t, tCount, translate } from "./texts.js";
import { acceptFiles, uploadError, uploadFiles } from "./upload.js";
import { digestsOf, thumbnail } from "./view.js";
import { viewer } from "./viewer.js";

/** Each takes the panel's element and registers its kind. */
const KINDS = [mountStudy, mountSlide];
const MOST_NOTICED = 3; // sentences about files that could not be opened, said one by one

export function mountViewer(element) {
  const part = (name) => element.querySelector(`.${name}`);
  const [strip, box] = ["strip", "progress"].map(part);
  let reading = null; // gives up the study that is on its way

  // --- files -----------------------------------------------------------------------------------

  let saying = null; // what is going on, and how long it will take

  /** Say what goes on, how far it is (0 to 1, or null) and how long it will still take. `stage` names the job. */
  const say = (text, share, stage) => {
    box.hidden = false;
    if (saying?.stage !== stage) saying = { stage, remaining: new Remaining() };
    const seconds = share === null ? null : saying.remaining.told(share);
    const bar = box.querySelector("progress");
    if (share === null) bar.removeAttribute("value"); else bar.value = share;
    box.querySelector(".progress-text").textContent = seconds === null ? text : `${text} · ${t("ui.seconds_left", { seconds })}`;
  };

  const open = async (files, hasFolder) => {
    if (!files.length) return;
    if (reading) { notice(t("ui.still_reading"), "note"); return; }
    reading = new AbortController();
    const cancel = box.querySelector(".progress-cancel");
    try {
      const whole = await isStudy(files, hasFolder);
      cancel.hidden = !whole;
      await (whole ? openStudy(files, reading.signal) : openSingly(withoutIndex(files.map(({ file }) => file))));
    } catch (error) {
      notice(error.both ? local(error.both) : t("ui.upload_lost"));
    } finally {
      reading = null;
      saying = null;
      box.hidden = true;
    }
  };

  /** A DICOMDIR without its folder is a list of files that are not here. */
  const withoutIndex = (files) => {
    const images = files.filter((file) => !/^dicomdir$/i.test(file.name));
    if (images.length < files.length) notice(t("ui.dicomdir_alone"));
    return images;
  };

  const openSingly = async (files) => {
    const results = await uploadFiles(files, (name, share) => (share < 1 ? say(t("ui.uploading", { name }), share, name) : say(t("ui.loading"), null, "loading")));
    results.forEach((result, at) => {
      const name = files.length > 1 ? `\u2068${files[at].name}\u2069: ` : ""; // one of several: which?
      if (result.image) viewer.add(result.image); else notice(name + uploadError(result, local));
    });
    const last = results.findLast((result) => result.image);
    if (last) await viewer.show(last.image.default_view, { open: true });
  };

  const openStudy = async (files, signal) => {
    const met = new Set(); // series already in the list
    const before = stamp(viewer.view()); // what is on screen while the files are read
    let first = null;
    let shown = Promise.resolve();
    const told = (state) => {
      if (state.state === "sending") { say(tCount("ui.sending_files", files.length), state.sent, "sending"); return; }
      const share = state.total ? state.done / state.total : null;
      say(state.stage === "storing" ? t("ui.storing_study") : t("ui.reading_study", { done: state.done, total: state.total }), share, state.stage);
      if (state.first && !first) { first = state.first; shown = showFirst(first); }
      for (const { digest } of state.series) meet(digest);
    };
    const meet = (digest) => {
      if (!digest || met.has(digest)) return;
      met.add(digest);
      if (viewer.images.has(digest)) delete viewer.images.get(digest).alone;
      viewer.info(digest).catch(() => {});
    };
    const showFirst = async (digest) => {
      const image = await viewer.info(digest).catch(() => null);
      if (image && !met.has(digest)) { image.alone = true; await viewer.show(image.default_view, { open: true }); }
    };
    const show = async (digest) => viewer.show((await viewer.info(digest)).default_view, { open: true });
    told({ state: "sending", sent: 0 });
    const state = await uploadStudy(files, told, signal);
    for (const { digest } of state.series) if (digest) await viewer.info(digest).catch(() => {});
    report(state, files);
    await shown;
    await settle(state, first, before, show);
    state.release?.();
  };

  const stamp = (shown) => JSON.stringify(shown);

  /** Go from what was on screen before, or the image shown alone, to the largest series, unless the reader has moved on. */
  const settle = async (state, first, before, show) => {
    const opened = state.series.filter((one) => one.digest);
    const isSeries = opened.some((one) => one.digest === first);
    const shown = viewer.view();
    if (first && !isSeries && state.state === "done") viewer.images.delete(first);
    const hasMoved = shown && shown.image !== first && stamp(shown) !== before;
    if (opened.length && !hasMoved) {
      const largest = opened.reduce((best, one) => (one.frames > best.frames ? one : best));
      await show(largest.digest);
    }
    announce("images");
  };

  /** Say what could not be opened, each file by the name it has here. */
  const report = (state, files) => {
    if (state.state === "cancelled") { notice(t("ui.study_cancelled"), "note"); return; }
    if (state.error) { notice(local(state.error)); return; }
    const problems = [...state.findings.map((one) => nameOf(one.file, files) + local(one)), ...state.series.filter((one) => one.error).map((one) => local(one.error))];
    for (const text of problems.slice(0, MOST_NOTICED)) notice(text, "warning");
    if (problems.length > MOST_NOTICED) notice(tCount("ui.more_problems", problems.length - MOST_NOTICED), "warning");
    if (!state.series.some((one) => one.digest) && !problems.length) notice(t("ui.study_empty"));
  };

  const nameOf = (number, files) => {
    const [index, ...inner] = String(number ?? "").split("/");
    const known = files[Number(index)]?.path;
    return index !== "" && known ? `\u2068${[known, ...inner].join(" / ")}\u2069: ` : "";
  };

  // --- the list of what is open ------------------------------------------------------------------

  const card = (one, at, count, digests) => el("button", {
    type: "button", class: "strip-image", "aria-label": `${t("ui.image_of", { index: at + 1, count })}: ${cardText(one)}`, title: cardText(one), "aria-pressed": String(digests.includes(one.digest)),
    onclick: () => viewer.show(one.default_view, { open: true }),
  }, el("img", { src: thumbnail(one.default_view), alt: "", width: 52, height: 52, loading: "lazy" }), one.frames > 1 ? el("span", { class: "strip-count", "aria-hidden": "true" }, String(one.frames)) : null,
  el("span", { class: "strip-text", "aria-hidden": "true", dir: "ltr" }, [one.modality, one.facts?.SeriesNumber && `#${one.facts.SeriesNumber}`].filter(Boolean).join(" ")));

  const cardText = (one) => [one.modality, one.facts?.BodyPartExamined, one.facts?.SeriesNumber && `#${one.facts.SeriesNumber}`, one.frames > 1 ? tCount("ui.frames", one.frames) : ""].filter(Boolean).join(" · ");

  const order = (one) => Number(one.facts?.SeriesNumber ?? 1e9);

  const draw = () => {
    const shown = viewer.view();
    const digests = shown ? digestsOf(shown) : [];
    const images = [...viewer.images.values()].filter((one) => !one.alone); // one slice, until its series is there
    part("drop-hint").hidden = Boolean(shown);
    strip.hidden = images.length < 2;
    const stamp = JSON.stringify([document.documentElement.lang, images.map((one) => one.digest), digests]);
    if (strip.dataset.stamp === stamp) return;
    strip.dataset.stamp = stamp;
    const studies = Map.groupBy(images, (one) => one.study || one.digest);
    const numbers = [...studies.keys()].filter((study) => studies.get(study).length > 1);
    let at = -1;
    keepingFocus(strip, () => strip.replaceChildren(...[...studies].map(([study, members]) => {
      const cards = members.toSorted((one, other) => order(one) - order(other)).map((one) => { at += 1; return card(one, at, images.length, digests); });
      const title = members.length > 1 ? el("span", { class: "strip-title" }, numbers.length > 1 ? t("ui.study_number", { number: numbers.indexOf(study) + 1 }) : t("ui.study")) : null;
      return el("div", { class: "strip-study", role: "group", "aria-label": title?.textContent ?? null }, title, ...cards);
    })));
  };

  /** Images a conversation shows, with the rest of the studies they belong to. */
  const reopen = async (digests) => {
    const { images } = digests.length ? await json(`studies?images=${digests.join(",")}`).catch(() => ({ images: digests })) : { images: [] };
    for (const digest of [...new Set([...digests, ...images])]) await viewer.info(digest).catch(() => {});
    draw();
  };

  drawIcons(element);
  for (const mount of KINDS) mount(element);
  acceptFiles(element, open);
  box.querySelector(".progress-cancel").addEventListener("click", () => reading?.abort());
  listen("view", draw);
  listen("images", draw);
  listen("thread", async ({ images: digests = [], removed }) => {
    if (removed) { viewer.images.clear(); if (!digests.length) viewer.close(); }
    await reopen(digests);
  });
  onLanguage(() => { translate(element); draw(); });
}
