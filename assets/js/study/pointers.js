// Mouse, touch, wheel and keyboard on a pane.

import { linkedPixel } from "./linking.js";
import { actionOf, latinKey } from "./shortcuts.js";
import { dragWindow, Drawing, isDrawn, startWindow } from "./tools.js";

const PAN = 40; // CSS pixels a picture is moved by a key
const STEP = 40; // wheel units of one slice: a touchpad sends many small ones where a mouse sends one large one

/** Let a reader work on a pane; `study` is what the tools act on. */
export function listenTo(pane, study) {
  const { canvas, painter } = pane;
  const pointers = new Map();
  let drag = null;
  let drawing = null;

  const at = (event) => painter.toImage(event.clientX, event.clientY);
  const draw = (tool) => new Drawing(pane, tool, (kind, points) => study.measure(pane, kind, points));
  const apart = () => { const [a, b] = [...pointers.values()]; return { distance: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 }; };

  const kindOf = (event) => {
    if (event.button === 1 || event.shiftKey) return "pan";
    if (event.button === 2) return "window";
    return study.tool;
  };

  canvas.addEventListener("pointerdown", (event) => {
    study.activate(pane);
    canvas.focus();
    if (!pane.loaded) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) { drawing?.cancel(); drawing = null; drag = { kind: "pinch", apart: apart() }; return; }
    const kind = kindOf(event);
    drag = { kind, x: event.clientX, y: event.clientY };
    if (kind === "window") drag.window = startWindow(pane);
    if (kind === "crosshair") study.point(pane, at(event));
    if (!isDrawn(kind)) return;
    if (drawing?.tool === kind && drawing.points.length) { if (!drawing.add(at(event))) drawing = null; drag = null; return; }
    drawing = draw(kind);
    if (!drawing.add(at(event))) { drawing = null; drag = null; }
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) { if (drawing) drawing.move(at(event)); return; }
    const [lastX, lastY] = pointers.get(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (drag) moves[drag.kind]?.(event, event.clientX - lastX, event.clientY - lastY);
    if (drag && drawing) drawing.move(at(event));
  });

  const moves = {
    pinch: () => {
      const now = apart();
      painter.zoomAt(now.distance / drag.apart.distance, now.x, now.y);
      painter.move(now.x - drag.apart.x, now.y - drag.apart.y);
      drag.apart = now;
      study.looked(pane);
    },
    pan: (event, dx, dy) => { painter.move(dx, dy); study.looked(pane); },
    zoom: (event, dx, dy) => { painter.zoomAt(Math.exp(-dy * 0.008), drag.x, drag.y); study.looked(pane); },
    window: (event) => {
      if (!drag.window) return;
      dragWindow(pane, drag.window, event.clientX - drag.x, event.clientY - drag.y);
      study.windowed(pane);
    },
    crosshair: (event) => study.point(pane, at(event)),
  };

  const end = (event) => {
    pointers.delete(event.pointerId);
    const was = drag;
    drag = null;
    if (!drawing || !was) return;
    // A drag gives both ends; a click leaves the first and waits for the next.
    if (Math.hypot(event.clientX - was.x, event.clientY - was.y) > 3) { if (!drawing.add(at(event))) drawing = null; } else if (drawing.tool === "region") { drawing = null; pane.region = null; pane.overlay.draw(); pane.changed(pane); }
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => { if (!isDrawn(study.tool)) study.actions.fit(); });
  canvas.addEventListener("focus", () => study.activate(pane));

  let turned = 0;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (!pane.loaded) return;
    study.activate(pane);
    if (event.ctrlKey) { painter.zoomAt(Math.exp(-event.deltaY * 0.0015), event.clientX, event.clientY); study.looked(pane); return; }
    turned += event.deltaMode ? event.deltaY * STEP : event.deltaY;
    const steps = Math.trunc(turned / STEP);
    if (!steps) return;
    turned = 0;
    study.step(Math.sign(steps));
  }, { passive: false });

  // --- keyboard: Enter puts points down, arrows move the pointer by a pixel, with Shift by ten -------

  const ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

  const leave = () => {
    drawing?.cancel();
    drawing = null;
    pane.overlay.pointer = null;
    pane.overlay.draw();
  };

  const keyDraws = (event) => {
    const { overlay } = pane;
    const links = study.tool === "crosshair";
    if (event.key === "Enter" && (isDrawn(study.tool) || links)) {
      if (!overlay.pointer) overlay.pointer = (links && linkedPixel(pane)) || [Math.round(pane.columns / 2), Math.round(pane.rows / 2)];
      else if (links) overlay.pointer = null;
      else {
        drawing ??= draw(study.tool);
        if (!drawing.add(overlay.pointer)) { drawing = null; overlay.pointer = null; }
      }
      overlay.draw();
      return true;
    }
    if (!overlay.pointer) return false;
    if (event.key === "Escape") { leave(); return true; }
    const arrow = ARROWS[event.key];
    if (!arrow) return false;
    overlay.pointer = moved(arrow, event.shiftKey ? 10 : 1);
    if (drawing) drawing.move(overlay.pointer);
    if (links) study.point(pane, overlay.pointer);
    overlay.draw();
    return true;
  };

  /** With Shift and no pointer the arrows move the picture. */
  const keyPans = (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow || !event.shiftKey) return false;
    painter.move(arrow[0] * PAN, arrow[1] * PAN);
    study.looked(pane);
    return true;
  };

  /** A step on screen, whatever way the picture lies. */
  const moved = ([dx, dy], pixels) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = painter.toScreen(...pane.overlay.pointer);
    const [column, row] = painter.toImage(box.left + x + dx, box.top + y + dy);
    const step = (to, from, limit) => Math.min(Math.max(from + Math.sign(Math.round((to - from) * 1e6)) * pixels, 0), limit);
    return [step(column, pane.overlay.pointer[0], pane.columns), step(row, pane.overlay.pointer[1], pane.rows)];
  };

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !pane.loaded) return;
    const digit = /^[1-9]$/.test(latinKey(event)) ? Number(latinKey(event)) : 0;
    const named = digit ? pane.loaded.meta.windows[digit - 1] : null;
    const action = actionOf(event);
    if (keyDraws(event) || keyPans(event)) { event.preventDefault(); return; }
    if (!named && !action) return;
    event.preventDefault();
    if (named) study.choose(named);
    else if (action.startsWith("tool:")) study.setTool(action.slice(5));
    else study.actions[action]();
  });

  pane.leaveDrawing = leave;
}
