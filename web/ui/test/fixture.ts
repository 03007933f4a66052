// A server for component tests: the lesson page's skeleton, the API in memory,
// and terminals that are protocol peers. Tests change its state directly.

import { existsSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { CheckState, State, Status } from "../src/session";
import { Peer } from "./peer";

const dist = join(import.meta.dirname, "../../dist");

const step = (id: string, title: string, checks: string[], body: string) => `
<section class="step" id="${id}" data-step="${id}" data-done="false" aria-labelledby="${id}-title">
<h2 id="${id}-title"><span class="tick" role="img" aria-label="not done yet"></span>${title}</h2>
${body}
<ul class="checks">${checks
  .map(
    (name, i) =>
      `<li class="check" data-check="${id}/${i + 1}" data-status="pending"><span class="mark" role="img" aria-label="not done yet"></span><span class="check-name">${name}</span><div class="check-detail"></div></li>`,
  )
  .join("")}</ul>
<div class="help"><button type="button" class="check-button" data-step="${id}" disabled>Check</button>
<button type="button" class="hint-button" data-step="${id}" disabled>Hint</button>
<button type="button" class="solution-button" data-step="${id}" disabled>Show the solution</button>
<div class="help-text" aria-live="polite"></div></div></section>`;

const run = (id: string, code: string, more = "", terminal = "1") =>
  `<div class="block run" data-command="${id}" data-terminal="${terminal}" data-code="${code}"${more}><pre class="chroma"><code>${code}</code></pre>` +
  `<div class="tools"><button type="button" class="run-button" disabled>Run</button><button type="button" class="copy-button" disabled>Copy</button></div></div>`;

const page = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fixture</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/app.css"><script src="/app.js" defer></script></head>
<body class="lesson" data-lab="fixture">
<header class="bar"><a class="home" href="/"><span class="logo"></span><span class="home-name">Berth</span></a><h1>Fixture</h1><span class="space"></span>
<div class="progress" role="progressbar" aria-label="Steps done" aria-valuemin="0" aria-valuemax="2" aria-valuenow="0"><progress max="2" value="0"></progress><span class="progress-text">0 of 2</span></div>
<div class="time" hidden><button type="button" class="extend kept">Extend</button><span class="left"></span></div>
<div class="connection" role="status" data-state="none"></div><button type="button" class="theme" hidden>Theme</button></header>
<main class="split"><article class="text" id="text" tabindex="-1"><section class="intro"><p>Text.</p></section>
${step("one", "Step one", ["the first", "the second"], run("one/1", "echo one") + run("one/2", "for i in 1 2\ndo echo $i\ndone") + run("one/3", "echo other", "", "2"))}
${step("two", "Step two", ["the third"], run("two/1", "echo two", " data-interrupt") + run("two/2", "echo once", " data-once"))}
<p class="finish"><a class="button finish-link" href="/finish">Finish</a></p></article>
<div class="divider" role="separator" tabindex="0" aria-orientation="vertical" aria-valuemin="20" aria-valuemax="80" aria-valuenow="46"></div>
<section class="terminals" aria-label="Terminal"><div class="terminal-bar"><div class="tabs" role="tablist"></div></div>
<div class="screen" id="screen" tabindex="-1"><p class="before">Soon.</p></div><div class="status" role="status"></div></section></main></body></html>`;

export class Fixture {
  readonly server: Server = createServer((q, a) => this.#answer(q, a));
  readonly peer = new Peer(this.server);
  state: State;
  requests: string[] = [];
  #streams = new Set<ServerResponse>();
  #sessions = 1;

  constructor() {
    this.state = this.fresh("ready");
  }

  async listen(port = 0): Promise<string> {
    await new Promise<void>((done) => this.server.listen(port, "127.0.0.1", done));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  fresh(phase: State["phase"]): State {
    const now = Date.now();
    return {
      session: `s${this.#sessions++}`,
      lesson: "fixture",
      phase,
      now: new Date(now).toISOString(),
      started: new Date(now).toISOString(),
      expires: new Date(now + 3600_000).toISOString(),
      canExtend: true,
      ahead: 0,
      engine: { phase: "off" },
      steps: { one: { done: false }, two: { done: false } },
      checks: {},
      done: 0,
      total: 2,
    };
  }

  set(change: Partial<State>): void {
    Object.assign(this.state, change, { now: new Date().toISOString() });
    this.#send("state", this.state);
  }

  result(check: string, status: Status, more: Partial<CheckState["now"]> = {}): void {
    const id = check.split("/")[0]!;
    const before = this.state.checks?.[check];
    const c: CheckState = { passed: before?.passed || status === "passed", now: { check, status, at: new Date().toISOString(), ...more } };
    this.state.checks![check] = c;
    const all = id === "one" ? ["one/1", "one/2"] : ["two/1"];
    const stepDone = all.every((x) => this.state.checks?.[x]?.passed);
    this.state.steps![id] = { done: stepDone };
    this.#send("result", { ...c, check, step: id, stepDone });
  }

  notice(kind: string, text: string): void {
    this.#send("notice", { kind, text });
  }

  /** Ends the event streams, as a restart of the server does. */
  cut(): void {
    this.#streams.forEach((s) => s.destroy());
    this.#streams.clear();
  }

  stop(): void {
    this.cut();
    this.peer.stop();
    this.server.closeAllConnections();
    this.server.close();
  }

  #send(event: string, data: unknown): void {
    this.#streams.forEach((s) => s.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));
  }

  #answer(q: IncomingMessage, a: ServerResponse): void {
    const path = new URL(q.url ?? "/", "http://fixture").pathname;
    a.setHeader(
      "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    );
    const json = (v: unknown, status = 200) => {
      a.writeHead(status, { "Content-Type": "application/json" });
      a.end(JSON.stringify(v));
    };
    if (path === "/") {
      a.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
      a.end(page);
      return;
    }
    if (path === "/app.js" || path === "/app.css") {
      const file = join(dist, path);
      a.writeHead(existsSync(file) ? 200 : 404, { "Content-Type": path.endsWith("js") ? "text/javascript" : "text/css" });
      a.end(existsSync(file) ? readFileSync(file) : "");
      return;
    }
    this.requests.push(`${q.method} ${path}`);
    if (q.method === "POST" && q.headers["x-berth"] !== "1") {
      return json({ error: "no X-Berth header" }, 403);
    }
    if (path === "/api/labs/fixture/session") {
      if (this.state.phase === "ended" || this.state.phase === "failed") {
        this.state = this.fresh("ready");
      }
      return json(this.state);
    }
    const [, id, what = "", ...rest] = /^\/api\/sessions\/([^/]+)(?:\/(.*))?$/.exec(path)?.slice(0, 3).flatMap((s, i) => (i === 2 ? (s ?? "").split("/") : [s])) ?? [];
    if (id !== this.state.session) {
      return json({ error: "There is no such session." }, 404);
    }
    switch (what) {
      case "":
        return json(this.state);
      case "events":
        a.writeHead(200, { "Content-Type": "text/event-stream" });
        a.write(`retry: 200\nevent: state\ndata: ${JSON.stringify(this.state)}\n\n`);
        this.#streams.add(a);
        a.on("close", () => this.#streams.delete(a));
        return;
      case "terminals":
        return json([...this.peer.terminals.keys()]);
      case "extend":
        this.set({ expires: new Date(Date.now() + 3600_000).toISOString() });
        return json(this.state);
      case "reset":
        this.peer.terminals.clear();
        this.state = this.fresh("ready");
        return json(this.state);
      case "end":
        this.set({ phase: "ended", reason: "You ended it." });
        return json(this.state);
      case "checks": {
        const check = rest.join("/");
        return json(this.state.checks?.[check]?.now ?? { check, status: "failed", expected: "something", seen: "nothing", at: "" });
      }
      case "hints":
        return json({ html: `<p>hint ${rest[1]}</p>`, more: rest[1] === "1" });
      case "solution":
        return json({ html: run(`${rest[0]}/s1`, "echo solved") });
    }
    json({ error: "There is nothing here." }, 404);
  }
}
