// The probes: requests that a user can send while the server streams, each with its result.

import { make } from "./switches.js";
import { duration, number } from "./tally.js";

const MESSAGES = 40; // of half a MiB each: more than the socket buffers of a client that reads nothing
const SIZE = 2 ** 19; // characters of a message
const [MAX_WAIT, DELIVERY_TIME] = [6_000, 500]; // milliseconds

export function probes(server, container, gauges, debug) {
  const urlOf = (path) => new URL(path, server);
  const debugReason = debug ? "" : "Needs --debug.";
  const slowReason = "WebSocketStream" in window ? debugReason : "Needs a browser with WebSocketStream.";
  const probeList = [
    ["Take a snapshot of the heap", () => snapshot(urlOf("/api/dev/heap")), debugReason],
    ["Ask for two snapshots at once", () => twoSnapshots(urlOf("/api/dev/heap")), debugReason],
    ["Broadcast beside a client that reads nothing", () => broadcastBesideSlowClient(urlOf, gauges), slowReason],
    ["Request a path that does not exist", () => missingPath(urlOf("/not-there")), ""],
    ["Send JSON nested 100,000 deep", () => deepJson(urlOf("/agents/demo/run")), ""],
  ];
  container.replaceChildren(...probeList.map(([title, send, disabledReason]) => probe(gauges, title, send, disabledReason)));
}

function probe(gauges, title, send, disabledReason) {
  const row = make("li");
  const button = make("button", { type: "button", textContent: title, disabled: disabledReason !== "" });
  const output = make("output", { textContent: disabledReason });
  button.addEventListener("click", async () => {
    if (button.ariaBusy === "true") return; // a disabled button would lose the keyboard focus
    button.ariaBusy = "true";
    output.textContent = "Waiting for the response.";
    gauges.openRequests += 1;
    try {
      output.textContent = await send();
    } catch (error) {
      output.textContent = `The page cannot read a response: ${error.message}`;
    }
    gauges.openRequests -= 1;
    button.ariaBusy = "false";
  });
  row.append(button, output);
  return row;
}

async function missingPath(address) {
  const response = await fetch(address);
  return `${response.status}: ${(await response.json()).error.type}`;
}

async function deepJson(address) {
  const response = await fetch(address, { method: "POST", body: "[".repeat(100_000) });
  return `${response.status}: ${(await response.json()).error.type}`;
}

async function snapshot(address) {
  const began = performance.now();
  const response = await fetch(address);
  if (!response.ok) return `${response.status}: ${(await response.json()).error.type}`;
  const reader = response.body.getReader();
  let [first, bytes] = [null, 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    first ??= performance.now() - began;
    bytes += value.length;
  }
  const total = performance.now() - began;
  return `${number(bytes / 2 ** 20)} MiB, the first byte after ${duration(first)}, all after ${duration(total)}`;
}

async function twoSnapshots(address) {
  const answers = await Promise.all([snapshot(address), snapshot(address)]);
  return answers.join(" | ");
}

// Broadcast while one client reads nothing. This page gets every message, too, and must not wait.
async function broadcastBesideSlowClient(urlOf, gauges) {
  const address = urlOf("/ws/telemetry");
  address.protocol = "ws:";
  const silentClient = new WebSocketStream(address);
  const { readable } = await silentClient.opened;
  const text = incompressible(SIZE);
  let received = 0;
  gauges.onMessage = (data) => {
    received += data.length === SIZE;
  };
  try {
    await publish(urlOf("/api/dev/telemetry"), text);
    const { telemetry } = await gauges.fetchMetrics();
    await pause(DELIVERY_TIME);
    const [receivedCount, resumed] = [received, await readsAgain(readable)];
    return (
      `This page received ${receivedCount} of ${MESSAGES} messages. The server buffered ` +
      `${number(telemetry.bufferedBytes / 2 ** 20)} MiB for the client that read nothing. ` +
      `Now that it reads, it gets ${resumed ? "messages again" : "no messages"}.`
    );
  } finally {
    gauges.onMessage = () => {};
    silentClient.close();
  }
}

// Publish all messages, or as many as the server accepts within the longest wait.
async function publish(address, text) {
  const signal = AbortSignal.timeout(MAX_WAIT);
  try {
    for (let sent = 0; sent < MESSAGES; sent += 1) await fetch(address, { method: "POST", body: text, signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

// Random text, because WebSockets compress their messages.
function incompressible(size) {
  const bytes = new Uint8Array((size / 4) * 3);
  for (let at = 0; at < bytes.length; at += 2 ** 16) {
    crypto.getRandomValues(bytes.subarray(at, at + 2 ** 16));
  }
  return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
}

// Return whether the client gets metrics that the server sent after the client began to read.
async function readsAgain(readable) {
  const reader = readable.getReader();
  const began = Date.now();
  const timeout = pause(MAX_WAIT).then(() => ({ done: true }));
  for (;;) {
    const { done, value } = await Promise.race([reader.read(), timeout]);
    if (done) return false;
    const reported = value.length < SIZE ? JSON.parse(value) : {};
    if (reported.timestampNs / 1e6 > began) return true;
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
