// A strip chart: a bar for each arrival, as tall as the silence before it. This run is drawn on top,
// and below it, mirrored, the last run without mistakes, by the same scales. What is taller than the
// largest scale has another color, and all of its time: people feel that.

const SCALES = [5, 10, 25, 50, 100, 250]; // milliseconds
const LEAST_SPAN = 1000; // milliseconds

function scaleOf(tallies) {
  const longest = Math.max(...tallies.map((tally) => tally.longest));
  return SCALES.find((scale) => scale >= longest) ?? SCALES.at(-1);
}

// The tallest bar in each column of pixels: there may be far more arrivals than columns.
function columns(tally, width, span) {
  const tallest = new Float64Array(width);
  let before = 0;
  for (const time of tally.times) {
    const column = Math.min(width - 1, Math.floor((time / span) * width));
    tallest[column] = Math.max(tallest[column], time - before);
    before = time;
  }
  return tallest;
}

export class Strip {
  #canvas;
  #now = null;
  #healthy = null;
  #elapsed = 0;
  #asked = false;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#soon()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#soon());
  }

  show(now, healthy, elapsed) {
    this.#now = now;
    this.#healthy = healthy;
    this.#elapsed = elapsed;
    this.#soon();
  }

  describe(words) {
    this.#canvas.setAttribute("aria-label", words);
  }

  #soon() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
    });
  }

  #draw() {
    const canvas = this.#canvas;
    const style = getComputedStyle(canvas);
    const dense = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * dense);
    const height = Math.round(canvas.clientHeight * dense);
    if (!width || !height) return;
    canvas.width = width;
    canvas.height = height;
    const pen = canvas.getContext("2d");
    const color = (name) => style.getPropertyValue(name);
    const tallies = [this.#now, this.#healthy].filter(Boolean);
    const scale = scaleOf(tallies);
    const ends = tallies.map((tally) => tally.times.at(-1) ?? 0);
    const span = Math.max(LEAST_SPAN, this.#elapsed, ...ends);
    const middle = Math.round(height * 0.6);

    pen.fillStyle = color("--line");
    pen.fillRect(0, middle, width, dense);
    if (this.#now) bars(this.#now, color("--now"), middle, -middle);
    if (this.#healthy) bars(this.#healthy, color("--healthy"), middle + dense, height - middle - dense);
    pen.font = `${11 * dense}px ${style.fontFamily}`;
    pen.textAlign = "right";
    pen.textBaseline = "top";
    if (tallies.length) label(`${scale} ms high, ${(span / 1000).toFixed(1)} s wide`);

    function bars(tally, fill, from, room) {
      const wide = Math.max(1, Math.round(2 * dense));
      const tallest = columns(tally, Math.floor(width / wide), span);
      tallest.forEach((gap, column) => {
        if (!gap) return;
        const tall = Math.sign(room) * Math.max(dense, Math.abs(room) * Math.min(1, gap / scale));
        pen.fillStyle = gap > SCALES.at(-1) ? color("--bad") : fill;
        pen.fillRect(column * wide, from, wide, tall);
        if (gap <= SCALES.at(-1)) return;
        pen.globalAlpha = 0.15;
        pen.fillRect(column * wide, from, (-gap / span) * width, room);
        pen.globalAlpha = 1;
      });
    }

    function label(text) {
      const room = pen.measureText(text).width + 6 * dense;
      pen.fillStyle = color("--sheet");
      pen.fillRect(width - room, 0, room, 15 * dense);
      pen.fillStyle = color("--muted");
      pen.fillText(text, width - 3 * dense, 2 * dense);
    }
  }
}
