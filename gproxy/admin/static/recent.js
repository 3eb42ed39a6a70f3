// Recent changes, told by the stream; and recent decisions, which are asked for now and then.

import { read } from "./api.js";
import { byId, element, setText } from "./dom.js";
import { ago, clock } from "./words.js";

const MOST_FLIPS = 100;
const LAST = 20; // decisions
const ORDERS = { ready: "made ready", drain: "drained", maint: "put in maintenance" };
const KINDS = { up: "up", down: "down", ejected: "ejected", returned: "up", asked: "asked", began: "began", failed: "down" };

export class Flips {
  constructor() {
    byId("flips").replaceChildren();
  }

  add(flips, offset) {
    for (const flip of flips) byId("flips").prepend(entry(flip, offset));
    while (byId("flips").children.length > MOST_FLIPS) byId("flips").lastChild.remove();
    byId("flips-empty").hidden = byId("flips").children.length > 0;
  }
}

function entry({ at, kind, what, upstream, backend, why, who }, offset) {
  const when = at + offset;
  const of = backend ? [element("strong", {}, `${upstream}/${backend}`), " "] : [];
  const more = [why, who ? `asked for by ${who}` : ""].filter(Boolean).join("; ");
  const said = what.replace(/administrative (\w+)/, (_all, state) => ORDERS[state]);
  return element(
    "li", { class: KINDS[kind] ?? "began" },
    element("time", { datetime: new Date(when * 1000).toISOString() }, clock(when)),
    element("span", {}, ...of, said, more ? element("small", {}, more) : null),
  );
}

export async function showDecisions() {
  const { decisions } = await read(`v1/decisions?last=${LAST}`);
  byId("decisions").hidden = decisions.length === 0;
  byId("decisions-empty").hidden = decisions.length > 0;
  const body = byId("decisions").tBodies[0];
  decisions.forEach((decision, i) => {
    const row = body.rows[i] ?? body.appendChild(element("tr", {}, ...Array.from({ length: 4 }, () => element("td"))));
    cells(decision).forEach((text, cell) => setText(row.cells[cell], text));
    row.className = decision.backend === null ? "none" : "";
  });
  while (body.rows.length > decisions.length) body.lastChild.remove();
}

function cells({ ago: seconds, client, upstream, backend, queued, excluded }) {
  const chosen = backend === null ? (queued ? "waits: all are full" : "none") : `${upstream}/${backend}`;
  return [ago(seconds), client, chosen, excluded.map((out) => `${out.backend}: ${out.reason}`).join("; ") || "–"];
}
