// A lane of the page: one stream, its figures and its strip chart.

import { STREAMS } from "./streams.js";
import { Strip } from "./strip.js";
import { Tally, duration, number } from "./tally.js";

const MAX_REPLY = 1500; // characters at the end of the reply

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
    ["Tokens", (run) => number(run.tokenCount)],
  ],
  updates: [
    ["Updates", (run) => number(run.tally.count)],
    ["Updates/s", (run) => number(run.tally.rate)],
    ["Longest gap", (run) => duration(run.tally.longest)],
    ["Furthest behind", (run) => letters(run.furthestBehind)],
    ["Missing at the end", (run) => (run.missingLetters === null ? "-" : letters(run.missingLetters))],
    ["After the end", (run) => number(run.lateUpdates)],
  ],
};

const EXPECTED_ENDS = new Set([undefined, "running", "done", "stopped"]);

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
    this.#figures = FIGURES[this.name].map(([name, figureOf]) => {
      const value = document.createElement("dd");
      value.append(span("value", "-"), span("was", ""));
      value.dataset.figure = name;
      section.querySelector("dl").append(pair(name, value));
      return [value, figureOf];
    });
  }

  #section;
  #reply;
  #strip;
  #figures;
  #healthy = null;
  #replyText = "";
  #closeStream = () => {};

  // Stream the message, and call back at the end.
  start(server, message, healthy, onEnd) {
    const began = performance.now();
    const run = {
      tally: new Tally(), began, elapsed: 0, tokenCount: 0, writtenLetters: 0, shownLetters: 0,
      furthestBehind: 0, missingLetters: null, lateUpdates: 0, end: "running", open: true,
    };
    this.run = run;
    this.#healthy = healthy;
    this.#section.classList.remove("idle");
    this.#replyText = "";
    const text = (piece) => {
      run.tokenCount += 1;
      run.writtenLetters += piece.length;
    };
    this.#closeStream = STREAMS[this.name](server, message, {
      text,
      arrival: (piece) => {
        run.tally.arrive(performance.now() - began);
        if (piece) this.#appendReply(piece);
      },
      note: (words) => this.#appendReply(` [${words}] `),
      update: (value, lateUpdates) => {
        run.tally.arrive(performance.now() - began);
        run.lateUpdates += lateUpdates;
        run.shownLetters = lateUpdates ? run.shownLetters : value.length;
        run.furthestBehind = Math.max(run.furthestBehind, run.writtenLetters - value.length);
      },
      end: (end) => this.#finish(end, onEnd),
    });
  }

  stop() {
    if (!this.run?.open) return;
    this.#closeStream();
    this.#finish("stopped", () => {});
  }

  // Leave this lane out of the current run.
  skip() {
    this.run = null;
    this.#section.classList.add("idle");
    this.show();
  }

  show() {
    for (const [value, figureOf] of this.#figures) {
      const text = this.run ? figureOf(this.run) : "-";
      const previous = this.run && this.#healthy ? figureOf(this.#healthy) : text;
      setText(value.firstChild, text);
      setText(value.lastChild, previous === text ? "" : `was ${previous}`);
    }
    setText(this.#section.querySelector(".end"), this.run?.end ?? "not in this run");
    this.#section.querySelector(".end").classList.toggle("off", !EXPECTED_ENDS.has(this.run?.end));
    if (this.#reply && setText(this.#reply, this.#replyText)) this.#reply.scrollTop = this.#reply.scrollHeight;
    const { tally = null, open, began, elapsed } = this.run ?? {};
    this.#strip.show(tally, this.run && this.#healthy?.tally, open ? performance.now() - began : elapsed ?? 0);
  }

  #finish(end, onEnd) {
    const run = this.run;
    run.open = false;
    run.end = end;
    run.elapsed = performance.now() - run.began;
    run.missingLetters = end === "done" ? run.writtenLetters - run.shownLetters : null;
    this.#strip.describe(
      `Gaps between ${this.name}: ${run.tally.count} arrivals, the longest gap was ${duration(run.tally.longest)}`,
    );
    this.show();
    onEnd();
  }

  #appendReply(piece) {
    this.#replyText = (this.#replyText + piece).slice(-MAX_REPLY);
  }
}

function span(className, text) {
  return Object.assign(document.createElement("span"), { className, textContent: text });
}

// Set the text of an element, without markup; return whether it changed.
function setText(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

// A name and a value for a list of figures.
export function pair(name, value) {
  const term = document.createElement("dt");
  term.textContent = name;
  const both = document.createElement("div");
  both.append(term, value);
  return both;
}
