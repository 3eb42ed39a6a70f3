// The last ten minutes of a backend as a strip of its states, the latest at the right.

import { setAttribute, svg } from "./dom.js";
import { span } from "./words.js";

const WORDS = {
  up: "up", unchecked: "not checked", down: "down", ejected: "ejected", drain: "drained", maint: "in maintenance",
};

export class Strips {
  // `strips` has a letter per sample, by upstream and backend; `states` says what each letter means.
  constructor({ strips, states, period, length }) {
    this.states = states;
    this.period = period;
    this.length = length;
    this.letters = new Map();
    for (const [upstream, backends] of Object.entries(strips)) {
      for (const [name, text] of Object.entries(backends)) this.letters.set(`${upstream}/${name}`, text);
    }
  }

  add(label, state) {
    this.letters.set(label, ((this.letters.get(label) ?? "") + letterOf(this.states, state)).slice(-this.length));
  }

  draw(node, label) {
    const text = this.letters.get(label) ?? "";
    setAttribute(node, "aria-label", this.#inWords(text));
    if (node.dataset.letters === text) return;
    node.dataset.letters = text;
    const start = this.length - text.length;
    node.replaceChildren(...runs(text).map(({ letter, from, to }) =>
      svg("rect", { x: start + from, y: 0, width: to - from, height: 1, class: this.states[letter] })));
  }

  #inWords(text) {
    const found = Object.entries(WORDS).map(([state, words]) => {
      const samples = [...text].filter((letter) => this.states[letter] === state).length;
      return samples ? `${words} for ${span(samples * this.period)}` : "";
    });
    return `In the last 10 minutes: ${found.filter(Boolean).join(", ") || "nothing is known yet"}`;
  }

  node() {
    return svg("svg", {
      class: "strip", viewBox: `0 0 ${this.length} 1`, preserveAspectRatio: "none", role: "img",
      "shape-rendering": "crispEdges",
    });
  }
}

function letterOf(states, state) {
  return Object.keys(states).find((letter) => states[letter] === state);
}

function runs(text) {
  const found = [];
  [...text].forEach((letter, i) => {
    if (found.at(-1)?.letter === letter) found.at(-1).to = i + 1;
    else found.push({ letter, from: i, to: i + 1 });
  });
  return found;
}

// As the history has it: what operators say comes first, then checks, then what workers met.
export function stateOf(backend) {
  if (backend.administrative !== "ready") return backend.administrative;
  if (backend.operational === "down") return "down";
  if (backend.ejected) return "ejected";
  return backend.operational === "up" ? "up" : "unchecked";
}

export const canServe = (backend) => ["up", "unchecked"].includes(stateOf(backend));
