// A strip chart: one bar for each arrival, whose height is the time since the arrival before it. The
// bars of this run point up. The bars of the last healthy run point down, at the same scale. A gap
// above the largest scale has another color, and its whole duration is shaded: users notice such gaps.

const SCALES = [5, 10, 25, 50, 100, 250]; // milliseconds
const MIN_SPAN = 1000; // milliseconds

function scaleOf(tallies) {
  const longest = Math.max(...tallies.map((tally) => tally.longest));
  return SCALES.find((scale) => scale >= longest) ?? SCALES.at(-1);
}

// The longest gap in each column of pixels, because there may be more arrivals than columns.
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
  #current = null;
  #healthy = null;
  #elapsed = 0;
  #isScheduled = false;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#scheduleDraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#scheduleDraw());
  }

  show(current, healthy, elapsed) {
    this.#current = current;
    this.#healthy = healthy;
    this.#elapsed = elapsed;
    this.#scheduleDraw();
  }

  describe(text) {
    this.#canvas.setAttribute("aria-label", text);
  }

  #scheduleDraw() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#draw();
    });
  }

  #draw() {
    const canvas = this.#canvas;
    const style = getComputedStyle(canvas);
    const pixelRatio = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * pixelRatio);
    const height = Math.round(canvas.clientHeight * pixelRatio);
    if (!width || !height) return;
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const color = (name) => style.getPropertyValue(name);
    const tallies = [this.#current, this.#healthy].filter(Boolean);
    const scale = scaleOf(tallies);
    const ends = tallies.map((tally) => tally.times.at(-1) ?? 0);
    const span = Math.max(MIN_SPAN, this.#elapsed, ...ends);
    const baseline = Math.round(height * 0.6);

    context.fillStyle = color("--line");
    context.fillRect(0, baseline, width, pixelRatio);
    if (this.#current) bars(this.#current, color("--now"), baseline, -baseline);
    if (this.#healthy) bars(this.#healthy, color("--healthy"), baseline + pixelRatio, height - baseline - pixelRatio);
    context.font = `${11 * pixelRatio}px ${style.fontFamily}`;
    context.textAlign = "right";
    context.textBaseline = "top";
    if (tallies.length) label(`${scale} ms high, ${(span / 1000).toFixed(1)} s wide`);

    function bars(tally, fill, from, space) {
      const barWidth = Math.max(1, Math.round(2 * pixelRatio));
      const tallest = columns(tally, Math.floor(width / barWidth), span);
      tallest.forEach((gap, column) => {
        if (!gap) return;
        const barHeight = Math.sign(space) * Math.max(pixelRatio, Math.abs(space) * Math.min(1, gap / scale));
        context.fillStyle = gap > SCALES.at(-1) ? color("--bad") : fill;
        context.fillRect(column * barWidth, from, barWidth, barHeight);
        if (gap <= SCALES.at(-1)) return;
        context.globalAlpha = 0.15;
        context.fillRect(column * barWidth, from, (-gap / span) * width, space);
        context.globalAlpha = 1;
      });
    }

    function label(text) {
      const space = context.measureText(text).width + 6 * pixelRatio;
      context.fillStyle = color("--sheet");
      context.fillRect(width - space, 0, space, 15 * pixelRatio);
      context.fillStyle = color("--muted");
      context.fillText(text, width - 3 * pixelRatio, 2 * pixelRatio);
    }
  }
}
