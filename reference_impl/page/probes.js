// What can be asked of the server while it streams, and what came of it.

import { make } from "./switches.js";
import { duration, number } from "./tally.js";

const MESSAGES = 40; // of half a MiB: more than the sockets of a client that reads nothing hold
const SIZE = 2 ** 19;
const [PATIENCE, ON_ITS_WAY] = [6_000, 500]; // milliseconds

export function probes(server, place, gauges, debug) {
  const to = (path) => new URL(path, server);
  const closed = debug ? "" : "Only with --debug.";
  const slow = "WebSocketStream" in window ? closed : "Not in this browser: it has no WebSocketStream.";
  const offered = [
    ["Take a snapshot of the heap", () => snapshot(to("/api/dev/heap")), closed],
    ["Ask for two snapshots at once", () => twice(to("/api/dev/heap")), closed],
    ["Broadcast beside a client that reads nothing", () => crowd(to, gauges), slow],
    ["Ask for what is not there", () => missing(to("/not-there")), ""],
    ["Send JSON nested 100,000 deep", () => deep(to("/agents/demo/run")), ""],
  ];
  place.replaceChildren(...offered.map(([title, ask, hindered]) => probe(gauges, title, ask, hindered)));
}

function probe(gauges, title, ask, hindered) {
  const row = make("li");
  const button = make("button", { type: "button", textContent: title, disabled: hindered !== "" });
  const said = make("output", { textContent: hindered });
  button.addEventListener("click", async () => {
    if (button.ariaBusy === "true") return; // it stays enabled, or the keyboard would lose its place
    button.ariaBusy = "true";
    said.textContent = "Asked.";
    gauges.open += 1;
    try {
      said.textContent = await ask();
    } catch (error) {
      said.textContent = `No answer can be read: ${error.message}`;
    }
    gauges.open -= 1;
    button.ariaBusy = "false";
  });
  row.append(button, said);
  return row;
}

async function missing(address) {
  const answer = await fetch(address);
  return `${answer.status}: ${(await answer.json()).error.type}`;
}

async function deep(address) {
  const answer = await fetch(address, { method: "POST", body: "[".repeat(100_000) });
  return `${answer.status}: ${(await answer.json()).error.type}`;
}

async function snapshot(address) {
  const began = performance.now();
  const answer = await fetch(address);
  if (!answer.ok) return `${answer.status}: ${(await answer.json()).error.type}`;
  const reader = answer.body.getReader();
  let [first, bytes] = [null, 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    first ??= performance.now() - began;
    bytes += value.length;
  }
  const all = performance.now() - began;
  return `${number(bytes / 2 ** 20)} MiB, the first after ${duration(first)}, all after ${duration(all)}`;
}

async function twice(address) {
  const answers = await Promise.all([snapshot(address), snapshot(address)]);
  return answers.join(" | ");
}

// This page is told of every message too, and should not notice who else is behind.
async function crowd(to, gauges) {
  const address = to("/ws/telemetry");
  address.protocol = "ws:";
  const slow = new WebSocketStream(address);
  const { readable } = await slow.opened;
  const text = incompressible(SIZE);
  let heard = 0;
  gauges.heard = (data) => {
    heard += data.length === SIZE;
  };
  try {
    await publish(to("/api/dev/telemetry"), text);
    const { telemetry } = await gauges.ask();
    await pause(ON_ITS_WAY);
    const [got, later] = [heard, await readsAgain(readable)];
    return (
      `This page got ${got} of ${MESSAGES} messages, ${number(telemetry.bufferedBytes / 2 ** 20)} MiB were ` +
      `kept for the other, which ${later ? "is told again" : "is told nothing more"} since it reads.`
    );
  } finally {
    gauges.heard = () => {};
    slow.close();
  }
}

// All of them, or as many as the server takes while there is patience.
async function publish(address, text) {
  const signal = AbortSignal.timeout(PATIENCE);
  try {
    for (let sent = 0; sent < MESSAGES; sent += 1) await fetch(address, { method: "POST", body: text, signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

// WebSockets compress what they are sent, and this is as large as it looks.
function incompressible(size) {
  const bytes = new Uint8Array((size / 4) * 3);
  for (let at = 0; at < bytes.length; at += 2 ** 16) {
    crypto.getRandomValues(bytes.subarray(at, at + 2 ** 16));
  }
  return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
}

// Whether it is told of what comes up after it began to read: the server's metrics, every second.
async function readsAgain(readable) {
  const reader = readable.getReader();
  const began = Date.now();
  const late = pause(PATIENCE).then(() => ({ done: true }));
  for (;;) {
    const { done, value } = await Promise.race([reader.read(), late]);
    if (done) return false;
    const told = value.length < SIZE ? JSON.parse(value) : {};
    if (told.timestampNs / 1e6 > began) return true;
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
