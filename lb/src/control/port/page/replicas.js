// The table of replicas. A row is made once for each slot; later only what differs is written.

import { $, age, colour, count, h, percent, rate, say, svg } from "./dom.js";

/// With more rows, sparklines are left out.
const SPARKS = 100;
const HISTORY = 60;
const ORDER = ["down", "quarantined", "starting", "draining", "up"];

/// The connections of each slot per second, from successive totals.
export class Rates {
  constructor() {
    this.slots = new Map();
  }

  see(backends, now) {
    const seen = new Map();
    for (const backend of backends) {
      const key = keyOf(backend);
      const before = this.slots.get(key);
      const { total } = backend.connections;
      const slot = { hostname: backend.hostname, total, now, rate: 0, history: before?.history ?? [] };
      if (before && now > before.now) {
        // A new replica counts from 0.
        const begun = before.hostname === backend.hostname && total >= before.total ? before.total : 0;
        slot.rate = (1000 * (total - begun)) / (now - before.now);
        slot.history = [...slot.history, slot.rate].slice(-HISTORY);
      }
      seen.set(key, slot);
    }
    this.slots = seen;
  }

  of(backend) {
    return this.slots.get(keyOf(backend)) ?? { rate: 0, history: [] };
  }

  get sum() {
    return [...this.slots.values()].reduce((sum, slot) => sum + slot.rate, 0);
  }
}

const keyOf = (backend) => backend.name ?? `spare ${backend.hostname}`;

export const wasStartedHere = (backend) => backend.pid !== undefined || backend.container !== undefined;

const spark = (history, most) => {
  // The newest is at the right end.
  const at = (value, index) => `${(60 - ((history.length - 1 - index) * 60) / (HISTORY - 1)).toFixed(1)},${(15 - (14 * value) / Math.max(most, 1)).toFixed(1)}`;
  return history.map(at).join(" ");
};

class Row {
  constructor(backend, commands) {
    this.backend = backend;
    const number = (label) => h("td", { role: "cell", class: "number", "data-label": label });
    this.line = svg("polyline", { fill: "none" });
    this.spark = svg("svg", { class: "spark", viewBox: "0 0 60 16", "aria-hidden": "true" }, this.line);
    this.rate = h("span");
    this.hostname = h("span");
    this.place = h("small");
    this.state = h("span", { class: "state" });
    this.reason = h("small");
    [this.open, this.share, this.restarts, this.age] = ["Open", "Share", "Restarts", "For"].map(number);
    this.kill = h("button", { type: "button", class: "danger small", onclick: () => commands.kill(this.backend) }, "Kill");
    this.more = h("button", { type: "button", class: "quiet small", onclick: () => commands.change(this.backend) }, "Change");
    const dot = h("span", { class: "swatch", "aria-hidden": "true" });
    if (backend.index !== undefined) dot.style.background = colour(backend.index);
    this.element = h("tr", { role: "row" },
      h("th", { role: "rowheader", scope: "row" }, dot, h("span", {}, backend.name ?? "spare"), h("small", {}, backend.index === undefined ? "" : ` ${backend.index}`)),
      h("td", { role: "cell", "data-label": "Replica" }, this.hostname, this.place),
      h("td", { role: "cell", "data-label": "State" }, this.state, this.reason),
      h("td", { role: "cell", class: "number", "data-label": "Per second" }, this.spark, this.rate),
      this.open, this.share, this.restarts, this.age,
      h("td", { role: "cell", class: "commands" }, this.kill, this.more));
  }

  show(backend, rates, share, most, sparks) {
    this.backend = backend;
    const { rate: now, history } = rates.of(backend);
    say(this.hostname, backend.hostname);
    const where = backend.pid !== undefined ? ` pid ${backend.pid}` : backend.container !== undefined ? ` ${String(backend.container).slice(0, 12)}` : "";
    say(this.place, `${backend.address ?? "no address"}${backend.node ? ` on ${backend.node}` : ""}${where}`);
    if (this.state.dataset.state !== backend.state) this.state.dataset.state = backend.state;
    say(this.state, backend.state);
    const retry = backend.next_retry === undefined ? [] : [`next try in ${Math.ceil(backend.next_retry)} s`];
    say(this.reason, [...(backend.reason ? [backend.reason] : []), ...retry].join(", "));
    say(this.rate, rate(now));
    this.spark.toggleAttribute("hidden", !sparks);
    if (sparks) this.line.setAttribute("points", spark(history, most));
    say(this.open, count(backend.connections.open));
    const weight = backend.weight ?? 1;
    say(this.share, (share === undefined ? "–" : percent(share)) + (weight === 1 ? "" : ` ×${weight}`));
    say(this.restarts, count(backend.restarts));
    this.tick();
    this.kill.hidden = !wasStartedHere(backend);
    this.more.hidden = backend.name === undefined;
    for (const [button, verb] of [[this.kill, "Kill"], [this.more, "Change"]]) {
      const label = `${verb} ${backend.hostname}`;
      if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
    }
  }

  tick() {
    say(this.age, age(this.backend.since));
  }
}

export class Replicas {
  constructor(commands) {
    this.commands = commands;
    this.rows = new Map();
    this.last = [];
    for (const id of ["filter", "sort"]) $(id).addEventListener("input", () => this.arrange());
  }

  show(backends, rates, shares) {
    this.last = backends;
    this.rates = rates;
    const keys = new Set(backends.map(keyOf));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
    const most = Math.max(1, ...backends.map((backend) => Math.max(0, ...rates.of(backend).history)));
    const sparks = backends.length <= SPARKS;
    for (const backend of backends) {
      const key = keyOf(backend);
      if (!this.rows.has(key)) this.rows.set(key, new Row(backend, this.commands));
      this.rows.get(key).show(backend, rates, shares.get(backend.name), most, sparks);
    }
    this.arrange();
  }

  arrange() {
    const wanted = $("filter").value.trim().toLowerCase();
    const matches = (backend) => [backend.name ?? "spare", backend.hostname, backend.state, backend.address ?? ""].some((text) => text.toLowerCase().includes(wanted));
    const by = {
      slot: () => 0,
      rate: (one, other) => this.rates.of(other).rate - this.rates.of(one).rate,
      open: (one, other) => other.connections.open - one.connections.open,
      state: (one, other) => ORDER.indexOf(one.state) - ORDER.indexOf(other.state),
      restarts: (one, other) => other.restarts - one.restarts,
    };
    const shown = this.last.filter(matches).sort(by[$("sort").value]).map((backend) => this.rows.get(keyOf(backend)).element);
    const body = $("rows");
    // Rows that stay where they are keep the focus of what is in them.
    shown.forEach((row, at) => {
      if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null);
    });
    while (body.children.length > shown.length) body.lastElementChild.remove();
    say($("rows-note"), shown.length === this.last.length ? "" : `${shown.length} of ${this.last.length} are shown.`);
  }

  tick() {
    for (const row of this.rows.values()) row.tick();
  }

  flash(name) {
    const element = this.rows.get(name)?.element;
    element?.classList.add("hurt");
    setTimeout(() => element?.classList.remove("hurt"), 2500);
  }
}
