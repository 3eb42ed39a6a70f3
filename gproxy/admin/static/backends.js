// A table of backends for each upstream, with buttons that drain one and make it ready again.

import { change } from "./api.js";
import { byId, element, setAttribute, setText } from "./dom.js";
import { canServe, stateOf } from "./strips.js";
import { clock, count, list, plural } from "./words.js";

const WORDS = {
  up: "up", down: "down", ejected: "ejected", drain: "drained", maint: "in maintenance", unchecked: "not checked",
};
const COLUMNS = [
  ["Backend", "backend"], ["State", "state"], ["Last 10 minutes", "history"], ["Requests/s", "number"],
  ["In use", "number"], ["Idle", "number"], ["Waiting", "number"], ["Failed connects", "number"], ["Weight", "number"],
  ["Action", "action"],
];
const POLICIES = {
  round_robin: "in turn, by weight", least_connections: "to the one with the fewest connections in use",
  p2c: "to the freer one of two chosen at random", random: "at random", source_hash: "by the client's address",
  hash: "by a hash of the request", python: "by a Python function",
};

export class Backends {
  #rows = new Map();
  #of = "";
  #counted = new Map(); // requests so far, at the last sample
  #state = null;
  #why = new Map(); // the last flip of each and each kind

  constructor() {
    byId("ask").addEventListener("close", () => this.#answered());
  }

  // `fresh` where the news bring a sample: rates are measured from one to the next.
  show(state, strips, { now, fresh, http }) {
    this.#state = state;
    this.strips = strips;
    const of = JSON.stringify(state.upstreams.map(({ name, backends }) => [name, backends.map((b) => b.name)]));
    if (of !== this.#of) {
      this.#of = of;
      this.#build(http);
    }
    for (const { name: upstream, backends } of state.upstreams) {
      for (const backend of backends) {
        const label = `${upstream}/${backend.name}`;
        if (fresh) this.#measure(label, backend, now);
        this.#showRow(label, backend);
      }
    }
  }

  // Flips tell why and since when.
  learn(flips, offset) {
    for (const { upstream, backend, kind, why, at } of flips) {
      if (["up", "down", "ejected"].includes(kind)) {
        this.#why.set(`${upstream}/${backend} ${kind}`, { why, at: at + offset });
      }
    }
  }

  forget() {
    this.#counted.clear();
    this.#why.clear();
  }

  #measure(label, backend, now) {
    const done = backend.counters.connects + backend.counters.reuses;
    const before = this.#counted.get(label);
    const rate = before && now > before.now ? Math.max(0, done - before.done) / (now - before.now) : null;
    this.#counted.set(label, { done, now, rate });
  }

  #build(http) {
    this.#rows.clear();
    byId("upstreams").replaceChildren(...this.#state.upstreams.map((upstream) => this.#table(upstream, http)));
  }

