// The arrival times of one stream in milliseconds since its run began, and how to format figures.

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

  // Arrivals per second between the first and the last arrival; null without a time between them.
  get rate() {
    const span = this.count > 1 ? this.times.at(-1) - this.times[0] : 0;
    return span > 0 ? ((this.count - 1) * 1000) / span : null;
  }

  get first() {
    return this.count ? this.times[0] : null;
  }
}

const integer = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDecimal = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  return (Math.abs(value) < 100 ? oneDecimal : integer).format(value);
}

export function duration(milliseconds) {
  return milliseconds === null ? "-" : `${number(milliseconds)} ms`;
}
