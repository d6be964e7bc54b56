// The page: one form, three lanes, and what the server tells of itself.

import { Gauges } from "./gauges.js";
import { Lane } from "./lane.js";
import { probes } from "./probes.js";
import { Switches } from "./switches.js";
import { duration, number } from "./tally.js";

const MOST_RUNS = 12;
const at = (id) => document.getElementById(id);
const server = serverOf(new URLSearchParams(location.search).get("server"));
const still = matchMedia("(prefers-reduced-motion: reduce)");

const lanes = [...document.querySelectorAll(".lane")].map(
  (section) => new Lane(section, section.querySelector(".reply")),
);
const switches = new Switches(server, at("switches"), at("heal"), say);
const gauges = new Gauges(server, at("gauges"), at("telemetry"), at("left"));
const healthy = new Map(); // the last runs without mistakes, by message and lane
let runs = 0;
let running = null;

at("server").textContent = server.host;
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  run(at("message").value);
});
at("stop").addEventListener("click", () => {
  for (const lane of lanes) lane.stop();
  finish();
});
at("kind").addEventListener("change", () => {
  at("message").value = at("kind").value;
});
for (const { value, text } of at("kind").options) at("messages").append(new Option(text, value));
addEventListener("pagehide", () => lanes.forEach((lane) => lane.stop()));
begin().catch((error) => say(`${server.host} does not answer: ${error.message}. Start it, and reload this page.`));

// Another server on this machine, or the one that the page is from.
function serverOf(asked) {
  const own = new URL(location.origin);
  if (!asked) return own;
  const other = URL.canParse(asked) ? new URL(asked) : null;
  const near = other && other.protocol === "http:" && ["127.0.0.1", "localhost"].includes(other.hostname);
  if (near) return new URL(other.origin);
  say(`?server=${asked} is not a server on this machine, allowed: http://127.0.0.1:PORT`);
  return own;
}

async function begin() {
  const { debug } = await (await fetch(new URL("/page/about", server))).json();
  gauges.watch(debug);
  probes(server, at("probes"), gauges, debug);
  at("closed").hidden = debug;
  if (debug) await switches.load();
}

function lanesFor(message) {
  const chosen = [...at("kind").options].find((option) => option.value === message);
  const names = chosen?.dataset.lanes?.split(" ");
  return lanes.filter((lane) => !names || names.includes(lane.name));
}

function run(message) {
  if (running) return;
  const [mistakes, taking] = [switches.on(), lanesFor(message)];
  const key = (lane) => `${lane.name} ${message}`;
  running = { mistakes, taking, key };
  at("run").disabled = true;
  at("stop").disabled = false;
  at("stop").focus();
  say(mistakes.length ? `Running, with ${mistakes.join(", ")}.` : "Running, without mistakes.");
  for (const lane of lanes) {
    if (taking.includes(lane)) lane.start(server, message, healthy.get(key(lane)) ?? null, finish);
    else lane.rest();
  }
  gauges.open += 1;
  drawSoon();
}

function drawSoon() {
  const draw = () => {
    for (const lane of lanes) if (lane.run?.open) lane.show();
    if (running) drawSoon();
  };
  if (still.matches) setTimeout(draw, 500);
  else requestAnimationFrame(draw);
}

function finish() {
  if (!running || running.taking.some((lane) => lane.run.open)) return;
  const { mistakes, taking, key } = running;
  running = null;
  gauges.open -= 1;
  const held = document.activeElement === at("stop");
  at("run").disabled = false;
  at("stop").disabled = true;
  if (held) at("run").focus();
  const ends = [...new Set(taking.map((lane) => lane.run.end))].join("; ");
  if (!mistakes.length && ends === "done") {
    for (const lane of taking) healthy.set(key(lane), lane.run);
  }
  const longest = Math.max(...taking.map((lane) => lane.run.tally.longest));
  runs += 1;
  say(`Run ${runs} is over: ${ends}. The longest gap was ${duration(longest)}.`);
  note(mistakes, longest, ends);
}

function note(mistakes, longest, ends) {
  const rate = (name) => number(lanes.find((lane) => lane.name === name).run?.tally.rate);
  const row = document.createElement("tr");
  const cells = [
    runs, mistakes.join(", ") || "no mistake", rate("tokens"), rate("flushes"), rate("updates"),
    duration(longest), ends,
  ];
  for (const text of cells) row.insertCell().textContent = text;
  if (runs === 1) at("runs").replaceChildren();
  at("runs").prepend(row);
  if (at("runs").rows.length > MOST_RUNS) at("runs").lastElementChild.remove();
}

function say(words) {
  at("status").textContent = words;
}
