// The broker as Node sees it: fetch, WebSocket, Server-Sent Events.
//
//   node [--experimental-websocket] node.mjs http://ADDR:PORT
//
// With WEIR_NODE_MODULES (a folder with node_modules in it) the package `eventsource` is tried too.

import net from "node:net";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { isDeepStrictEqual, inspect } from "node:util";

const base = process.argv[2];
if (!base) throw new Error("the address of a broker is missing: http://ADDR:PORT");
if (typeof WebSocket === "undefined") throw new Error("this Node has no WebSocket (try --experimental-websocket)");
const sockets = base.replace("http", "ws");
const WAIT = 20_000;
let checks = 0;

function same(what, got, wanted) {
  checks += 1;
  if (!isDeepStrictEqual(got, wanted)) throw new Error(`${what}:\n    wanted: ${inspect(wanted)}\n    got:    ${inspect(got)}`);
}

const topic = (name) => `node-${process.pid}.${name}`;
const at = (name, rest = "/messages") => `${base}/v1/topics/${topic(name)}${rest}`;

function within(what, promise) {
  let timer;
  const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error(`${what}: nothing within ${WAIT} ms`)), WAIT); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function publish(name, body, type = "application/json", headers = {}) {
  const answer = await fetch(at(name), { method: "POST", body, headers: { "content-type": type, ...headers }, duplex: "half" });
  same(`publish to ${name}: status`, answer.status, 202);
  return answer.json();
}

// A socket whose frames are asked for one by one.
class Socket {
  constructor(name, rest, protocols) {
    this.frames = []; this.waiting = []; this.closed = null;
    this.socket = new WebSocket(`${sockets}/v1/topics/${topic(name)}/${rest}`, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => (this.waiting.length ? this.waiting.shift().found(data) : this.frames.push(data));
    this.socket.onclose = (event) => { this.closed = event; for (const { fail } of this.waiting) fail(new Error(`closed with ${event.code}`)); };
  }
  receive() {
    const next = this.frames.length ? Promise.resolve(this.frames.shift())
      : this.closed ? Promise.reject(new Error(`closed with ${this.closed.code}`))
        : new Promise((found, fail) => this.waiting.push({ found, fail }));
    return within("a frame", next);
  }
  async json() {
    const frame = await this.receive();
    same("kind of frame", typeof frame, "string");
    return JSON.parse(frame);
  }
  send(data) { this.socket.send(data); }
  async close() {
    if (this.closed) return this.closed;
    const done = new Promise((found) => this.socket.addEventListener("close", found));
    this.socket.close(1000);
    return within("the close", done);
  }
}

// What a text/event-stream says, by the rules of the HTML standard.
async function* events(url, headers = {}) {
  const stop = new AbortController();
  try {
    const answer = await fetch(url, { headers: { accept: "text/event-stream", ...headers }, signal: stop.signal });
    same(`${url}: status`, answer.status, 200);
    same(`${url}: content type`, answer.headers.get("content-type").split(";")[0], "text/event-stream");
    let rest = "", event = { type: "message", data: [] }, id = "";
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data.length) yield { type: event.type, data: event.data.join("\n"), id };
          event = { type: "message", data: [] };
        } else if (!line.startsWith(":")) {
          const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
          if (field === "data") event.data.push(value ?? "");
          else if (field === "event") event.type = value;
          else if (field === "id") id = value ?? "";
        }
      }
    }
  } finally {
    stop.abort();
  }
}

async function take(count, stream) {
  const found = [];
  const all = (async () => { for await (const event of stream) if (found.push(event) === count) break; })();
  await within(`${count} events`, all);
  return found;
}

