// How long something will still take: told once it is known well enough, and only where it is worth telling.

const SETTLED_MS = 1500; // before that a rate means nothing
const WORTH_MS = 5000; // what is over sooner needs no forecast
const OLDEST_MS = 10_000; // a rate is that of the last seconds: what was fast may have become slow

/** Follows the share of a job that is done, from 0 to 1; a share that falls back begins another job. */
export class Remaining {
  constructor(now = () => performance.now()) {
    this.now = now;
    this.begin();
  }

  begin() { this.seen = []; this.began = this.now(); }

  /** Whole seconds left, or null while that is not known or not worth telling. */
  told(share) {
    const at = this.now();
    if (this.seen.length && share < this.seen.at(-1).share) this.begin();
    this.seen.push({ at, share });
    while (this.seen.length > 2 && at - this.seen[0].at > OLDEST_MS) this.seen.shift();
    const first = this.seen[0];
    const passed = at - first.at;
    if (passed < SETTLED_MS || share <= first.share || share >= 1) return null;
    const left = (passed * (1 - share)) / (share - first.share);
    return at - this.began + left < WORTH_MS ? null : Math.max(Math.ceil(left / 1000), 1);
  }
}
