// Numbers and times as people read them.

const PREFIXES = ["", "k", "M", "G", "T"];

function scaled(value, base, unit, few) {
  let power = 0;
  while (Math.abs(value) >= base && power < PREFIXES.length - 1) {
    value /= base;
    power += 1;
  }
  const digits = value === 0 || value >= 100 || (few && value >= 10) ? 0 : value >= 10 || Number.isInteger(value) ? 1 : 2;
  const text = String(Number(value.toFixed(digits)));
  const suffix = PREFIXES[power] + unit;
  return suffix ? `${text} ${suffix}` : text;
}

export const count = (value) => scaled(value, 1000, "", false);
export const bytes = (value) => scaled(value, 1000, "B", false);

// From milliseconds.
export function duration(ms) {
  if (ms >= 1000) return `${Number((ms / 1000).toPrecision(3))} s`;
  return `${ms >= 100 ? Math.round(ms) : Number(ms.toPrecision(2))} ms`;
}

export function percent(share) {
  const value = share * 100;
  if (value === 0) return "0 %";
  return value < 0.1 ? "< 0.1 %" : `${Number(value.toPrecision(value >= 10 ? 3 : 2))} %`;
}

// Of seconds, in one unit.
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return s < 172800 ? "1 day" : `${Math.floor(s / 86400)} days`;
}

export const ago = (seconds) => (seconds < 1 ? "just now" : `${span(seconds)} ago`);

export const clock = (unixSeconds) => new Date(unixSeconds * 1000).toLocaleTimeString([], { hour12: false });

export const minute = (unixSeconds) =>
  new Date(unixSeconds * 1000).toLocaleTimeString([], { hour12: false, hour: "2-digit", minute: "2-digit" });

export const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

// "b1", "b1 and b2", "b1, b2 and 3 others".
export function list(names, most = 3) {
  if (names.length <= 1) return names.join("");
  if (names.length <= most) return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
  return `${names.slice(0, most - 1).join(", ")} and ${names.length - most + 1} others`;
}
