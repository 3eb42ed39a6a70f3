// The charts, each with its legend and the same numbers as a table. uPlot draws them (uplot/).

import { byId, element, setAttribute, setText, svg } from "./dom.js";
import { bytes, clock, count, duration, minute } from "./words.js";

const HEIGHT = 180; // pixels
const WINDOW = 600; // seconds
const MINUTES = 10; // rows of a table
const perSecond = (value) => `${count(value)}/s`;
const bytesPerSecond = (value) => `${bytes(value)}/s`;

// `when` says whether a chart or a series makes sense here: `http` and `tcp` are whether there are such listeners.
const CHARTS = [
  {
    title: "Traffic", unit: "per second", format: perSecond, least: 1, empty: "No traffic yet",
    about: ({ http }) => (http ? "Requests answered, and connections that clients opened." : "Connections that clients opened."),
    series: [
      { name: "requests", label: "Requests", colour: "--blue", fill: true, when: ({ http }) => http },
      { name: "accepted", label: "New connections", colour: "--violet", dash: [6, 3] },
    ],
  },
  {
    title: "Response time", unit: "milliseconds", format: duration, least: 1, empty: "No request yet", when: ({ http }) => http,
    about: "From a request's first byte until its answer begins. p95: 95 of 100 were no slower than that.",
    series: percentiles("response_time"),
  },
  {
    title: "Time to connect", unit: "milliseconds", format: duration, least: 1, empty: "No connection yet",
    when: ({ http }) => !http,
    about: "Until a backend has accepted a connection. p95: 95 of 100 were no slower than that.",
    series: percentiles("connect_time"),
  },
  {
    title: "Errors", unit: "per second", format: perSecond, least: 1, empty: "No errors",
    about: "5xx: a backend or gproxy failed. 4xx: the client's mistake.",
    when: ({ http }) => http,
    series: [
      { name: "responses_5xx", label: "5xx answers", colour: "--red", fill: true },
      { name: "responses_4xx", label: "4xx answers", colour: "--amber", dash: [6, 3] },
      { name: "connect_failures", label: "Failed connects", colour: "--violet", dash: [2, 3] },
    ],
  },
  {
    title: "Errors", unit: "per second", format: perSecond, least: 1, empty: "No errors", when: ({ http }) => !http,
    about: "Sessions that did not end well, and tries to connect to a backend that failed.",
    series: [
      { name: "failed", label: "Failed sessions", colour: "--red", fill: true },
      { name: "connect_failures", label: "Failed connects", colour: "--violet", dash: [2, 3] },
    ],
  },
  {
    title: "Backends that can serve", unit: "servers", format: count, least: 1, empty: "", steps: true, whole: true,
    about: "Up by the health checks, not drained and not ejected.",
    series: [{ name: "able", label: "Can serve", colour: "--green", fill: true }],
    most: ({ backends }) => backends,
  },
  {
    title: "Connections", unit: "open", format: count, least: 2, empty: "No connection yet", whole: true,
    about: "In use: lent to requests. Idle: kept open for the next ones. Waiting: requests for which all are taken.",
    series: [
      { name: "sessions", label: "Clients", colour: "--blue" },
      { name: "lent", label: "In use", colour: "--violet", dash: [6, 3] },
      { name: "idle", label: "Idle", colour: "--green", dash: [2, 3] },
      { name: "waiting", label: "Waiting", colour: "--red" },
    ],
  },
  {
    title: "Data", unit: "bytes per second", format: bytesPerSecond, least: 1000, empty: "No traffic yet",
    about: "What clients sent, and what they were sent.",
    series: [
      { name: "bytes_out", label: "To clients", colour: "--blue", fill: true },
      { name: "bytes_in", label: "From clients", colour: "--violet", dash: [6, 3] },
    ],
  },
];

function percentiles(name) {
  return [
    { name: `${name}_p50`, label: "p50", colour: "--green", dash: [2, 3] },
    { name: `${name}_p95`, label: "p95", colour: "--blue" },
    { name: `${name}_p99`, label: "p99", colour: "--amber", dash: [6, 3] },
  ];
}

export class Charts {
  #charts = [];
  #of = "";
  #data = null;

  constructor() {
    const redraw = () => this.#data && this.#build();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(() => this.#charts.forEach((chart) => chart.resize())).observe(byId("charts"));
  }

  // `facts` has http and backends.
  draw(data, facts) {
    const of = JSON.stringify(facts);
    this.#data = data;
    if (of !== this.#of) {
      this.#of = of;
      this.facts = facts;
      this.#build();
    }
    this.#charts.forEach((chart) => chart.draw(data));
  }

  #build() {
    const fits = (each) => !each.when || each.when(this.facts);
    this.#charts.forEach((chart) => chart.end());
    byId("charts").replaceChildren();
    this.#charts = CHARTS.filter(fits).map((chart) => new Chart({ ...chart, series: chart.series.filter(fits) }, this.facts));
    if (this.#data) this.#charts.forEach((chart) => chart.draw(this.#data));
  }
}

class Chart {
  #plot;
  #data = null;