  #table({ name, balance, backends }, http) {
    const titles = COLUMNS.map(([title, kind]) => [title === "Requests/s" && !http ? "Sessions/s" : title, kind]);
    const id = `upstream-${this.#rows.size}`;
    return element(
      "div", { class: "card upstream" },
      element("h3", { id }, name, " ", element("small", {}, `${http ? "requests" : "sessions"} go ${POLICIES[balance] ?? balance}`)),
      element(
        "table", { role: "table", "aria-labelledby": id },
        element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...titles.map(([title, kind]) =>
          element("th", { role: "columnheader", scope: "col", class: kind }, title)))),
        element("tbody", { role: "rowgroup" }, ...backends.map((backend) => this.#row(name, backend, titles))),
      ),
    );
  }

  #row(upstream, backend, titles) {
    const label = `${upstream}/${backend.name}`;
    const cells = titles.map(([title, kind], i) =>
      element(i ? "td" : "th", { role: i ? "cell" : "rowheader", scope: i ? null : "row", class: kind, "data-title": title }));
    const [name, state, history] = cells;
    name.append(element("strong", {}, backend.name), element("small", {}));
    state.append(element("span", { class: "badge" }), element("small", {}));
    history.append(this.strips.node());
    const button = element("button", { type: "button" });
    button.addEventListener("click", () => this.#ask(upstream, backend.name));
    cells.at(-1).append(button);
    this.#rows.set(label, { cells, button });
    return element("tr", { role: "row" }, ...cells);
  }

  #showRow(label, backend) {
    const { cells, button } = this.#rows.get(label);
    const [name, state, history, ...numbers] = cells;
    const found = stateOf(backend);
    setAttribute(cells[0].parentNode, "data-state", found);
    setText(name.lastChild, address(backend));
    setText(state.firstChild, WORDS[found]);
    setAttribute(state.firstChild, "class", `badge ${found}`);
    setText(state.lastChild, this.#details(label, backend, found));
    this.strips.draw(history.firstChild, label);
    const rate = this.#counted.get(label)?.rate ?? null;
    const shown = [rate, backend.active, backend.idle, backend.queue, backend.counters.connect_failures, backend.weight];
    shown.forEach((value, i) => setText(numbers[i], value === null ? "–" : count(value)));
    const ready = backend.administrative === "ready";
    setText(button, ready ? "Drain" : "Make ready");
    setAttribute(button, "aria-label", `${button.textContent} ${backend.name}`);
  }

  #details(label, backend, found) {
    const why = this.#why.get(`${label} ${found}`);
    if (found === "drain" || found === "maint") {
      if (backend.operational === "down") return "and down";
      return backend.active ? `${plural(backend.active, "connection")} to end` : "no connection left";
    }
    if (!why) return "";
    const since = `since ${clock(why.at)}`;
    return found === "down" && why.why ? `${since}: ${why.why.replace("check failed: ", "").replace(`${backend.address}: `, "")}` : since;
  }

  // The dialog.

  #ask(upstream, name) {
    const { backends } = this.#state.upstreams.find((each) => each.name === upstream);
    const backend = backends.find((each) => each.name === name);
    const others = backends.filter((each) => each !== backend && canServe(each)).map((each) => each.name);
    const drains = backend.administrative === "ready";
    this.asked = { upstream, name, administrative: drains ? "drain" : "ready" };
    setText(byId("ask-title"), drains ? `Drain ${name}?` : `Make ${name} ready?`);
    setText(byId("ask-text"), drains ? drainText(backend, others) : readyText(backend));
    byId("ask-warning").hidden = !drains || others.length > 0;
    setText(byId("ask-warning"), `No other backend of ${upstream} can serve: its clients will get errors.`);
    setText(byId("ask-yes"), drains ? "Drain" : "Make ready");
    byId("ask").returnValue = "no"; // as Escape leaves it
    byId("ask").showModal();
  }

  async #answered() {
    if (byId("ask").returnValue !== "yes") return;
    const { upstream, name, administrative } = this.asked;
    const path = `v1/upstreams/${encodeURIComponent(upstream)}/backends/${encodeURIComponent(name)}`;
    try {
      const backend = await change(path, { administrative });
      this.#showRow(`${upstream}/${name}`, backend);
      tell(administrative === "ready" ? `${name} is ready.` : `${name} is drained: it gets no new connections.`);
    } catch (error) {
      tell(`That did not work: ${error.message}.`, true);
    }
  }
}

function drainText(backend, others) {
  const now = backend.active ? ` The ${plural(backend.active, "connection")} in use may end in peace.` : "";
  const rest = others.length ? ` ${list(others)} will serve in its place.` : "";
  return `It gets no new connections until you make it ready again.${now}${rest}`;
}

function readyText(backend) {
  if (backend.operational === "down") return "The health checks say that it is down: it gets requests once they pass.";
  return "It gets its share of new requests again.";
}

function address(backend) {
  const notes = [backend.address === backend.name ? "" : backend.address, backend.backup ? "backup" : ""];
  if (backend.max_connections !== null) notes.push(`at most ${plural(backend.max_connections, "connection")}`);
  return notes.filter(Boolean).join(", ");
}

function tell(text, bad = false) {
  byId("notice").className = bad ? "notice bad" : "notice";
  byId("notice").textContent = text;
}
