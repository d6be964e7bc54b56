// A switch for each regression of the server, by the check that catches it.

export class Switches {
  #address;
  #place;
  #heal;
  #say;
  #listed = [];
  #wanted = []; // what is on when all that was asked for is answered
  #answered = Promise.resolve();

  constructor(server, place, heal, say) {
    this.#address = new URL("/api/dev/regressions", server);
    this.#place = place;
    this.#heal = heal;
    this.#say = say;
    heal.addEventListener("click", () => this.#switch([]));
  }

  on() {
    return this.#listed.filter((each) => each.on).map((each) => each.name);
  }

  async load() {
    this.#listed = (await (await fetch(this.#address)).json()).regressions;
    this.#build();
    this.#show();
  }

  // One after the other, and each with what was clicked before it.
  #switch(names) {
    this.#wanted = names;
    this.#answered = this.#answered
      .then(() => this.#ask(names))
      .catch((error) => this.#say(`Nothing was switched, the server does not answer: ${error.message}`))
      .then(() => this.#wanted === names && this.#show());
  }

  async #ask(names) {
    const answer = await fetch(this.#address, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ on: names }),
    });
    const told = await answer.json();
    if (!answer.ok) this.#say(`Refused: ${told.error.message}`);
    else {
      this.#listed = told.regressions;
      const kept = this.on().filter((name) => !names.includes(name));
      const on = this.on().join(", ") || "none";
      this.#say(
        kept.length
          ? `${kept.join(", ")} stays: the server was started with it.`
          : `Mistakes from the next run on: ${on}.`,
      );
    }
  }

  #show() {
    this.#wanted = this.on();
    const on = new Set(this.#wanted);
    this.#heal.hidden = !on.size;
    for (const box of this.#place.querySelectorAll("input")) box.checked = on.has(box.value);
    for (const group of this.#place.querySelectorAll("details")) {
      const count = group.querySelectorAll("input:checked").length;
      group.querySelector(".count").textContent = count ? `${count} on` : "";
    }
  }

  #build() {
    const groups = Map.groupBy(this.#listed, (each) => each.check);
    // Those that show something on the page come first, and are open.
    const shows = ([, group]) => group.some((each) => each.shows);
    const sorted = [...groups].sort((one, other) => shows(other) - shows(one));
    this.#place.replaceChildren(...sorted.map(([check, group]) => this.#group(check, group, shows([0, group]))));
  }

  #group(check, regressions, open) {
    const details = make("details", { open });
    const summary = make("summary");
    summary.append(make("code", { textContent: check }), make("span", { className: "count" }));
    details.append(summary, ...regressions.map((each) => this.#row(each)));
    return details;
  }

  #row({ name, check, story, shows }) {
    const row = make("div", { className: "switch" });
    const box = make("input", { type: "checkbox", id: `switch-${name}`, value: name });
    box.setAttribute("role", "switch");
    box.setAttribute("aria-describedby", `story-${name}`);
    box.addEventListener("change", () => {
      const others = this.#wanted.filter((each) => each !== name);
      this.#switch(box.checked ? [...others, name] : others);
    });
    const about = make("p", { id: `story-${name}` });
    about.append(make("span", { textContent: `${story} ` }));
    about.append(
      shows
        ? make("span", { className: "shows", textContent: shows })
        : make("span", { className: "hides", textContent: `Not to be seen here: ${check} tells.` }),
    );
    row.append(box, make("label", { htmlFor: box.id, textContent: name }), about);
    return row;
  }
}

export function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}
