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

const inline = (id: string, code: string, more = "") =>
  `<span class="code run" data-command="${id}" data-terminal="1" data-code="${code}"${more}><code>${code}</code><button type="button" class="run-button" disabled>Run</button></span>`;

const quiz = (id: string, question: string, choices: string[], type: "radio" | "checkbox" | "text") =>
  `<form class="quiz" data-quiz="${id}"><fieldset><legend>${question}</legend>${
    type === "text"
      ? '<label class="quiz-text"><span>Your answer</span><input type="text" name="text" maxlength="1000" autocomplete="off"></label>'
      : choices.map((c, i) => `<label><input type="${type}" name="a" value="${i}"> ${c}</label>`).join("")
  }</fieldset><div class="quiz-end"><button type="submit" class="quiz-button" disabled>Answer</button><span class="quiz-said" role="status"></span></div></form>`;

/** Steps as the server renders them, by id, in order. */
const standard = (): [string, string][] => [
  ["one", step("one", "Step one", ["the first", "the second"], run("one/1", "echo one") + run("one/2", "for i in 1 2\ndo echo $i\ndone") + run("one/3", "echo other", "", "2"))],
  ["two", step("two", "Step two", ["the third"], run("two/1", "echo two", " data-interrupt") + run("two/2", "echo once", " data-once"))],
];

/** Everything that is new in a lesson's text. */
const rich = (): [string, string][] => [
  [
    "one",
    step(
      "one",
      "Run commands in a line of text",
      ["nginx answers", "Which port does it publish?"],
      `<p>Start a server with ${inline("one/1", "docker run -d -p 8080:80 nginx")} and look at it with ${inline("one/2", "curl -s localhost:8080 | head -n 3")}. Leave a pager with ${inline("one/3", "^C", " data-keys")}, or begin a line with ${inline("one/4", "docker ", " data-no-enter")} and end it yourself. What <span class="code copy" data-code="nginx:1.27"><code>nginx:1.27</code><button type="button" class="copy-button" disabled>Copy</button></span> means stands in <span class="code open" data-open="~/site/index.html"><code>~/site/index.html</code><button type="button" class="open-button" disabled>Open</button></span>, and the server is to be seen <a class="preview" data-port="8080" data-host="1" data-path="/hello" href="PREVIEW8080/hello" target="_blank" rel="noopener">on port 8080</a>.</p>
<p>A long one, which breaks over lines: ${inline("one/5", "docker run --rm -it --name a-container-with-a-long-name -v /var/lib/somewhere/deep:/data alpine:3.20 sh -c &quot;ls -l /data&quot;")} and the text goes on.</p>
${run("one/6", "^X^C", " data-keys")}${run("one/7", "hostname", "", "1@2")}
<div class="block file" data-file="one/file-1" data-path="~/site/index.html" data-code="&lt;h1&gt;Hello&lt;/h1&gt;"><div class="path">~/site/index.html</div><pre class="chroma"><code>&lt;h1&gt;Hello&lt;/h1&gt;</code></pre><div class="tools"><button type="button" class="write-button" disabled>Write file</button><button type="button" class="copy-button" disabled>Copy</button></div></div>
<details><summary>More about ports</summary><p>A port is a number.</p></details>
${quiz("one/2", "Which port does it publish?", ["80", "8080", "443"], "radio")}`,
    ),
  ],
  [
    "two",
    step(
      "two",
      "Answer two questions",
      ["Which of these are images?", "What lists containers?"],
      `<p>Nothing is to be run here. A <a href="#note-one">link into the step before</a>.</p>${quiz("two/1", "Which of these are images?", ["nginx", "a running nginx", "alpine"], "checkbox")}${quiz("two/2", "What lists containers?", [], "text")}`,
    ),
  ],
  ["three", `<section class="step" id="three" data-step="three" aria-labelledby="three-title"><h2 id="three-title">Read to the end</h2><p>This step asks for nothing.</p>${"<p>Words, so that there is something to scroll over, and that go on for a line or two on every screen.</p>".repeat(14)}</section>`],
];

export interface PageOptions {
  rich?: boolean;
  paged?: boolean;
  intro?: string;
  layout?: "terminal" | "editor";
  watch?: boolean;
  cannot?: string;
  /** More of the JSON in the page. */
  data?: Record<string, unknown>;
}

const escape = (s: string) => s.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

