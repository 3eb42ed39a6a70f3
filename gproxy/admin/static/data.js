// What the stream has told, as columns: one array of numbers each, the time in Unix seconds first.

export class Data {
  constructor(snapshot) {
    this.period = snapshot.period;
    this.length = snapshot.length;
    this.names = snapshot.columns;
    this.columns = Object.fromEntries(this.names.map((name) => [name, []]));
    this.offset = Date.now() / 1000 - snapshot.now; // from gproxy's clock to ours
    this.add(snapshot);
  }

  add(news) {
    this.now = news.now + this.offset;
    for (const sample of news.samples) {
      if (sample[0] + this.offset - this.times.at(-1) > 3 * this.period) this.#gap();
      this.names.forEach((name, i) => this.columns[name].push(sample[i]));
      this.times[this.times.length - 1] += this.offset;
    }
    const surplus = this.times.length - this.length;
    if (surplus > 0) for (const column of Object.values(this.columns)) column.splice(0, surplus);
  }

  get times() {
    return this.columns.at;
  }

  // The latest number of a column; null where there is none yet.
  last(name) {
    return this.columns[name].at(-1) ?? null;
  }

  // The latest that is not null, of the last so many seconds.
  lately(name, seconds) {
    const column = this.columns[name];
    for (let i = column.length - 1; i >= 0 && this.times[i] > this.now - seconds; i -= 1) {
      if (column[i] !== null) return column[i];
    }
    return null;
  }

  // The mean from one time to another; null where nothing is known.
  mean(name, from, to) {
    let sum = 0;
    let n = 0;
    this.times.forEach((at, i) => {
      const value = this.columns[name][i];
      if (at > from && at <= to && value !== null) {
        sum += value;
        n += 1;
      }
    });
    return n ? sum / n : null;
  }

  // What part of the one the other is, over the last so many seconds; null where there was none of it.
  share(part, whole, seconds) {
    const all = this.mean(whole, this.now - seconds, this.now);
    return all ? this.mean(part, this.now - seconds, this.now) / all : null;
  }

  some(name) {
    return this.columns[name].some((value) => value > 0);
  }

  // Nobody recorded for a while: lines must not lead across.
  #gap() {
    for (const name of this.names) this.columns[name].push(name === "at" ? this.times.at(-1) + this.period : null);
  }
}
