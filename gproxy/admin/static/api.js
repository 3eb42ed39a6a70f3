// Asks gproxy: plain requests, and the stream of server-sent events. EventSource can't send a token: fetch can.

const KEY = "gproxy-token";
const SILENCE = 25000; // ms without a byte after which the stream is taken for dead
const FIRST_WAIT = 1000; // ms until the next try, doubled each time
const LONGEST_WAIT = 15000;

export const keepToken = (token) => sessionStorage.setItem(KEY, token);

const hasToken = () => sessionStorage.getItem(KEY) !== null;

function fields() {
  return hasToken() ? { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` } : {};
}

export async function read(path) {
  return granted(await fetch(path, { headers: fields(), signal: AbortSignal.timeout(10000) }));
}

export async function change(path, body) {
  const headers = { ...fields(), "Content-Type": "application/json" };
  const signal = AbortSignal.timeout(10000);
  return granted(await fetch(path, { method: "PUT", headers, body: JSON.stringify(body), signal }));
}

async function granted(response) {
  const document = await response.json();
  if (!response.ok) throw new Error(document.error);
  return document;
}

// Server-sent events (HTML, section 9.2) from pieces of text that may end anywhere: returns what takes a piece.
export function parser(onEvent) {
  let rest = "";
  let kind = "";
  let data = [];
  const line = (text) => {
    if (text === "") {
      if (data.length) onEvent(kind || "message", data.join("\n"));
      kind = "";
      data = [];
    } else if (text.startsWith("event:")) kind = text.slice(6).replace(/^ /, "");
    else if (text.startsWith("data:")) data.push(text.slice(5).replace(/^ /, ""));
  };
  return (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    lines.forEach(line);
  };
}

class Refused extends Error {}

// Reads the stream until `stop` is called, and begins again when it breaks off. What happens is told:
// on.event(kind, document), on.state("live" | "lost", seconds until the next try), on.token(whether one was wrong).
export function follow(on) {
  const stopped = new AbortController();
  run(on, stopped.signal);
  return () => stopped.abort();
}

async function run(on, stopped) {
  let wait = FIRST_WAIT;
  while (!stopped.aborted) {
    try {
      await once(stopped, (kind, document) => {
        wait = FIRST_WAIT;
        on.state("live");
        on.event(kind, document);
      });
      wait = FIRST_WAIT / 4; // it was ended in order, as at a reload: the next steward is there soon
    } catch (error) {
      if (stopped.aborted) return;
      if (error instanceof Refused) return on.token(hasToken());
    }
    if (stopped.aborted) return;
    on.state("lost", Math.ceil(wait / 1000));
    await new Promise((go) => setTimeout(go, wait));
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }
}

async function once(stopped, onEvent) {
  const dead = new AbortController();
  let timer = setTimeout(() => dead.abort(), SILENCE);
  try {
    const signal = AbortSignal.any([stopped, dead.signal]);
    const response = await fetch("v1/stream", { headers: fields(), cache: "no-store", signal });
    if (response.status === 401) throw new Refused();
    if (!response.ok) throw new Error(`status ${response.status}`);
    const feed = parser((kind, data) => onEvent(kind, JSON.parse(data)));
    const decoder = new TextDecoder();
    for (const reader = response.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => dead.abort(), SILENCE);
      feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    clearTimeout(timer);
  }
}
