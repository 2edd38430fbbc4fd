// What has happened: incidents with their phases, and the last events in words.

import { $, clock, count, h, say, seconds } from "./dom.js";

const EVENTS = 200;
const INCIDENTS = 100;
const PHASES = ["notice", "start", "ready"];

const place = ({ slot, hostname }) => (slot === undefined || slot === hostname ? hostname : `${hostname} in slot ${slot}`);
const about = (what) => (event) => `${place(event)} ${what}${event.reason ? `: ${event.reason}` : ""}`;

const WORDS = {
  started: (event) => `lb ${event.version} has started: data ${event.data}, control ${event.control}`,
  ready: (event) => `ready: ${event.replicas} replicas are in rotation`,
  stopping: () => "lb has been told to end",
  upgraded: (event) => `process ${event.successor} has taken over`,
  upgrade_failed: (event) => `this lb goes on without a successor: ${event.reason}`,
  replica_starting: about("is being started"),
  replica_started: (event) => `${place(event)} runs at ${event.address}`,
  replica_up: about("is up"),
  replica_down: about("is down"),
  replica_draining: about("is draining"),
  replica_quarantined: about("is quarantined"),
  replica_ended: about("has ended"),
  replica_stopped: about("is stopped"),
  incident: (event) => `incident of ${event.slot}: ${event.cause}${event.phases.total === undefined ? "" : `, over after ${seconds(event.phases.total)}`}`,
  mapping: (event) => `mapping ${event.mapping} of ${event.slots} slots`,
  command: (event) => `${event.command}: ${event.result}`,
  reloaded: (event) => `${event.file} is loaded again: ${event.changes.join("; ") || "nothing differs"}`,
  doubt: (event) => (event.suspects ? "this lb may be cut off, and replaces nothing" : "this lb replaces what is silent again"),
  warning: (event) => `warning: ${event.message}`,
  gap: (event) => `${count(event.missed)} earlier events are not kept any more`,
};

const TONES = {
  replica_up: "good", ready: "good", incident: "good",
  replica_ended: "bad", replica_down: "bad", replica_quarantined: "bad", warning: "warn", doubt: "warn", gap: "warn", replica_draining: "warn",
};

export const inWords = (event) => (WORDS[event.kind] ?? (() => event.kind))(event);

/// Adds events, the newest first.
export const tell = (events) => {
  const list = $("event-list");
  const items = events.slice(-EVENTS).map((event) =>
    h("li", { "data-tone": TONES[event.kind] }, h("time", { datetime: event.time, title: event.time }, clock(event.time)), h("span", {}, inWords(event))));
  list.prepend(...items.reverse());
  while (list.children.length > EVENTS) list.lastElementChild.remove();
};

/// The phases of an incident in seconds. The last one of an incident that is not over goes on.
const phases = (incident) => {
  const found = PHASES.filter((phase) => incident.phases[phase] !== undefined).map((phase) => [phase, incident.phases[phase], false]);
  if (incident.phases.total === undefined && !incident.removed) {
    const passed = found.reduce((sum, [, time]) => sum + time, 0);
    const next = PHASES.find((phase) => incident.phases[phase] === undefined) ?? "ready";
    found.push([next, Math.max(0, (Date.now() - Date.parse(incident.began)) / 1000 - passed), true]);
  }
  return found;
};

const bar = (incident) => {
  const all = phases(incident);
  const whole = Math.max(all.reduce((sum, [, time]) => sum + time, 0), 1e-9);
  const label = all.map(([phase, time, goesOn]) => `${phase} ${seconds(time)}${goesOn ? " so far" : ""}`).join(", ");
  const piece = ([phase, time, goesOn]) => {
    const element = h("i", { class: goesOn ? `${phase} goes-on` : phase });
    element.style.flexGrow = String(Math.max(time / whole, 0.02));
    return element;
  };
  return [h("div", { class: "bar", role: "img", "aria-label": label }, ...all.map(piece)), h("small", {}, `${label}; `)];
};

const keyOf = (incident) => `${incident.slot} ${incident.began}`;

const ending = (incident) => {
  if (incident.removed) return "the slot was removed";
  if (incident.phases.total === undefined) return "not over yet";
  return `${incident.replaced_by === incident.hostname ? "back" : `${incident.replaced_by} in rotation`} after ${seconds(incident.phases.total)}`;
};

const show = (incident) => h("li", { class: isOpen(incident) ? "open" : null },
  h("p", {}, h("time", { datetime: incident.began, title: incident.began }, clock(incident.began)), " ", h("b", {}, incident.slot), ` lost ${incident.hostname}: ${incident.cause}; ${ending(incident)}`),
  ...bar(incident),
  h("small", {}, `${count(incident.cut)} cut, ${count(incident.retried)} retried, ${count(incident.refused)} refused`));

const isOpen = (incident) => incident.phases.total === undefined && !incident.removed;

/// The incidents, the newest first. One that is not over is drawn anew each time.
export class Incidents {
  constructor() {
    this.shown = new Map();
  }

  get anyOpen() {
    return [...this.shown.values()].some(({ incident }) => isOpen(incident));
  }

  show(incidents) {
    const latest = incidents.slice(-INCIDENTS).reverse();
    const next = new Map();
    for (const incident of latest) {
      const key = keyOf(incident);
      const text = JSON.stringify(incident);
      const before = this.shown.get(key);
      const keeps = before?.text === text && !isOpen(incident);
      next.set(key, keeps ? before : { incident, text, element: show(incident) });
    }
    const elements = [...next.values()].map(({ element }) => element);
    const unchanged = elements.length === this.shown.size && elements.every((element) => element.isConnected);
    this.shown = next;
    if (!unchanged) $("incident-list").replaceChildren(...elements);
    const all = incidents.length;
    say($("incidents-title"), all === 0 ? "Incidents: none" : `Incidents: ${count(all)}`);
  }

  /// Lets the time of those that are not over go on.
  tick() {
    if (!this.anyOpen) return;
    for (const entry of this.shown.values()) {
      if (!isOpen(entry.incident)) continue;
      const element = show(entry.incident);
      entry.element.replaceWith(element);
      entry.element = element;
    }
  }
}
