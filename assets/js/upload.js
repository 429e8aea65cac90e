// Files to the server, one after the other, with progress.

import { droppedFiles } from "./study/intake.js";
import { t } from "./texts.js";

/**
 * Send files; `progress(name, share)` is called while they travel. Resolves to one entry a file:
 * { image } or { error } in both languages. A file's name is shown here but never sent: it may name a patient.
 */
export async function uploadFiles(files, progress) {
  const results = [];
  for (const file of files) results.push(await sendOne(file, progress));
  return results;
}

function sendOne(file, progress) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const lost = () => resolve({ error: null });
    request.open("POST", "upload");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (event) => progress(file.name, event.lengthComputable ? event.loaded / event.total : 0);
    request.onload = () => resolve(request.response ?? { error: null });
    request.onerror = lost;
    request.onabort = lost;
    progress(file.name, 0);
    request.send(file);
  });
}

/** Sentence for a file that was not opened. */
export const uploadError = (result, local) => (result.error ? local(result.error) : t("ui.upload_lost"));

/**
 * Every way files get in: buttons for files and for a folder, empty stage, a drop anywhere on the page, a picture
 * from the clipboard. `open` is given [{ file, path }] and whether a folder was among them.
 */
export function acceptFiles(element, open) {
  const stage = element.querySelector(".stage");
  const named = (files) => [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  for (const [input, isFolder] of [[element.querySelector(".file"), false], [element.querySelector(".folder"), true]]) {
    input.addEventListener("change", () => { open(named(input.files), isFolder); input.value = ""; });
  }
  for (const name of ["open-file", "drop-hint"]) element.querySelector(`.${name}`).addEventListener("click", () => element.querySelector(".file").click());
  element.querySelector(".open-folder").addEventListener("click", () => element.querySelector(".folder").click());
  // Anywhere on the page: a file dropped beside the viewer must not replace the page.
  document.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
  document.addEventListener("dragleave", () => stage.classList.remove("over"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    const { files, hasFolder } = await droppedFiles(event.dataTransfer);
    open(files, hasFolder);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((one) => one.type.startsWith("image/"));
    if (files.length) { event.preventDefault(); open(named(files), false); }
  });
}
