// Files to the server, one after the other, with progress.

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
