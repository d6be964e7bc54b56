// The metrics of the server: over its WebSocket every second, and with --debug from /api/dev/metrics,
// which also has the bytes that the server buffers for slow clients.

import { pair } from "./lane.js";

const KEEP_ALIVE_EVERY = 10_000; // milliseconds; the server closes a client that is silent for 30 s
const RECONNECT_AFTER = 2_000; // milliseconds after the WebSocket was closed
const FIRST_GAUGES = ["pendingRequests", "pendingWebSockets", "activeConnections"];
const INTEGER = new Intl.NumberFormat("en");

export class Gauges {
  openRequests = 0; // requests of this page that are in flight
  onMessage = () => {}; // a probe sets it to get every message of the WebSocket
  #server;
  #list;
  #status;
  #leakNotice;
  #mismatches = 0;
  #debug = false;
  #cells = new Map();

  constructor(server, list, status, leakNotice) {
    this.#server = server;
    this.#list = list;
    this.#status = status;
    this.#leakNotice = leakNotice;
  }

  watch(debug) {
    this.#debug = debug;
    const address = new URL("/ws/telemetry", this.#server);
    address.protocol = "ws:";
    const socket = new WebSocket(address);
    const keepAlive = setInterval(() => socket.readyState === WebSocket.OPEN && socket.send("ping"), KEEP_ALIVE_EVERY);
    socket.addEventListener("message", ({ data }) => this.#receive(data));
    socket.addEventListener("close", () => {
      clearInterval(keepAlive);
      this.#status.textContent = "The server does not answer. Trying again.";
      setTimeout(() => this.watch(debug), RECONNECT_AFTER);
    });
  }

  // The current metrics of the server; needs --debug.
  async fetchMetrics() {
    const answer = await fetch(new URL("/api/dev/metrics", this.#server));
    const { metrics, telemetry } = await answer.json();
    return { ...metrics, telemetry };
  }

  async #receive(data) {
    this.onMessage(data);
    let reported = null;
    try {
      reported = JSON.parse(data).metrics;
    } catch {
      // A broadcast text need not be JSON.
    }
    if (!reported) return;
    const { totals, telemetry = {}, ...gauges } = this.#debug ? await this.fetchMetrics() : reported;
    this.#status.textContent = "Updated every second over /ws/telemetry.";
    for (const name of FIRST_GAUGES) this.#show(name, gauges[name]);
    for (const [name, value] of Object.entries({ ...telemetry, ...totals })) this.#show(name, value);
    this.#compare(gauges.pendingRequests);
  }

  #show(name, value) {
    if (!this.#cells.has(name)) {
      const cell = document.createElement("dd");
      cell.dataset.gauge = name;
      this.#list.append(pair(name, cell));
      this.#cells.set(name, cell);
    }
    const cell = this.#cells.get(name);
    const text = INTEGER.format(value);
    cell.classList.toggle("off", value < 0);
    if (cell.textContent !== text) cell.textContent = text;
  }

  #compare(pending) {
    // A request that has just ended may still be counted once, so one mismatch is no leak.
    this.#mismatches = this.openRequests || pending === 0 ? 0 : this.#mismatches + 1;
    this.#leakNotice.hidden = this.#mismatches < 2;
    if (this.#mismatches > 1) this.#leakNotice.textContent = `No request of this page is open, but the server counts ${pending}.`;
  }
}
