// Whole studies on their way in: folders, many files and archives. Names stay here and only numbers travel, but for
// slides of several files, which find each other by name; the server forgets them when the upload ends.

import { json } from "../server.js";

const BODY_BYTES = 24 * 2 ** 20; // of one request: few enough to repeat, many enough to be few
const BODY_FILES = 200;
const AT_ONCE = 2;
const POLL_MS = 150;

/** Files that are known by their names, and those that name other files. */
const BY_NAME = /\.(czi|mrxs|svslide|vms|vmu|zvi)$/i;
const NAMES_OTHERS = /\.(mrxs|vms|vmu)$/i;

/** Files of a drop, folders opened: [{ file, path }]. Must be called before the drop event ends. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return { files: [...transfer.files].map((file) => ({ file, path: file.name })), hasFolder: false };
  const files = [];
  for (const entry of entries) await walk(entry, "", files);
  return { files, hasFolder: entries.some((entry) => entry.isDirectory) };
}

async function walk(entry, parent, files) {
  const path = parent + entry.name;
  if (entry.isFile) {
    files.push({ file: await new Promise((resolve, reject) => { entry.file(resolve, reject); }), path });
    return;
  }
  const reader = entry.createReader();
  // a reader gives a hundred at a time, and none when it is done
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) return;
    for (const one of some) await walk(one, `${path}/`, files);
  }
}

/** Whether files belong together: a folder, an archive, or several DICOM files. */
export async function isStudy(files, hasFolder) {
  if (hasFolder || files.some(({ path }) => NAMES_OTHERS.test(path))) return true; // even alone: its name says what is missing
  const heads = await Promise.all(files.slice(0, 50).map(({ file }) => file.slice(0, 132).arrayBuffer()));
  const starts = (bytes, at, text) => [...text].every((letter, index) => bytes[at + index] === letter.charCodeAt(0));
  const kinds = heads.map((head) => { const bytes = new Uint8Array(head); return starts(bytes, 128, "DICM") ? "dicom" : starts(bytes, 0, "PK\x03\x04") ? "archive" : "other"; });
  return kinds.includes("archive") || (files.length > 1 && kinds.every((kind) => kind === "dicom")) || files.length > 50;
}

/**
 * Send files and follow how they are read. `told(state)` is given what the server says, with `sent` (0 to 1) while
 * files travel. Resolves to the last state, whose `release()` is called when its `first` is not shown any more;
 * `signal` gives up.
 */
export async function uploadStudy(files, told, signal) {
  const { id } = await json("studies", {});
  const giveUp = () => { fetch(`studies/${id}`, { method: "DELETE", credentials: "same-origin" }).catch(() => {}); };
  try {
    await sendAll(id, files, told, signal);
    const names = files.some(({ path }) => BY_NAME.test(path)) ? files.map(({ path }) => path) : [];
    let state = await json(`studies/${id}/read`, { names });
    while (state.state === "reading") {
      if (signal.aborted) { giveUp(); return { ...state, state: "cancelled" }; }
      told(state);
      await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
      state = await json(`studies/${id}`);
    }
    return { ...state, release: giveUp };
  } catch (error) {
    giveUp();
    if (signal.aborted) return { state: "cancelled", series: [], findings: [], first: null, error: null };
    throw error;
  }
}

async function sendAll(id, files, told, signal) {
  const total = files.reduce((sum, { file }) => sum + file.size, 0) || 1;
  const travelled = new Map();
  const report = (body, loaded) => {
    travelled.set(body, loaded);
    told({ state: "sending", sent: Math.min([...travelled.values()].reduce((sum, one) => sum + one, 0) / total, 1) });
  };
  const waiting = bodiesOf(files);
  const work = async () => {
    for (let body = waiting.shift(); body; body = waiting.shift()) await send(id, body, (loaded) => report(body, loaded), signal);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** Files in order, so many to a request: number (uint32), length (uint64), bytes; see app/upload_parts.py. */
function bodiesOf(files) {
  const bodies = [];
  let parts = [];
  let size = 0;
  files.forEach(({ file }, number) => {
    if (parts.length && (size + file.size > BODY_BYTES || parts.length >= BODY_FILES * 2)) { bodies.push(new Blob(parts)); parts = []; size = 0; }
    const head = new DataView(new ArrayBuffer(12));
    head.setUint32(0, number, true);
    head.setBigUint64(4, BigInt(file.size), true);
    parts.push(head.buffer, file);
    size += file.size;
  });
  if (parts.length) bodies.push(new Blob(parts));
  return bodies;
}

function send(id, body, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    const lost = () => reject(new Error("lost"));
    request.open("POST", `studies/${id}/files`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => { if (request.status === 200) { progress(body.size); resolve(); } else reject(Object.assign(new Error(`${request.status}`), { both: request.response?.error })); };
    request.onerror = lost;
    request.onabort = lost;
    request.onloadend = () => signal.removeEventListener("abort", stop);
    if (signal.aborted) { lost(); return; }
    signal.addEventListener("abort", stop);
    request.send(body);
  });
}
