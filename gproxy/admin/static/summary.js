// What there is to know at once: a sentence, some numbers, and which gproxy this is.

import { byId, element, setAttribute, setText } from "./dom.js";
import { canServe, stateOf } from "./strips.js";
import { bytes, count, duration, list, percent, plural, span } from "./words.js";

const SILENT = 3; // seconds without a sign of life after which a worker is worth a word
const RECENT = 60; // seconds

const REASONS = { down: "down", drain: "drained", maint: "in maintenance", ejected: "ejected after failures" };

export function summarise(data, state, http) {
  const { word, sentence } = verdict(state);
  setAttribute(document.querySelector(".verdict"), "data-state", word);
  setText(byId("verdict"), sentence);
  setText(byId("route"), route(state));
  setText(byId("facts"), facts(state));
  document.title = `${{ good: "", mixed: "⚠ ", bad: "✖ ", waiting: "" }[word]}gproxy: ${sentence.toLowerCase()}`;
  tiles(data, state, http).forEach(showTile);
}

function verdict(state) {
  if (state.ending) return { word: "mixed", sentence: "gproxy is stopping: its sessions may end, nobody new is served" };
  const backends = state.upstreams.flatMap((upstream) => upstream.backends);
  const lost = state.upstreams.filter((upstream) => !upstream.can_serve);
  if (lost.length) return { word: "bad", sentence: `No backend of ${list(lost.map(({ name }) => name))} can serve` };
  const out = backends.filter((backend) => !canServe(backend));
  if (!out.length) {
    const all = backends.length === 1 ? "The backend" : `All ${backends.length} backends`;
    return { word: "good", sentence: `${all} can serve` };
  }
  const reasons = Object.entries(REASONS).map(([state_, words]) => {
    const names = out.filter((backend) => stateOf(backend) === state_).map(({ name }) => name);
    return names.length ? `${list(names)} ${names.length > 1 ? "are" : "is"} ${words}` : "";
  });
  const broken = out.some((backend) => ["down", "ejected"].includes(stateOf(backend)));
  const able = backends.length - out.length;
  return {
    word: broken ? "mixed" : "good",
    sentence: `${able} of ${backends.length} backends can serve: ${reasons.filter(Boolean).join(", ")}`,
  };
}

function route({ listeners }) {
  const at = listeners.map(({ address, mode, upstreams }) => `${address} (${mode}) for ${list(upstreams)}`);
  return `gproxy takes clients' connections at ${list(at)}, and spreads them over the backends below.`;
}

function facts(state) {
  const silent = state.workers.filter(({ seen }) => seen === null || seen > SILENT).length;
  const workers = plural(state.workers.length, "worker") + (silent ? `, ${silent} without a sign of life` : "");
  return `version ${state.version} · configuration ${state.generation} · up ${span(state.uptime)} · ${workers}`;
}

function tiles(data, state, http) {
  const backends = state.upstreams.flatMap((upstream) => upstream.backends);
  const kind = http ? "response_time" : "connect_time";
  const traffic = http ? "requests" : "accepted";
  const failed = data.share(http ? "responses_5xx" : "failed", http ? "requests" : "ended", RECENT);
  const late = data.lately(`${kind}_p95`, RECENT);
  const rate = data.last(traffic);
  const flow = data.last("bytes_out");
  return [
    [http ? "Requests" : "New connections", rate === null ? "–" : count(rate), "per second"],
    [http ? "Response time" : "Time to connect", late === null ? "–" : duration(late),
      late === null ? "no request in the last minute" : "95 of 100 were no slower"],
    ["Errors", failed === null ? "–" : percent(failed), errorsIn(failed, http), failed > 0.01 ? "bad" : "plain"],
    ["Clients", count(state.sessions), "connected now"],
    ["Data", flow === null ? "–" : `${bytes(flow)}/s`, "to clients"],
    ["Backends", `${backends.filter(canServe).length} of ${backends.length}`, "can serve"],
  ];
}

function errorsIn(failed, http) {
  if (failed === null) return http ? "no request in the last minute" : "no session ended in the last minute";
  return http ? "of the last minute's answers are 5xx" : "of the last minute's sessions failed";
}

function showTile([name, value, about, state = "plain"], i) {
  const node = byId("tiles").children[i] ?? byId("tiles").appendChild(
    element("div", { class: "card tile" }, element("dt"), element("dd", { class: "value" }), element("dd", { class: "about" })),
  );
  setAttribute(node, "data-state", state);
  [name, value, about].forEach((text, part) => setText(node.children[part], text));
}
