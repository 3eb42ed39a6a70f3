// The page: follows the stream and shows what it tells.

import { follow, keepToken } from "./api.js";
import { Backends } from "./backends.js";
import { Charts } from "./charts.js";
import { Data } from "./data.js";
import { byId, setAttribute, setText } from "./dom.js";
import { Flips, showDecisions } from "./recent.js";
import { Strips, stateOf } from "./strips.js";
import { summarise } from "./summary.js";
import { clock } from "./words.js";

const DECISIONS_EVERY = 5000; // ms: each time all workers are asked

const charts = new Charts();
const backends = new Backends();
let data = null;
let strips = null;
let flips = null;
let stop = null; // ends the stream; null while it is ended

function begin() {
  stop = follow({ event: take, state: showConnection, token: askForToken });
}

function end() {
  stop?.();
  stop = null;
}

function take(kind, news) {
  if (kind === "snapshot") {
    data = new Data(news);
    strips = new Strips(news);
    flips = new Flips();
    backends.forget();
    byId("login").hidden = true;
    byId("dashboard").hidden = false;
    byId("about").hidden = false;
    byId("pause").hidden = false;
  } else if (data) {
    data.add(news);
    if (news.samples.length) addStates(news.state);
  }
  backends.learn(news.flips, data.offset);
  flips.add(news.flips, data.offset);
  show(news);
}

function addStates({ upstreams }) {
  for (const { name, backends: members } of upstreams) {
    for (const backend of members) strips.add(`${name}/${backend.name}`, stateOf(backend));
  }
}

function show({ state, samples, now }) {
  const http = state.listeners.some(({ mode }) => mode === "http");
  const count = state.upstreams.reduce((sum, upstream) => sum + upstream.backends.length, 0);
  summarise(data, state, http);
  charts.draw(data, { http, backends: count });
  backends.show(state, strips, { now, fresh: samples.length > 0, http });
}

function showConnection(state, seconds) {
  const words = { live: "Live", lost: data ? `Lost at ${clock(data.now)}` : "No answer", paused: "Paused" };
  setAttribute(byId("connection"), "data-state", state);
  setText(byId("connection"), words[state]);
  setAttribute(byId("connection"), "title", state === "lost" ? `The next try is in ${seconds} s` : "");
  document.body.classList.toggle("stale", state === "lost");
}

function askForToken(wrong) {
  end();
  byId("dashboard").hidden = true;
  byId("about").hidden = true;
  byId("pause").hidden = true;
  byId("login").hidden = false;
  setAttribute(byId("connection"), "data-state", "paused");
  setText(byId("connection"), "Locked");
  setText(byId("login-error"), wrong ? "That token was not accepted." : "");
  byId("token").value = "";
  byId("token").focus();
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  begin();
});

byId("pause").addEventListener("click", () => {
  const pauses = stop !== null;
  setAttribute(byId("pause"), "aria-pressed", String(pauses));
  if (pauses) {
    end();
    showConnection("paused");
  } else begin();
});

async function askForDecisions() {
  if (stop && data && !document.hidden) await showDecisions().catch(() => {}); // the stream says what is wrong
  setTimeout(askForDecisions, data ? DECISIONS_EVERY : 250);
}

begin();
askForDecisions();
