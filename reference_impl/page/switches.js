// The switches of the seeded regressions, grouped by the check that catches them.

export class Switches {
  #address;
  #container;
  #allOff;
  #showStatus;
  #regressions = [];
  #requested = []; // the names that are on after all pending requests
  #lastRequest = Promise.resolve();

  constructor(server, container, allOff, showStatus) {
    this.#address = new URL("/api/dev/regressions", server);
    this.#container = container;
    this.#allOff = allOff;
    this.#showStatus = showStatus;
    allOff.addEventListener("click", () => this.#switch([]));
  }

  on() {
    return this.#regressions.filter((regression) => regression.on).map((regression) => regression.name);
  }

  async load() {
    this.#regressions = (await (await fetch(this.#address)).json()).regressions;
    this.#build();
    this.#show();
  }

  // Requests go one after the other, in the order of the clicks; each has the names of earlier clicks.
  #switch(names) {
    this.#requested = names;
    this.#lastRequest = this.#lastRequest
      .then(() => this.#post(names))
      .catch((error) => this.#showStatus(`Nothing was switched, the server does not answer: ${error.message}`))
      .then(() => this.#requested === names && this.#show());
  }

  async #post(names) {
    const response = await fetch(this.#address, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ on: names }),
    });
    const body = await response.json();
    if (!response.ok) this.#showStatus(`Refused: ${body.error.message}`);
    else {
      this.#regressions = body.regressions;
      const kept = this.on().filter((name) => !names.includes(name));
      const on = this.on().join(", ") || "none";
      this.#showStatus(
        kept.length
          ? `${kept.join(", ")} stays: the server was started with it.`
          : `Seeded regressions from the next run on: ${on}.`,
      );
    }
  }

  #show() {
    this.#requested = this.on();
    const on = new Set(this.#requested);
    this.#allOff.hidden = !on.size;
    for (const box of this.#container.querySelectorAll("input")) box.checked = on.has(box.value);
    for (const group of this.#container.querySelectorAll("details")) {
      const count = group.querySelectorAll("input:checked").length;
      group.querySelector(".count").textContent = count ? `${count} on` : "";
    }
  }

  #build() {
    const groups = Map.groupBy(this.#regressions, (regression) => regression.check);
    // The groups with a regression that shows on the page come first and are open.
    const shows = ([, group]) => group.some((regression) => regression.shows);
    const sorted = [...groups].sort((one, other) => shows(other) - shows(one));
    this.#container.replaceChildren(...sorted.map(([check, group]) => this.#group(check, group, shows([0, group]))));
  }

  #group(check, regressions, open) {
    const details = make("details", { open });
    const summary = make("summary");
    summary.append(make("code", { textContent: check }), make("span", { className: "count" }));
    details.append(summary, ...regressions.map((regression) => this.#row(regression)));
    return details;
  }

  #row({ name, check, story, shows }) {
    const row = make("div", { className: "switch" });
    const box = make("input", { type: "checkbox", id: `switch-${name}`, value: name });
    box.setAttribute("role", "switch");
    box.setAttribute("aria-describedby", `story-${name}`);
    box.addEventListener("change", () => {
      const otherNames = this.#requested.filter((onName) => onName !== name);
      this.#switch(box.checked ? [...otherNames, name] : otherNames);
    });
    const about = make("p", { id: `story-${name}` });
    about.append(make("span", { textContent: `${story} ` }));
    about.append(
      shows
        ? make("span", { className: "shows", textContent: shows })
        : make("span", { className: "hides", textContent: `Not visible on this page; ${check} catches it.` }),
    );
    row.append(box, make("label", { htmlFor: box.id, textContent: name }), about);
    return row;
  }
}

export function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}