  constructor(settings, facts) {
    this.settings = settings;
    this.facts = facts;
    this.values = settings.series.map(() => element("b", {}, "–"));
    this.canvas = element("div", { class: "plot", role: "img" });
    this.empty = element("p", { class: "empty" }, settings.empty);
    this.table = element("table");
    this.details = element("details", {}, element("summary", {}, "As a table"), this.table);
    this.details.addEventListener("toggle", () => this.#fillTable());
    byId("charts").append(
      element(
        "figure", { class: "card chart" },
        element("figcaption", {}, element("h3", {}, settings.title, " ", element("small", {}, settings.unit)),
          element("p", {}, typeof settings.about === "string" ? settings.about : settings.about(facts))),
        element("ul", { class: "legend" }, ...settings.series.map((series, i) =>
          element("li", {}, key(series), `${series.label} `, this.values[i]))),
        element("div", { class: "frame" }, this.canvas, this.empty),
        this.details,
      ),
    );
    this.#plot = new uPlot(this.#options(), [[], ...settings.series.map(() => [])], this.canvas);
  }

  end() {
    this.#plot.destroy();
  }

  resize() {
    if (this.canvas.clientWidth) this.#plot.setSize({ width: this.canvas.clientWidth, height: HEIGHT });
  }

  draw(data) {
    this.#data = data;
    this.#plot.setData([data.times, ...this.settings.series.map(({ name }) => data.columns[name])]);
    const quiet = this.settings.empty && !this.settings.series.some(({ name }) => data.some(name));
    this.empty.hidden = !quiet;
    this.#show();
    setAttribute(this.canvas, "aria-label", `${this.settings.title}: ${quiet ? this.settings.empty : this.#inWords()}`);
    if (this.details.open) this.#fillTable();
  }

  // In the legend: what is under the pointer, or else the latest.
  #show() {
    const index = this.#plot.cursor.idx;
    this.settings.series.forEach(({ name }, i) => {
      const value = index == null ? this.#data.last(name) : this.#data.columns[name][index];
      setText(this.values[i], value == null ? "–" : this.settings.format(value));
    });
    const at = index == null ? null : this.#data.times[index];
    setText(byId("hovered"), at ? `Shown: ${clock(at)}.` : "Point at a chart, or tap it, to read its numbers.");
  }

  #inWords() {
    return this.settings.series
      .map(({ name, label }) => {
        const last = this.#data.last(name);
        const most = Math.max(0, ...this.#data.columns[name]);
        const now = last === null ? "nothing" : this.settings.format(last);
        return `${label}: now ${now}, at most ${this.settings.format(most)}`;
      })
      .join("; ");
  }

  #fillTable() {
    if (!this.details.open || !this.#data) return;
    const series = this.settings.series;
    const newest = Math.floor(this.#data.now / 60) * 60;
    const rows = Array.from({ length: MINUTES }, (_, i) => newest - 60 * i).map((from) =>
      element("tr", {}, element("th", { scope: "row" }, minute(from)), ...series.map(({ name }) => {
        const value = this.#data.mean(name, from, from + 60);
        return element("td", {}, value === null ? "–" : this.settings.format(value));
      })),
    );
    this.table.replaceChildren(
      element("caption", {}, `${this.settings.title}, ${this.settings.unit}: the mean of each minute`),
      element("thead", {}, element("tr", {}, ...["Minute", ...series.map(({ label }) => label)].map((label) =>
        element("th", { scope: "col" }, label)))),
      element("tbody", {}, ...rows),
    );
  }

  #options() {
    const { series, format, steps, whole } = this.settings;
    const muted = colour("--muted");
    const grid = { stroke: colour("--grid"), width: 1 };
    const axis = { stroke: muted, grid, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const ticks = whole ? (_u, values) => values.map((v) => (Number.isInteger(v) ? count(v) : "")) : (_u, values) =>
      values.map((value) => (value === 0 ? "0" : format(value).replace("/s", "")));
    return {
      width: this.canvas.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "gproxy" }, drag: { x: false, y: false }, y: false,
        points: { size: 7 },
      },
      scales: {
        x: { time: true, range: () => this.#window() },
        y: { range: (_u, _least, most) => [0, this.#top(most)] },
      },
      axes: [
        { ...axis, size: 28, space: 45, incrs: [120, 300, 600], values: (_u, values) => values.map(minute) },
        { ...axis, size: 62, space: 36, gap: 6, values: ticks },
      ],
      series: [{}, ...series.map((each) => ({
        label: each.label,
        stroke: colour(each.colour),
        width: 1.75,
        dash: each.dash,
        fill: each.fill ? colour(`${each.colour}-fill`) : undefined,
        paths: steps ? uPlot.paths.stepped({ align: -1 }) : undefined,
        points: { show: false },
      }))],
      hooks: { setCursor: [() => this.#data && this.#show()] },
    };
  }

  #window() {
    const now = this.#data ? this.#data.now : Date.now() / 1000;
    return [now - WINDOW, now];
  }

  #top(most) {
    const least = this.settings.most ? this.settings.most(this.facts) : this.settings.least;
    return Math.max(most || 0, least) * 1.1;
  }
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// How a line looks, for its legend: never by colour alone.
function key({ colour: name, dash }) {
  const line = svg("path", { d: "M1 4h20", "stroke-dasharray": dash ? dash.join(" ") : null });
  return svg("svg", { viewBox: "0 0 22 8", class: `key ${name.slice(2)}`, "aria-hidden": "true" }, line);
}
