// What the server counts: from its WebSocket every second, and with --debug what it keeps for others.

import { pair } from "./lane.js";

const STAY = 10_000; // milliseconds: who says nothing for 30 s is hung up on
const AGAIN = 2_000;
const ORDER = ["pendingRequests", "pendingWebSockets", "activeConnections"];
const SHOWN = new Intl.NumberFormat("en");

export class Gauges {
  open = 0; // what this page asks for now
  heard = () => {}; // whoever wants every message of the WebSocket
  #server;
  #list;
  #note;
  #left;
  #adrift = 0;
  #debug = false;
  #cells = new Map();

  constructor(server, list, note, left) {
    this.#server = server;
    this.#list = list;
    this.#note = note;
    this.#left = left;
  }

  watch(debug) {
    this.#debug = debug;
    const address = new URL("/ws/telemetry", this.#server);
    address.protocol = "ws:";
    const socket = new WebSocket(address);
    const staying = setInterval(() => socket.readyState === WebSocket.OPEN && socket.send("ping"), STAY);
    socket.addEventListener("message", ({ data }) => this.#hear(data));
    socket.addEventListener("close", () => {
      clearInterval(staying);
      this.#note.textContent = "The server is not there. Trying again.";
      setTimeout(() => this.watch(debug), AGAIN);
    });
  }

  // What the server says of itself, now: only with --debug.
  async ask() {
    const answer = await fetch(new URL("/api/dev/metrics", this.#server));
    const { metrics, telemetry } = await answer.json();
    return { ...metrics, telemetry };
  }

  async #hear(data) {
    this.heard(data);
    let told = null;
    try {
      told = JSON.parse(data).metrics;
    } catch {
      // Somebody's broadcast, which need not be JSON.
    }
    if (!told) return;
    const { totals, telemetry = {}, ...gauges } = this.#debug ? await this.ask() : told;
    this.#note.textContent = "Told every second over /ws/telemetry.";
    for (const name of ORDER) this.#show(name, gauges[name]);
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
    const text = SHOWN.format(value);
    cell.classList.toggle("off", value < 0);
    if (cell.textContent !== text) cell.textContent = text;
  }

  #compare(pending) {
    // What has just been left may be counted once more.
    this.#adrift = this.open || pending === 0 ? 0 : this.#adrift + 1;
    this.#left.hidden = this.#adrift < 2;
    if (this.#adrift > 1) this.#left.textContent = `Nothing is open on this page, and the server counts ${pending}.`;
  }
}
