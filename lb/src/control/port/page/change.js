// Questions and changes: ask a key, plan a change, make it, kill a replica.

import { ask } from "./api.js";
import { $, announce, colour, count, h, percent, put } from "./dom.js";

const MOVES = 8;

const wrong = (error) => h("p", { class: "wrong", role: "alert" }, error.message);

/// A query parameter is read as it stands, without decoding. An id that a browser would change goes into a body.
const explain = (id) => (/^[^\s"#<>'&\u0000-\u001f\u007f-\uffff]+$/.test(id) ? ask(`explain?id=${id}`) : ask("explain", { method: "POST", body: { id } }));

const place = (slot, hostname) => (slot === hostname ? slot : `${hostname} in slot ${slot}`);

/// The keys of this answer, from 0 to 1; null where the mapping has no positions.
const turnOf = (answer, ring) => {
  if (ring === null || ring.parts === 0) return null;
  if (answer.position_text === null) return (answer.position_percent + 0.5) / 100;
  return Number(answer.position_text) / ring.positions;
};

const candidate = (one, answer) => {
  const picked = one.hostname === answer.pick && one.skipped === null;
  const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.background = colour(one.index);
  const why = picked ? "gets the connection" : one.skipped ?? `${one.state}, not needed`;
  return h("li", { class: picked ? "picked" : null }, swatch, h("b", {}, one.name), one.name === one.hostname ? "" : ` (${one.hostname})`, h("small", {}, why));
};

export class Asking {
  constructor(page) {
    this.page = page;
    this.id = null;
    $("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.id = $("ask-id").value;
      this.refresh();
    });
  }

  /// Asks again, because the answer may be another one now.
  async refresh() {
    if (this.id === null) return;
    const answer = await this.page.try(() => explain(this.id));
    if (answer instanceof Error) {
      put($("ask-answer"), wrong(answer));
      this.page.ring.mark(null);
      return;
    }
    const { ring } = this.page;
    const turn = turnOf(answer, ring.ring ?? null);
    ring.mark(turn);
    const where = turn === null ? "This mapping has no positions." : `It falls at ${percent(turn, 2)} of the circle${answer.position_text === null ? "" : `, position ${answer.position_text}`}.`;
    const shown = answer.candidates.slice(0, 12);
    const list = JSON.stringify([answer.id, answer.owner, answer.pick, shown]);
    if (this.list === list && this.where === where) return;
    [this.list, this.where] = [list, where];
    put($("ask-answer"),
      h("p", {}, h("b", {}, answer.id), answer.pick === null ? " goes nowhere: no replica is available. " : ` goes to ${answer.pick}. `, `${where} Tried in this order:`),
      h("ol", { class: "candidates" }, ...shown.map((one) => candidate(one, answer))),
      answer.candidates.length > shown.length ? h("p", { class: "note" }, `and ${count(answer.candidates.length - shown.length)} more`) : null);
  }
}

export class Changing {
  constructor(page) {
    this.page = page;
    /// Counts what was asked for, so that an answer that comes late is known.
    this.turn = 0;
    $("change-kind").addEventListener("input", () => this.adapt());
    $("change-form").addEventListener("input", () => this.discard());
    $("change-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.plan();
    });
    this.adapt();
  }

  adapt() {
    const kind = $("change-kind").value;
    for (const label of document.querySelectorAll("#change-form [data-for]")) {
      label.hidden = !label.dataset.for.split(" ").includes(kind);
      label.querySelector("input, select").disabled = label.hidden;
    }
  }

  /// Offers the slots that there are.
  offer(backends) {
    const names = backends.filter((backend) => backend.name !== undefined && backend.state !== "draining").map((backend) => [backend.hostname, place(backend.name, backend.hostname)]);
    const list = JSON.stringify(names);
    if (this.names === list) return;
    this.names = list;
    // What was planned for another fleet may be refused, or move something else.
    if (this.planned) this.plan();
    const chosen = $("change-replica").value;
    $("change-replica").replaceChildren(...names.map(([value, text]) => h("option", { value }, text)));
    if (names.some(([name]) => name === chosen)) $("change-replica").value = chosen;
  }

  /// Begins a change of this replica.
  begin(backend) {
    $("change-kind").value = "rm";
    this.adapt();
    $("change-replica").value = backend.hostname;
    $("change-weight").value = backend.weight ?? 1;
    this.discard();
    $("change").scrollIntoView({ block: "nearest" });
    $("change-kind").focus();
  }

  discard() {
    this.planned = false;
    this.turn += 1;
    put($("plan"));
    this.page.ring.plan([]);
  }

  change() {
    const replica = $("change-replica").value;
    const drain = $("change-drain").value;
    const names = $("change-names").value.split(/[\s,]+/).filter((name) => name !== "");
    return {
      add: () => ({ cmd: "add", n: Math.max(Number($("change-n").value), names.length), hostnames: names }),
      rm: () => ({ cmd: "rm", n: 1, hostnames: [replica], ...(drain === "" ? {} : { drain }) }),
      drain: () => ({ cmd: "mapping", weights: { [replica]: 0 } }),
      weight: () => ({ cmd: "mapping", weights: { [replica]: Number($("change-weight").value) } }),
      mapping: () => ({ cmd: "mapping", mapping: $("change-mapping").value }),
    }[$("change-kind").value]();
  }

  async plan() {
    const change = this.change();
    this.turn += 1;
    const { turn } = this;
    $("change-plan").disabled = true;
    const plan = await this.page.try(() => ask("plan", { method: "POST", body: change }));
    $("change-plan").disabled = false;
    // Something else was asked for meanwhile.
    if (turn !== this.turn) return;
    if (plan instanceof Error) {
      this.discard();
      put($("plan"), wrong(plan));
      return;
    }
    // The names that lb has chosen, so that what is done is what was shown.
    const named = /^lb (?:add|rm) \d+((?: [A-Za-z0-9][\w.-]*)*)/.exec(plan.command);
    if (named && change.hostnames) change.hostnames = named[1].trim().split(" ");
    const colours = new Map(Object.keys(plan.after.shares).map((name, at) => [name, colour(1000 + at)]));
    this.planned = true;
    this.page.ring.plan(plan.arcs ?? [], colours);
    this.show(plan, change);
  }

  show(plan, change) {
    const move = (one) => h("li", {}, h("b", {}, percent(one.share, 3)), ` ${one.from ?? "no slot"} → ${one.to ?? "no slot"}`);
    const more = plan.moves.length - MOVES;
    const { open, out_of_place_now: now, out_of_place_then: then } = plan.connections;
    const least = plan.moved - plan.least > 1e-9 ? ` ${percent(plan.least, 3)} would do.` : " No change to these shares could move less.";
    put($("plan"),
      h("p", {}, h("b", { id: "plan-moved" }, percent(plan.moved, 3)), " of the keys would move.", plan.moved > 0 ? least : "", plan.arcs?.length > 0 ? " The outermost band of the ring shows where." : ""),
      h("ul", { class: "moves" }, ...plan.moves.slice(0, MOVES).map(move), more > 0 ? h("li", {}, `and ${count(more)} more moves`) : null),
      h("p", { class: "note" }, `Open connections stay where they are: ${count(open)}, ${count(now)} out of place now, ${count(then)} then.`),
      ...(plan.warnings ?? []).map((warning) => h("p", { class: "wrong" }, warning)),
      h("p", {}, h("code", { id: "plan-command" }, plan.command)),
      h("div", { class: "row" },
        h("button", { type: "button", id: "plan-do", onclick: (event) => this.make(change, event.target) }, "Do it"),
        h("button", { type: "button", class: "quiet", onclick: () => { this.discard(); $("change-kind").focus(); } }, "Leave it")));
  }

  async make({ cmd, ...body }, button) {
    button.disabled = true;
    // From now on the fleet changes because of this.
    this.planned = false;
    this.turn += 1;
    const paths = { add: ["add", "POST"], rm: ["rm", "POST"], mapping: ["mapping", "PUT"] };
    const [path, method] = paths[cmd];
    const done = await this.page.try(() => ask(path, { method, body }));
    this.discard();
    const said = done instanceof Error ? wrong(done) : h("p", { class: "done" }, cmd === "mapping" ? "Done. Keys are mapped like this now." : `Done. There are ${count(done.N)} replicas.`);
    put($("plan"), said);
    $("change-title").focus({ preventScroll: true });
    this.page.wake();
  }
}

/// Kills one replica, after a look at which.
export class Killing {
  constructor(page) {
    this.page = page;
    $("kill-leave").addEventListener("click", () => $("kill").close());
    $("kill-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.kill();
    });
  }

  ask(backend) {
    this.hostname = backend.hostname;
    const { open } = backend.connections;
    const connections = open === 1 ? "Its open connection is" : `Its ${count(open)} open connections are`;
    const what = backend.pid !== undefined ? `process ${backend.pid}` : "its container";
    $("kill-text").textContent = `${backend.hostname} (${what}) ends at once. ${open > 0 ? `${connections} cut. ` : ""}lb starts a successor in the slot ${backend.name ?? "of a spare"}, and its keys come home.`;
    $("kill-wrong").textContent = "";
    $("kill").showModal();
    $("kill-do").focus();
  }

  async kill() {
    const done = await this.page.try(() => ask("kill", { method: "POST", body: { hostname: this.hostname } }));
    if (done instanceof Error) {
      $("kill-wrong").textContent = done.message;
      return;
    }
    $("kill").close();
    announce(`${this.hostname} is killed`);
    this.page.wake();
  }
}
