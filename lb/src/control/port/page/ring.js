// The ring: who owns which positions, who gets them now, the shares, and what a plan would move.

import { $, colour, h, percent, say, svg } from "./dom.js";

const BANDS = { planned: [100, 106], serving: [88, 97], home: [77, 86], shares: [50, 72] };
const LABELS = 24;

const point = (radius, turn) => {
  const angle = 2 * Math.PI * turn;
  return `${(radius * Math.sin(angle)).toFixed(2)} ${(-radius * Math.cos(angle)).toFixed(2)}`;
};

/// The outline of a piece of a band, from one part of a turn to another.
const piece = ([inner, outer], from, to) => {
  if (to - from > 0.5) return piece([inner, outer], from, from + 0.5) + piece([inner, outer], from + 0.5, to);
  const arc = (radius, sweep, end) => `A${radius} ${radius} 0 0 ${sweep} ${point(radius, end)}`;
  return `M${point(outer, from)}${arc(outer, 1, to)}L${point(inner, to)}${arc(inner, 0, from)}Z`;
};

/// One path for each name: pieces of a band that belong to it.
const gather = (band, arcs, parts, name) => {
  const paths = new Map();
  for (const arc of arcs) {
    const key = name(arc);
    paths.set(key, (paths.get(key) ?? "") + piece(band, arc.at / parts, (arc.at + arc.parts) / parts));
  }
  return paths;
};

const isAway = (slot) => slot.state !== "up" && slot.weight !== 0;

export class Ring {
  constructor() {
    const layer = () => svg("g");
    [this.home, this.serving, this.shares, this.planned, this.marks] = [layer(), layer(), layer(), layer(), layer()];
    this.big = svg("text", { class: "big", y: -1 });
    this.small = svg("text", { class: "small", y: 14 });
    this.rest = svg("text", { class: "small", y: 26 });
    $("ring-picture").append(this.home, this.serving, this.shares, this.planned, this.marks, this.big, this.small, this.rest);
    this.colours = new Map();
    this.segments = new Map();
  }

  /// `ring` is the answer of lb.
  draw(ring) {
    this.ring = ring;
    for (const slot of ring.slots) this.colours.set(slot.name, colour(slot.index));
    const away = new Set(ring.slots.filter(isAway).map((slot) => slot.name));
    const path = (name, d, what, dead) =>
      svg("path", { d, fill: this.colour(name), class: dead ? "away" : null }, svg("title", {}, `${name ?? "no slot"}: ${what}`));
    const paths = (band, name, what, dead) =>
      [...gather(BANDS[band], ring.arcs, ring.parts, name)].map(([slot, d]) => path(slot, d, what, dead(slot)));
    this.home.replaceChildren(...paths("home", (arc) => arc.owner, "owns these keys", (name) => away.has(name)));
    this.serving.replaceChildren(...paths("serving", (arc) => arc.serving, "gets these keys now", (name) => name === undefined));
    let turn = 0;
    this.segments.clear();
    this.shares.replaceChildren();
    for (const slot of ring.slots.filter((slot) => slot.share > 0)) {
      const segment = path(slot.name, piece(BANDS.shares, turn, turn + slot.share), `${percent(slot.share)} of the keys`, isAway(slot));
      this.segments.set(slot.name, segment);
      this.shares.append(segment);
      if (ring.slots.length <= LABELS && slot.share > 0.03) {
        const [x, y] = point((BANDS.shares[0] + BANDS.shares[1]) / 2, turn + slot.share / 2).split(" ");
        this.shares.append(svg("text", { class: "label", x, y, dy: "0.35em", "aria-hidden": "true" }, String(slot.index)));
      }
      turn += slot.share;
    }
    this.note(away);
    this.table(away);
  }

  colour(name) {
    return this.colours.get(name) ?? "currentColor";
  }

  centre(up, all, perSecond) {
    const big = `${up}/${all}`;
    this.big.classList.toggle("long", big.length > 6);
    say(this.big, big);
    say(this.small, "in rotation");
    say(this.rest, `${perSecond}/s`);
  }

  note(away) {
    const { parts, mapping, slots } = this.ring;
    const bands = parts > 0
      ? "From the outside: who gets a key now, who owns it, and the share of each slot."
      : "This mapping has no positions: the circle shows the share of each slot.";
    const gone = [...away].slice(0, 5).join(", ") + (away.size > 5 ? ` and ${away.size - 5} more` : "");
    const meanwhile = away.size > 0 ? ` Out of rotation (grey): ${gone}. Others get the keys until they are back.` : "";
    say($("ring-note"), `${slots.length} slots, mapping ${mapping}. ${bands}${meanwhile}`);
  }

  table(away) {
    const goes = new Map();
    for (const move of this.ring.meanwhile) {
      const all = goes.get(move.from) ?? [];
      all.push(`${move.to ?? "nowhere"} (about ${percent(move.share)})`);
      goes.set(move.from, all);
    }
    const elsewhere = (name) => {
      const all = goes.get(name) ?? ["others"];
      return all.slice(0, 4).join(", ") + (all.length > 4 ? ` and ${all.length - 4} more` : "");
    };
    const row = (slot) => h("tr", {},
      h("th", { scope: "row" }, slot.name), h("td", { class: "number" }, percent(slot.share)),
      h("td", {}, slot.state), h("td", {}, away.has(slot.name) ? elsewhere(slot.name) : "itself"));
    $("ring-rows").replaceChildren(...this.ring.slots.map(row));
  }

  /// Shows what a plan would move; nothing without one.
  plan(arcs, colours = new Map()) {
    const parts = this.ring?.parts ?? 0;
    const paths = parts > 0 ? [...gather(BANDS.planned, arcs, parts, (arc) => arc.to)] : [];
    const fill = (name) => this.colours.get(name) ?? colours.get(name) ?? "currentColor";
    this.planned.replaceChildren(...paths.map(([name, d]) =>
      svg("path", { d, fill: fill(name) }, svg("title", {}, `would move to ${name ?? "no slot"}`))));
  }

  /// Marks a position, from 0 to 1.
  mark(turn) {
    const has = turn !== null && (this.ring?.parts ?? 0) > 0;
    this.marks.replaceChildren(...(has ? [svg("path", {
      class: "mark", d: `M${point(75, turn)}L${point(99, turn)}M${point(98, turn)}L${point(110, turn - 0.009)}L${point(110, turn + 0.009)}Z`,
    })] : []));
  }

  /// Shows for a moment that a slot has lost its replica.
  flash(name) {
    const segment = this.segments.get(name);
    segment?.classList.add("hurt");
    setTimeout(() => segment?.classList.remove("hurt"), 2500);
  }
}