function page(o: PageOptions, steps: [string, string][], title: string, previews: string): string {
  const editor = o.layout === "editor";
  const data = { lab: "fixture", title, next: "/finish", paged: o.paged === true, layout: o.layout ?? "terminal", home: "/root", ...o.data };
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/app.css"><script src="/app.js" defer></script></head>
<body class="lesson" data-lab="fixture" data-layout="${o.layout ?? "terminal"}"${o.paged ? " data-paged" : ""}${o.watch ? " data-watch" : ""}${o.cannot ? ` data-cannot="${escape(o.cannot)}"` : ""}>
<header class="bar"><a class="home" href="/"><span class="logo"></span><span class="home-name">Berth</span></a><h1>${title}</h1><span class="space"></span>
<div class="progress" role="progressbar" aria-label="Steps done" aria-valuemin="0" aria-valuemax="2" aria-valuenow="0"><progress max="2" value="0"></progress><span class="progress-text">0 of 2</span></div>
<div class="time" hidden><button type="button" class="extend kept">Extend</button><span class="left"></span></div>
<div class="connection" role="status" data-state="none"></div><button type="button" class="theme" hidden>Theme</button></header>
<main class="split"><article class="text" id="text" tabindex="-1"><section class="intro" id="intro"><p class="facts"><span class="level">beginner</span></p>${o.intro ?? "<p>Text.</p>"}</section>
${steps.map(([, html]) => html.replaceAll("PREVIEW8080", previews.replace("PORT", "8080"))).join("\n")}
<p class="finish"><a class="button finish-link" href="/finish">Finish</a></p></article>
<div class="divider" role="separator" tabindex="0" aria-orientation="vertical" aria-valuemin="20" aria-valuemax="80" aria-valuenow="46"></div>
<section class="terminals" aria-label="Terminal">${editor && !o.cannot ? '<div class="files-pane"></div><div class="divider rows" role="separator" tabindex="0" aria-orientation="horizontal" aria-label="Height of the editor" aria-valuemin="20" aria-valuemax="80" aria-valuenow="56"></div>' : ""}<div class="terminal-bar"><div class="tabs" role="tablist"></div></div>
<div class="screen" id="screen" tabindex="-1"><p class="before">Soon.</p></div><div class="status" role="status"></div></section></main>
<script type="application/json" id="lesson">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script></body></html>`;
}

/** The list of labs, as the server renders it. */
function home(labs: { course: string; title: string; cannot?: string }[]): string {
  let out = "";
  let course: string | null = null;
  labs.forEach((l, i) => {
    if (l.course !== course) {
      out += `${course === null ? "" : "</ul></section>"}<section class="course">${l.course ? `<h2 class="course-title">${l.course}</h2>` : ""}<ul class="labs">`;
      course = l.course;
    }
    const h = l.course ? "h3" : "h2";
    out += `<li class="lab"><${h} class="lab-title"><a href="/labs/${i}">${l.title}</a></${h}><p class="summary">What ${l.title} is about, in one sentence.</p><ul class="facts">${l.cannot ? `<li class="read-only" title="${l.cannot}">read only</li>` : ""}<li class="level">beginner</li><li class="minutes">25 min</li></ul><div class="lab-foot"><a class="button${l.cannot ? " quiet" : ""} start" href="/labs/${i}">${l.cannot ? "Read" : "Start"}<span class="sr-only">: ${l.title}</span></a></div></li>`;
  });
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Labs</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/app.css"><script src="/app.js" defer></script></head>
<body class="home-page"><header class="bar"><a class="home" href="/"><span class="logo"></span><span class="home-name">Berth</span></a><span class="space"></span><button type="button" class="theme" hidden>Theme</button></header>
<main class="page"><h1>Labs</h1><p class="lead">Read on the left, work in a real shell on the right.</p>
<div class="filter" role="search"><input type="search" aria-label="Filter the labs" placeholder="Filter" autocomplete="off" spellcheck="false" disabled><span class="filter-count" role="status">${labs.length} labs</span></div>
<div id="labs" tabindex="-1">${out}</ul></section></div></main></body></html>`;
}

/** A file of the sandbox; its version changes with its text. */
interface Stored {
  text: string;
  version: number;
}

