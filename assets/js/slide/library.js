// The map library, and the one way a slide is opened with it.

import { el } from "../dom.js";

const RETRIES = 3; // of a tile: the server may be busy, or the connection lost for a moment
const RETRY_MS = 1200;
let library = null;

/** The library, fetched the first time a slide is shown. */
function load() {
  library ??= new Promise((resolve, reject) => {
    const failed = () => { library = null; reject(new Error("the map library did not arrive")); };
    document.head.append(el("script", { src: "page/js/vendor/openseadragon/openseadragon.min.js", onload: () => resolve(window.OpenSeadragon), onerror: failed }));
  });
  return library;
}

/** A map of a slide in an element, ready to be moved. The page handles its keys: the library's own would mirror it. */
export async function openMap(element, { digest, columns: width, rows: height, tile, levels }) {
  const OpenSeadragon = await load();
  const dragon = new OpenSeadragon.Viewer({
    element, drawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorPosition: "TOP_RIGHT", keyboardNavEnabled: false,
    animationTime: 0.3, maxZoomPixelRatio: 4, gestureSettingsMouse: { clickToZoom: false }, crossOriginPolicy: false, tileRetryMax: RETRIES, tileRetryDelay: RETRY_MS,
    tileSources: { width, height, tileSize: tile, tileOverlap: 0, minLevel: 0, maxLevel: levels - 1, getTileUrl: (level, x, y) => `slides/${digest}/tiles/${level}/${x}_${y}.jpeg` },
  });
  for (const inner of element.querySelectorAll("[tabindex]")) inner.tabIndex = -1; // one stop for the keyboard: the map itself
  await new Promise((resolve, reject) => {
    if (dragon.world.getItemCount()) { resolve(); return; }
    dragon.addOnceHandler("open", resolve);
    dragon.addOnceHandler("open-failed", () => reject(new Error("the slide did not open")));
  });
  return dragon;
}
