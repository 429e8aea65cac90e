// The viewer as the rest of the page knows it: what is on screen, and who shows it.
// Kinds of viewers register; the one that accepts a shown value takes the stage.

import { announce } from "./dom.js";
import { askServer } from "./server.js";

const kinds = new Map();
let active = null;

/**
 * A kind of viewer. Elements of the panel marked `data-kind` with its name are seen while it has the stage.
 *   accepts(shown)  whether a shown value (JSON) is its own
 *   show(shown, options)  put the page back exactly there; may be asynchronous. `open` among the options: it was
 *                   chosen from the list of what is open, not as evidence
 *   hide()          another kind takes the stage
 *   close()         nothing is open any more
 *   view()          shown value of what is on screen, or null
 *   describe()      the same in a few characters
 *   modality()      DICOM modality or the like, "" when there is none
 *   keys            shortcuts: [{ keys: ["1", "9"], text: "ui.…" }], for the help
 *   gestures        what the mouse and fingers do: [{ text: "ui.…" }], for the help
 *   info(digest)    what the server says of a picture; images/{digest} unless given
 */
function register(kind, actions) { kinds.set(kind, actions); }

const kindOf = (shown) => [...kinds].find(([, actions]) => actions.accepts(shown))?.[0] ?? null;

/** Give the stage to a kind; null clears it. */
function stage(kind) {
  if (active === kind) return;
  if (active) kinds.get(active).hide();
  active = kind;
  for (const node of document.querySelectorAll("#viewer [data-kind]")) node.hidden = node.dataset.kind !== kind;
}

async function show(shown, options = {}) {
  const kind = kindOf(shown);
  if (!kind) return;
  stage(kind);
  await kinds.get(kind).show(shown, options);
}

function close() {
  for (const actions of kinds.values()) actions.close();
  stage(null);
  announce("view", null);
}

/** What the server says of an opened picture; asked once. */
async function info(digest, kind = null) {
  if (!viewer.images.has(digest)) {
    const ask = kinds.get(kind)?.info ?? (async (one) => (await askServer(`images/${one}`)).json());
    add(await ask(digest));
  }
  return viewer.images.get(digest);
}

/** Note a picture that was opened. */
function add(image) {
  viewer.images.set(image.digest, image);
  announce("images");
}

/** A list of the kind that has the stage; while it is empty, of images: they are what is opened most. */
const of = (list) => kinds.get(active ?? "image")?.[list] ?? [];

/** What the page may ask of the viewer. */
export const viewer = {
  images: new Map(), // digest -> what the server says of it, in the order they were opened
  register,
  show,
  close,
  info,
  add,
  kindOf,
  active: () => active,
  view: () => kinds.get(active)?.view() ?? null,
  describe: () => kinds.get(active)?.describe() ?? "",
  modality: () => kinds.get(active)?.modality?.() ?? "",
  frames: (digest) => viewer.images.get(digest)?.frames ?? 0,
  gestures: () => of("gestures"),
  shortcuts: () => of("keys"),
};
