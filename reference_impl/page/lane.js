// A lane of the page: one stream, its figures, and its strip.

import { STREAMS } from "./streams.js";
import { Strip } from "./strip.js";
import { Tally, duration, number } from "./tally.js";

const MOST_SHOWN = 1500; // characters of the reply

const FIGURES = {
  tokens: [
    ["Tokens", (run) => number(run.tally.count)],
    ["Tokens/s", (run) => number(run.tally.rate)],
    ["First after", (run) => duration(run.tally.first)],
    ["Longest gap", (run) => duration(run.tally.longest)],
  ],
  flushes: [
    ["Flushes", (run) => number(run.tally.count)],
    ["Flushes/s", (run) => number(run.tally.rate)],
    ["First after", (run) => duration(run.tally.first)],
    ["Longest gap", (run) => duration(run.tally.longest)],
    ["Tokens", (run) => number(run.texts)],
  ],
  updates: [
    ["Updates", (run) => number(run.tally.count)],
    ["Updates/s", (run) => number(run.tally.rate)],
    ["Longest gap", (run) => duration(run.tally.longest)],
    ["Furthest behind", (run) => letters(run.behind)],
    ["Missing at the end", (run) => (run.missing === null ? "-" : letters(run.missing))],
    ["After the end", (run) => number(run.late)],
  ],
};

const ENDS_WELL = new Set([undefined, "running", "done", "stopped"]);

function letters(count) {
  return `${number(count)} ${count === 1 ? "letter" : "letters"}`;
}

export class Lane {
  constructor(section, reply) {
    this.name = section.dataset.lane;
    this.run = null;
    this.#section = section;
    this.#reply = reply;
    this.#strip = new Strip(section.querySelector("canvas"));
    this.#figures = FIGURES[this.name].map(([name, of]) => {
      const value = document.createElement("dd");
      value.append(span("value", "-"), span("was", ""));
      value.dataset.figure = name;
      section.querySelector("dl").append(pair(name, value));
      return [value, of];
    });
  }

  #section;
  #reply;
  #strip;
  #figures;
  #healthy = null;
  #said = "";
  #leave = () => {};

  // Streams the message, and calls back when that is over.
  start(server, message, healthy, over) {
    const began = performance.now();
    const run = {
      tally: new Tally(), began, elapsed: 0, texts: 0, written: 0, shown: 0,
      behind: 0, missing: null, late: 0, end: "running", open: true,
    };
    this.run = run;
    this.#healthy = healthy;
    this.#section.classList.remove("idle");
    this.#said = "";
    const text = (piece) => {
      run.texts += 1;
      run.written += piece.length;
    };
    this.#leave = STREAMS[this.name](server, message, {
      text,
      arrival: (piece) => {
        run.tally.arrive(performance.now() - began);
        if (piece) this.#say(piece);
      },
      note: (words) => this.#say(` [${words}] `),
      update: (value, late) => {
        run.tally.arrive(performance.now() - began);
        run.late += late;
        run.shown = late ? run.shown : value.length;
        run.behind = Math.max(run.behind, run.written - value.length);
      },
      over: (end) => this.#over(end, over),
    });
  }

  stop() {
    if (!this.run?.open) return;
    this.#leave();
    this.#over("stopped", () => {});
  }

  // There is nothing in it this time.
  rest() {
    this.run = null;
    this.#section.classList.add("idle");
    this.show();
  }

  show() {
    for (const [value, of] of this.#figures) {
      const text = this.run ? of(this.run) : "-";
      const was = this.run && this.#healthy ? of(this.#healthy) : text;
      put(value.firstChild, text);
      put(value.lastChild, was === text ? "" : `was ${was}`);
    }
    put(this.#section.querySelector(".end"), this.run?.end ?? "not in this run");
    this.#section.querySelector(".end").classList.toggle("off", !ENDS_WELL.has(this.run?.end));
    if (this.#reply && put(this.#reply, this.#said)) this.#reply.scrollTop = this.#reply.scrollHeight;
    const { tally = null, open, began, elapsed } = this.run ?? {};
    this.#strip.show(tally, this.run && this.#healthy?.tally, open ? performance.now() - began : elapsed ?? 0);
  }

  #over(end, over) {
    const run = this.run;
    run.open = false;
    run.end = end;
    run.elapsed = performance.now() - run.began;
    run.missing = end === "done" ? run.written - run.shown : null;
    this.#strip.describe(
      `Gaps between ${this.name}: ${run.tally.count} came, the longest gap was ${duration(run.tally.longest)}`,
    );
    this.show();
    over();
  }

  #say(piece) {
    this.#said = (this.#said + piece).slice(-MOST_SHOWN);
  }
}

function span(className, text) {
  return Object.assign(document.createElement("span"), { className, textContent: text });
}

// As text, whatever is in it; says whether that is new.
function put(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

// A name and a value, for a list of figures.
export function pair(name, value) {
  const term = document.createElement("dt");
  term.textContent = name;
  const both = document.createElement("div");
  both.append(term, value);
  return both;
}
