// What arrived and when, in milliseconds since a run began: values, and nothing of the page.

export class Tally {
  times = [];
  longest = 0;

  arrive(time) {
    if (this.times.length) this.longest = Math.max(this.longest, time - this.times.at(-1));
    this.times.push(time);
  }

  get count() {
    return this.times.length;
  }

  // Arrivals a second, from the first to the last.
  get rate() {
    const span = this.count > 1 ? this.times.at(-1) - this.times[0] : 0;
    return span > 0 ? ((this.count - 1) * 1000) / span : null;
  }

  get first() {
    return this.count ? this.times[0] : null;
  }
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  return (Math.abs(value) < 100 ? fine : whole).format(value);
}

export function duration(milliseconds) {
  return milliseconds === null ? "-" : `${number(milliseconds)} ms`;
}