export class Fixture {
  readonly server: Server = createServer((q, a) => this.#answer(q, a));
  readonly peer = new Peer(this.server);
  state: State;
  requests: string[] = [];
  options: PageOptions = {};
  title = "Fixture";
  steps: [string, string][] = standard();
  /** What is right, by check. */
  answers: Record<string, unknown> = {};
  bodies: unknown[] = [];
  /** Files by path; folders are what paths say. */
  readonly files = new Map<string, Stored>();
  /** Files cannot be reached: the connection breaks. */
  filesDown = false;
  /** What the list of labs shows. */
  labs: { course: string; title: string; cannot?: string }[] = [];
  #writes = 1;
  #changes = new Set<ServerResponse>();
  #streams = new Set<ServerResponse>();
  #sessions = 1;

  constructor() {
    this.state = this.fresh("ready");
  }

  async listen(port = 0): Promise<string> {
    await new Promise<void>((done) => this.server.listen(port, "127.0.0.1", done));
    this.state.preview = this.previews;
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** A lesson with everything in it. */
  enrich(o: PageOptions = {}): void {
    this.options = { rich: true, ...o };
    this.title = "A server in a container";
    this.steps = rich();
    this.answers = { "one/2": { picked: [1] }, "two/1": { picked: [0, 2] }, "two/2": { text: "docker ps" } };
    this.state.steps = { one: { done: false }, two: { done: false } };
  }

  get previews(): string {
    return `http://PORT-0123456789abcdef.preview.localhost:${(this.server.address() as AddressInfo).port}`;
  }

  /** Changes a file behind the editor's back. */
  put(path: string, text: string): void {
    this.files.set(path, { text, version: this.#writes++ });
  }

  /** The author saved: pages that watch are told. */
  edit(mistakes: unknown[] = []): void {
    for (const s of [...this.#changes, ...this.#streams]) {
      s.write(`event: lesson\ndata: ${JSON.stringify({ mistakes })}\n\n`);
    }
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
      ...(this.server.listening ? { preview: this.previews } : {}),
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
    const all = id === "one" ? ["one/1", "one/2"] : this.options.rich ? ["two/1", "two/2"] : ["two/1"];
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
    this.#changes.forEach((s) => s.destroy());
    this.#changes.clear();
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
    const url = new URL(q.url ?? "/", "http://fixture");
    const path = url.pathname;
    if (q.headers.host?.includes(".preview.localhost")) {
      this.requests.push(`preview ${q.headers.host.split("-")[0]} ${path}`);
      a.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
      a.end(`<!doctype html><title>Preview</title><body style="font: 16px system-ui; padding: 2rem"><h1>Port ${q.headers.host.split("-")[0]}</h1><p id="path">${escape(path)}</p>`);
      return;
    }
    const at = `localhost:${(this.server.address() as AddressInfo).port}`;
    a.setHeader(
      "Content-Security-Policy",
      `default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self'; frame-src 'self' http://*.preview.${at}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'`,
    );
    const json = (v: unknown, status = 200) => {
      a.writeHead(status, { "Content-Type": "application/json" });
      a.end(JSON.stringify(v));
    };
    if (path === "/") {
      a.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
      a.end(page(this.options, this.steps, this.title, this.previews));
      return;
    }
    if (path === "/labs" || path === "/finish") {
      a.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
      a.end(path === "/labs" ? home(this.labs) : "<!doctype html><title>Finish</title><p>Done.");
      return;
    }
    if (path === "/preview") {
      a.writeHead(302, { Location: url.searchParams.get("to") ?? "/" });
      a.end();
      return;
    }
    if (path === "/app.js" || path === "/app.css" || path === "/editor.js") {
      const file = join(dist, path);
      a.writeHead(existsSync(file) ? 200 : 404, { "Content-Type": path.endsWith("js") ? "text/javascript" : "text/css" });
      a.end(existsSync(file) ? readFileSync(file) : "");
      return;
    }
    this.requests.push(`${q.method} ${path}`);
    if (q.method !== "GET" && q.headers["x-berth"] !== "1") {
      return json({ error: "no X-Berth header" }, 403);
    }
    if (path === "/api/labs/fixture/changes" && this.options.watch) {
      a.writeHead(200, { "Content-Type": "text/event-stream" });
      a.write("retry: 200\n\n");
      this.#changes.add(a);
      a.on("close", () => this.#changes.delete(a));
      return;
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
    const body = async () => {
      let text = "";
      for await (const part of q) {
        text += String(part);
      }
      return JSON.parse(text) as Record<string, unknown>;
    };
    if (this.filesDown && (what === "file" || what === "files")) {
      q.socket.destroy();
      return;
    }
    switch (what) {
      case "arrivals":
        a.writeHead(204).end();
        return;
      case "answers":
        void body().then((b) => {
          const check = rest.join("/");
          this.bodies.push(b);
          const right = JSON.stringify(b) === JSON.stringify(this.answers[check]);
          this.result(check, right ? "passed" : "failed");
          json(this.state.checks![check]!.now);
        });
        return;
      case "files": {
        if (q.method === "POST") {
          this.put("/root/site/index.html", "<h1>Hello</h1>");
          a.writeHead(204).end();
          return;
        }
        const dir = url.searchParams.get("dir") ?? "";
        const below = [...this.files.keys()].filter((p) => p.startsWith(dir === "/" ? "/" : `${dir}/`));
        if (below.length === 0 && dir !== "/root") {
          return json({ error: "There is no such folder." }, 404);
        }
        const names = new Map<string, { name: string; path: string; dir: boolean; size: number; mtime: string }>();
        for (const p of below) {
          const [name = "", ...more] = p.slice(dir === "/" ? 1 : dir.length + 1).split("/");
          names.set(name, { name, path: `${dir === "/" ? "" : dir}/${name}`, dir: more.length > 0, size: 1, mtime: "" });
        }
        return json({ dir, entries: [...names.values()], more: false });
      }
      case "file": {
        const file = url.searchParams.get("path") ?? "";
        const here = this.files.get(file);
        if (q.method === "GET") {
          return here ? json({ path: file, text: here.text, version: String(here.version) }) : json({ error: "There is no such file." }, 404);
        }
        void body().then((b) => {
          const now = this.files.get(file);
          if (String(b["was"]) !== (now ? String(now.version) : "")) {
            return json({ error: "The file has changed.", version: now ? String(now.version) : "" }, 409);
          }
          this.put(file, String(b["text"]));
          json({ version: String(this.files.get(file)!.version) });
        });
        return;
      }
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
