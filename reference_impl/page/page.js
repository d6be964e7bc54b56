// The page: a form, three lanes, the metrics of the server, its switches and its probes.

import { Gauges } from "./gauges.js";
import { Lane } from "./lane.js";
import { probes } from "./probes.js";
import { Switches } from "./switches.js";
import { duration, number } from "./tally.js";

const MAX_ROWS = 12;
const byId = (id) => document.getElementById(id);
const server = serverFrom(new URLSearchParams(location.search).get("server"));
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

const lanes = [...document.querySelectorAll(".lane")].map(
  (section) => new Lane(section, section.querySelector(".reply")),
);
const switches = new Switches(server, byId("switches"), byId("heal"), showStatus);
const gauges = new Gauges(server, byId("gauges"), byId("telemetry"), byId("left"));
const healthy = new Map(); // the last runs without seeded regressions, by lane and message
let runs = 0;
let running = null;

byId("server").textContent = server.host;
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  run(byId("message").value);
});
byId("stop").addEventListener("click", () => {
  for (const lane of lanes) lane.stop();
  finish();
});
byId("kind").addEventListener("change", () => {
  byId("message").value = byId("kind").value;
});
for (const { value, text } of byId("kind").options) byId("messages").append(new Option(text, value));
addEventListener("pagehide", () => lanes.forEach((lane) => lane.stop()));
begin().catch((error) => showStatus(`${server.host} does not answer: ${error.message}. Start it, and reload this page.`));

// The server in the query ?server=, if it is on this machine, else the server of the page.
function serverFrom(parameter) {
  const ownServer = new URL(location.origin);
  if (!parameter) return ownServer;
  const other = URL.canParse(parameter) ? new URL(parameter) : null;
  const isLocal = other && other.protocol === "http:" && ["127.0.0.1", "localhost"].includes(other.hostname);
  if (isLocal) return new URL(other.origin);
  showStatus(`?server=${parameter} is not a server on this machine, allowed: http://127.0.0.1:PORT`);
  return ownServer;
}

async function begin() {
  const { debug } = await (await fetch(new URL("/page/about", server))).json();
  gauges.watch(debug);
  probes(server, byId("probes"), gauges, debug);
  byId("closed").hidden = debug;
  if (debug) await switches.load();
}

function lanesFor(message) {
  const chosen = [...byId("kind").options].find((option) => option.value === message);
  const names = chosen?.dataset.lanes?.split(" ");
  return lanes.filter((lane) => !names || names.includes(lane.name));
}

function run(message) {
  if (running) return;
  const [regressions, activeLanes] = [switches.on(), lanesFor(message)];
  const key = (lane) => `${lane.name} ${message}`;
  running = { regressions, activeLanes, key };
  byId("run").disabled = true;
  byId("stop").disabled = false;
  byId("stop").focus();
  showStatus(regressions.length ? `Running with ${regressions.join(", ")}.` : "Running without seeded regressions.");
  for (const lane of lanes) {
    if (activeLanes.includes(lane)) lane.start(server, message, healthy.get(key(lane)) ?? null, finish);
    else lane.skip();
  }
  gauges.openRequests += 1;
  drawSoon();
}

function drawSoon() {
  const draw = () => {
    for (const lane of lanes) if (lane.run?.open) lane.show();
    if (running) drawSoon();
  };
  if (reducedMotion.matches) setTimeout(draw, 500);
  else requestAnimationFrame(draw);
}

function finish() {
  if (!running || running.activeLanes.some((lane) => lane.run.open)) return;
  const { regressions, activeLanes, key } = running;
  running = null;
  gauges.openRequests -= 1;
  const stopHadFocus = document.activeElement === byId("stop");
  byId("run").disabled = false;
  byId("stop").disabled = true;
  if (stopHadFocus) byId("run").focus();
  const ends = [...new Set(activeLanes.map((lane) => lane.run.end))].join("; ");
  if (!regressions.length && ends === "done") {
    for (const lane of activeLanes) healthy.set(key(lane), lane.run);
  }
  const longest = Math.max(...activeLanes.map((lane) => lane.run.tally.longest));
  runs += 1;
  showStatus(`Run ${runs} is over: ${ends}. The longest gap was ${duration(longest)}.`);
  addRow(regressions, longest, ends);
}

function addRow(regressions, longest, ends) {
  const rate = (name) => number(lanes.find((lane) => lane.name === name).run?.tally.rate);
  const row = document.createElement("tr");
  const cells = [
    runs, regressions.join(", ") || "none", rate("tokens"), rate("flushes"), rate("updates"),
    duration(longest), ends,
  ];
  for (const text of cells) row.insertCell().textContent = text;
  if (runs === 1) byId("runs").replaceChildren();
  byId("runs").prepend(row);
  if (byId("runs").rows.length > MAX_ROWS) byId("runs").lastElementChild.remove();
}

function showStatus(text) {
  byId("status").textContent = text;
}
