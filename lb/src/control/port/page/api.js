// The control port, as its other HTTP clients use it: commands with a token, and the journal as a stream.

const KEY = "lb-control-token";
/// How long nothing may come on the stream, in milliseconds. lb gives a sign of life every 15 s.
const SILENCE = 40000;
const PAUSES = [500, 1000, 2000, 4000];

export class Refused extends Error {
  constructor(status, message, proof) {
    super(message);
    this.status = status;
    /// The token that was sent.
    this.proof = proof;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

const request = (path, { method = "GET", headers = {}, body, signal } = {}) => {
  const proof = token.get() === null ? {} : { Authorization: `Bearer ${token.get()}` };
  return fetch(new URL(path, document.baseURI), {
    method, body, signal, headers: { ...proof, ...headers }, cache: "no-store", redirect: "error",
  });
};

const refusal = async (response, proof) => {
  const text = await response.text();
  let message = `${response.status} ${response.statusText}`;
  try {
    message = JSON.parse(text).message.replace(/^<Error> /, "");
  } catch { /* it is no answer of lb */ }
  return new Refused(response.status, message, proof);
};

/// The answer to a command, without its envelope.
export const ask = async (path, { method, body } = {}) => {
  const proof = token.get();
  const response = await request(path, {
    method, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(65000),
  });
  if (!response.ok) throw await refusal(response, proof);
  const answer = await response.json();
  return Array.isArray(answer) ? answer : answer.message;
};

/// The events of one block of Server-Sent Events.
const parse = (block) => {
  const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
  return data === "" ? [] : [JSON.parse(data)];
};

/// Follows the journal for as long as the page is open. `link.now` is told "live" or "lost", with a pause that it waits; `link.proof`
/// waits for another token.
export const follow = async (since, onEvents, link) => {
  let last = null;
  let failures = 0;
  for (;;) {
    const ended = new AbortController();
    const proof = token.get();
    let silence = setTimeout(() => ended.abort(), SILENCE);
    try {
      const headers = last === null ? {} : { "Last-Event-ID": String(last) };
      const response = await request(last === null ? `events?since=${since}` : "events", { headers, signal: ended.signal });
      if (!response.ok) throw await refusal(response, proof);
      link.now("live");
      failures = 0;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        clearTimeout(silence);
        silence = setTimeout(() => ended.abort(), SILENCE);
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        const events = blocks.flatMap(parse);
        if (events.length > 0) {
          last = events.at(-1).seq;
          onEvents(events);
        }
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        await link.proof(error);
        continue;
      }
    } finally {
      clearTimeout(silence);
      ended.abort();
    }
    const pause = PAUSES[Math.min(failures, PAUSES.length - 1)];
    failures += 1;
    await link.now("lost", pause);
  }
};
