// The page: reads lb's state again and again, and sooner when the journal says that something has happened.

import { ask, follow, Refused, token } from "./api.js";
import { Asking, Changing, Killing } from "./change.js";
import { $, announce, count, rate, say } from "./dom.js";
import { Rates, Replicas } from "./replicas.js";
import { Ring } from "./ring.js";
import { Incidents, inWords, tell } from "./story.js";

/// The pauses between two reads, in milliseconds: at least, while the page is seen, and while it is not.
const [SOONEST, USUAL, HIDDEN] = [200, 1000, 5000];
/// How much of the past is shown at first.
const SINCE = "15m";
const LOSSES = ["replica_ended", "replica_down"];
const CHANGES = ["replica_up", "replica_quarantined", ...LOSSES];

/// Waits for a time, or until a promise is kept.
const pause = (time, sooner) => new Promise((resolve) => {
  const timer = setTimeout(resolve, time);
  sooner?.then(() => { clearTimeout(timer); resolve(); });
});

/// A promise that can be kept from outside, again and again.
class Bell {
  constructor() {
    this.reset();
  }

  reset() {
    this.rung = new Promise((resolve) => { this.ring = resolve; });
  }
}

class Page {
  constructor() {
    this.rates = new Rates();
    this.ring = new Ring();
    this.incidents = new Incidents();
    this.killing = new Killing(this);
    this.changing = new Changing(this);
    this.asking = new Asking(this);
    this.replicas = new Replicas({ kill: (backend) => this.killing.ask(backend), change: (backend) => this.changing.begin(backend) });
    this.news = new Bell();
    this.again = new Bell();
    this.shares = new Map();
    this.stale = true;
    $("retry").addEventListener("click", () => this.again.ring());
    $("forget").addEventListener("click", () => { token.forget(); location.reload(); });
    $("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      token.set($("token-value").value.trim());
      $("token").close();
      this.prove();
    });
    $("token").addEventListener("cancel", (event) => event.preventDefault());
    $("forget").hidden = token.get() === null;
    setInterval(() => { this.replicas.tick(); this.incidents.tick(); }, 1000);
    document.addEventListener("visibilitychange", () => this.wake());
  }

  /// The result of a command, or the error that it has ended with.
  async try(command) {
    for (;;) {
      try {
        return await command();
      } catch (error) {
        if (!(error instanceof Refused)) return error;
        if (error.status !== 401) return error;
        await this.proof(error);
      }
    }
  }

  wake() {
    this.news.ring();
  }

  /// Waits until the user has given a token, which may be another wrong one.
  proof(error) {
    const dialog = $("token");
    if (token.get() !== error.proof) return Promise.resolve();
    if (this.proven === undefined) {
      this.proven = new Promise((resolve) => { this.prove = resolve; });
      this.proven.then(() => { this.proven = undefined; });
    }
    if (!dialog.open) {
      say($("token-wrong"), token.get() === null ? "" : error.message);
      $("token-value").value = "";
      dialog.showModal();
    }
    return this.proven;
  }

  /// Says whether the connection is there; if it is lost, waits a while.
  async now(link, wait) {
    if (link !== $("link").dataset.link) {
      $("link").dataset.link = link;
      say($("link-text"), link === "live" ? "live" : "connection lost");
      announce(link === "live" ? "Connected to lb" : "The connection to lb is lost");
    }
    document.body.classList.toggle("stale", link !== "live");
    if (link === "live") {
      $("lost").hidden = true;
      $("forget").hidden = token.get() === null;
      this.stale = true;
      this.wake();
      return;
    }
    say($("lost-text"), "The connection to lb is lost. What is shown is old. The page tries again by itself.");
    $("lost").hidden = false;
    this.again.reset();
    await pause(wait, this.again.rung);
  }

  hear(events) {
    tell(events);
    if (!this.caughtUp) {
      // What happened before the page was opened is no news.
      this.caughtUp = true;
      this.wake();
      return;
    }
    for (const event of events.slice(-50)) {
      if (LOSSES.includes(event.kind) && event.slot !== undefined) {
        this.ring.flash(event.slot);
        this.replicas.flash(event.slot);
      }
      if (CHANGES.includes(event.kind)) announce(inWords(event));
    }
    // A command or a warning alone changes neither the ring nor an incident.
    this.stale ||= events.some((event) => event.kind !== "command" && event.kind !== "warning");
    this.wake();
  }

  async read() {
    const backends = await ask("backends");
    const all = [...backends.backends, ...(backends.spares ?? [])];
    this.rates.see(all, performance.now());
    const shape = JSON.stringify(backends.backends.map(({ name, state, weight, hostname }) => [name, state, weight, hostname]));
    if (this.stale || shape !== this.shape) {
      this.shape = shape;
      this.stale = false;
      const [ring, incidents] = await Promise.all([ask("ring"), ask("incidents")]);
      this.shares = new Map(ring.slots.map((slot) => [slot.name, slot.share]));
      const picture = JSON.stringify(ring);
      if (picture !== this.picture) this.ring.draw(ring);
      this.picture = picture;
      this.incidents.show(incidents);
      say($("fact-mapping"), ring.mapping);
    }
    this.replicas.show(all, this.rates, this.shares);
    this.changing.offer(backends.backends);
    this.sum(backends);
    await this.asking.refresh();
  }

  sum({ backends, N: all, refused }) {
    const up = backends.filter((backend) => backend.state === "up").length;
    const open = backends.reduce((sum, backend) => sum + backend.connections.open, 0);
    const lost = Object.entries(refused ?? {}).filter(([reason]) => reason !== "left_early").reduce((sum, [, number]) => sum + number, 0);
    say($("fact-up"), `${count(up)} of ${count(all)}`);
    say($("fact-rate"), `${rate(this.rates.sum)}/s`);
    say($("fact-open"), count(open));
    say($("fact-refused"), count(lost));
    this.ring.centre(up, all, rate(this.rates.sum));
    document.title = `lb: ${up} of ${all} in rotation`;
  }

  async keepReading() {
    for (;;) {
      this.news.reset();
      const begun = performance.now();
      const failure = await this.try(() => this.read());
      document.body.dataset.read = failure instanceof Error ? failure.message : "yes";
      const left = (time) => Math.max(0, begun + time - performance.now());
      await pause(left(SOONEST));
      await pause(left(document.hidden ? HIDDEN : USUAL), this.news.rung);
    }
  }
}

const page = new Page();
page.keepReading();
follow(SINCE, (events) => page.hear(events), page);
