// Cine: frames one after the other at the rate the file says, or one the reader chooses.

const USUAL = 10; // frames a second, where the file says nothing
export const RATES = [1, 2, 5, 10, 15, 20, 25, 30, 60];

/** Frames a second of an image, from its times or its frame time. */
export function rateOf({ facts = {} }, times = []) {
  if (times.length > 1 && times.at(-1) > times[0]) return (times.length - 1) / (times.at(-1) - times[0]);
  const frameTime = Number(facts.FrameTime);
  return frameTime > 0 ? 1000 / frameTime : USUAL;
}

export class Cine {
  /** `step()` shows the next frame; `changed()` is told when it starts and stops. */
  constructor(step, changed) {
    this.step = step;
    this.changed = changed;
    this.rate = USUAL;
    this.request = 0;
  }

  get playing() { return this.request !== 0; }

  toggle() { if (this.playing) this.stop(); else this.play(); }

  play() {
    let due = performance.now();
    const tick = (now) => {
      this.request = requestAnimationFrame(tick);
      if (now < due) return;
      // A page that was hidden does not catch up.
      due = Math.max(due + 1000 / this.rate, now - 1000 / this.rate);
      this.step();
    };
    this.request = requestAnimationFrame(tick);
    this.changed();
  }

  stop() {
    if (!this.playing) return;
    cancelAnimationFrame(this.request);
    this.request = 0;
    this.changed();
  }
}