const tests = {
  async publish_and_read() {
    const bytes = Uint8Array.from({ length: 70_000 }, (_, n) => (n * 7) & 255);
    const first = await publish("bytes", bytes, "application/octet-stream");
    same("offset", first.offset, 0);
    const stream = new ReadableStream({
      start(control) { for (let n = 0; n < bytes.length; n += 1000) control.enqueue(bytes.slice(n, n + 1000)); control.close(); },
    });
    same("offset of a streamed body", (await publish("bytes", stream, "image/x-noise")).offset, 1);
    same("offset of a text", (await publish("bytes", "straße", "text/plain;charset=UTF-8", { "weir-key": "k", "weir-attr-a": "b" })).offset, 2);
    for (const [offset, type] of [[0, "application/octet-stream"], [1, "image/x-noise"]]) {
      const answer = await fetch(at("bytes", `/messages/${offset}`));
      same(`content type of ${offset}`, answer.headers.get("content-type"), type);
      same(`bytes of ${offset}`, Buffer.compare(Buffer.from(await answer.arrayBuffer()), Buffer.from(bytes)), 0);
    }
    const answer = await fetch(at("bytes", "/messages/2"));
    same("text", [await answer.text(), answer.headers.get("weir-key"), answer.headers.get("weir-attr-a")], ["straße", "k", "b"]);
    const page = await (await fetch(at("bytes", "/messages?from=2"))).json();
    same("the text in a poll", [page.messages[0].data, page.messages[0].attributes, page.next], ["straße", { a: "b" }, 3]);
    const problem = await fetch(at("bytes", "/messages?max=0"));
    same("a refusal", [problem.status, problem.headers.get("content-type"), (await problem.json()).code], [400, "application/problem+json", "invalid-request"]);
  },

  async producer_and_tail() {
    const tail = new Socket("socket", "tail?from=earliest");
    const producer = new Socket("socket", "producer", ["weir.v1"]);
    const { welcome } = await producer.json();
    same("protocol", [welcome.protocol, producer.socket.protocol], ["weir.v1", "weir.v1"]);
    for (let n = 0; n < 200; n += 1) producer.send(JSON.stringify({ id: n, data: { n, text: "ü\u2028" } }));
    const acked = [];
    while (acked.length < 200) acked.push(...(await producer.json()).acks);
    same("acks", acked.map(({ id, offset }) => [id, offset]), Array.from({ length: 200 }, (_, n) => [n, n]));
    const seen = [];
    while (seen.length < 200) seen.push(...(await tail.json()).messages);
    same("tail", seen.map(({ offset, data, receipt }) => [offset, data, receipt]), acked.map(({ id, receipt }) => [id, { n: id, text: "ü\u2028" }, receipt]));
    producer.send("nonsense");
    const error = await producer.json();
    same("an error frame", [error.frame, error.error.code], [201, "invalid-request"]);
    same("a clean close", [(await producer.close()).code, (await tail.close()).code], [1000, 1000]);
  },

  async raw_socket() {
    const producer = new Socket("raw", "producer", ["weir.raw.v1"]);
    same("welcome", (await producer.json()).welcome.protocol, "weir.raw.v1");
    const payloads = ["text ü", Uint8Array.of(0, 255, 1), new Uint8Array(0)];
    for (const payload of payloads) producer.send(payload);
    for (let next = 1; next <= payloads.length;) {
      const { acked } = await producer.json();
      same("where a range begins", acked.from, next);
      next = acked.to + 1;
    }
    for (const [offset, payload] of payloads.entries()) {
      const answer = await fetch(at("raw", `/messages/${offset}`));
      same(`payload ${offset}`, Buffer.compare(Buffer.from(await answer.arrayBuffer()), Buffer.from(payload)), 0);
    }
    await producer.close();
  },

  async refused_socket() {
    const socket = new Socket("refused", "producer?colour=1");
    const failed = await within("the refusal", new Promise((found) => socket.socket.addEventListener("error", () => found(true))));
    same("a refused handshake", failed, true);
  },

  async server_sent_events() {
    for (let n = 0; n < 5; n += 1) await publish("events", JSON.stringify({ n, text: "a\nb" }));
    const { epoch } = await (await fetch(at("events", ""))).json();
    const found = await take(5, events(at("events", "/events?from=earliest")));
    same("ids", found.map(({ id }) => id), [0, 1, 2, 3, 4].map((n) => `${epoch}-${n}`));
    same("types", new Set(found.map(({ type }) => type)), new Set(["message"]));
    const page = await (await fetch(at("events"))).json();
    same("data is the message", found.map(({ data }) => JSON.parse(data)), page.messages);
    const resumed = await take(2, events(at("events", "/events"), { "last-event-id": found[2].id }));
    same("resumed after Last-Event-ID", resumed.map(({ id }) => id), [`${epoch}-3`, `${epoch}-4`]);
    const live = take(3, events(at("events", "/events?from=4")));
    await publish("events", "5");
    await publish("events", "6");
    same("then what comes", (await live).map(({ data }) => JSON.parse(data).offset), [4, 5, 6]);
    const behind = take(1, events(at("events", "/events"), { "last-event-id": `${epoch}-6` }));
    await publish("events", "7");
    same("resumed at the head", (await behind).map(({ id }) => id), [`${epoch}-7`]);
  },

  // A client that comes back by itself: a relay cuts its connection again and again.
  async event_source_over_cuts() {
    const packages = process.env.WEIR_NODE_MODULES;
    if (!packages) { console.log("the package eventsource is not here: its test is passed over"); return; }
    const place = createRequire(path.join(packages, "any.js")).resolve("eventsource");
    const { EventSource } = await import(pathToFileURL(place));
    const { hostname, port } = new URL(base);
    let cuts = 0;
    const relay = net.createServer((client) => {
      const broker = net.connect(Number(port), hostname);
      // The first three connections get so many bytes and not one more, wherever that is.
      let left = cuts < 3 ? 10_000 : Infinity;
      client.pipe(broker);
      broker.on("data", (piece) => {
        if (left === 0) return;
        const part = piece.length < left ? piece : piece.subarray(0, left);
        left -= part.length;
        client.write(part);
        if (left === 0) { cuts += 1; client.end(); broker.destroy(); }
      });
      for (const [one, other] of [[client, broker], [broker, client]]) { one.on("error", () => other.destroy()); one.on("close", () => other.destroy()); }
    });
    await new Promise((done) => relay.listen(0, "127.0.0.1", done));
    same("the topic is made", (await fetch(at("cuts", ""), { method: "PUT" })).status, 201);
    const source = new EventSource(`http://127.0.0.1:${relay.address().port}/v1/topics/${topic("cuts")}/events?from=earliest`);
    const seen = [];
    const all = new Promise((done) => { source.onmessage = ({ data, lastEventId }) => { seen.push([JSON.parse(data).offset, lastEventId]); if (seen.length === 300) done(); }; });
    let last;
    for (let n = 0; n < 300; n += 1) last = await publish("cuts", JSON.stringify("x".repeat(50)));
    same("the last offset", last.offset, 299);
    await within("300 events over cut connections", all).finally(() => { source.close(); relay.close(); });
    const { epoch } = await (await fetch(at("cuts", ""))).json();
    same("every message once, in order", seen, Array.from({ length: 300 }, (_, n) => [n, `${epoch}-${n}`]));
    same("connections that were cut", cuts, 3);
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
  } catch (error) {
    failed += 1;
    const line = /node\.mjs:(\d+)/.exec(error.stack?.split("\n").find((l) => l.includes("at tests.") || l.includes("at Object.")) ?? "")?.[1];
    console.log(`FAILED: ${name}${line ? ` (line ${line})` : ""}: ${error.message}`);
  }
}
console.log(`Node: ${Object.keys(tests).length - failed} tests passed with ${checks} checks, ${failed} failed`);
process.exit(failed ? 1 : 0);
