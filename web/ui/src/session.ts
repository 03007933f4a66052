// The server's API and events, in the names of labs/state.go.

export type Phase = "waiting" | "starting" | "ready" | "failed" | "ended";
export type Status = "passed" | "failed" | "unknown";

export interface Result {
  check: string;
  status: Status;
  expected?: string;
  seen?: string;
  reason?: string;
  at: string;
}

export interface CheckState {
  passed: boolean;
  now: Result;
}

export interface State {
  session: string;
  lesson: string;
  phase: Phase;
  reason?: string;
  now: string;
  started: string;
  expires: string;
  canExtend: boolean;
  ahead: number;
  engine: { phase: string; reason?: string };
  steps: Record<string, { done: boolean }> | null;
  checks: Record<string, CheckState> | null;
  done: number;
  total: number;
  images?: Record<string, string>;
  /** Address of the previews, with the word PORT where the port belongs. */
  preview?: string;
}

export interface Answer {
  picked?: number[];
  text?: string;
}

/** A file or folder in a sandbox. */
export interface Entry {
  name: string;
  path: string;
  dir: boolean;
  size: number;
  mtime: string | number;
}

export interface Listing {
  dir: string;
  entries: Entry[] | null;
  more: boolean;
}

export interface FileText {
  path: string;
  text: string;
  version: string;
}

export interface ResultEvent extends CheckState {
  check: string;
  step: string;
  stepDone: boolean;
}

export interface Notice {
  kind: string;
  text: string;
}

/** The server said no; message is a sentence for the learner. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** Of the file as it is now, when somebody else changed it (409). */
    readonly version?: string,
  ) {
    super(message);
  }
}

/** Nothing came back. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

interface Options {
  /** Sent as JSON. */
  body?: unknown;
  /** The request goes on when the page is left. */
  keepalive?: boolean;
}

async function call<T>(method: "GET" | "POST" | "PUT", path: string, o: Options = {}): Promise<T> {
  let r: Response;
  try {
    r = await fetch(path, {
      method,
      headers: {
        ...(method === "GET" ? {} : { "X-Berth": "1" }),
        ...(o.body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: o.body === undefined ? null : JSON.stringify(o.body),
      keepalive: o.keepalive ?? false,
      signal: AbortSignal.timeout(60_000),
    });
  } catch {
    throw new Unreachable();
  }
  if (!r.ok) {
    let said: { error?: string; version?: string } = {};
    try {
      said = (await r.json()) as typeof said;
    } catch {
      // Not from our server: a proxy on the way, most likely.
    }
    throw new Refusal(r.status, said.error || `The server answered with status ${r.status}.`, said.version);
  }
  return (r.status === 204 ? undefined : await r.json()) as T;
}

const path = (...parts: (string | number)[]) => "/" + parts.map((p) => encodeURIComponent(p)).join("/");
const query = (q: Record<string, string>, host: number) => "?" + new URLSearchParams(host > 1 ? { ...q, host: String(host) } : q).toString();
const each = (id: string) => id.split("/"); // ids of checks and files are "step/n"

export const api = {
  open: (lab: string) => call<State>("POST", path("api", "labs", lab, "session")),
  state: (id: string) => call<State>("GET", path("api", "sessions", id)),
  extend: (id: string) => call<State>("POST", path("api", "sessions", id, "extend")),
  reset: (id: string) => call<State>("POST", path("api", "sessions", id, "reset")),
  end: (id: string) => call<State>("POST", path("api", "sessions", id, "end")),
  terminals: (id: string) => call<string[] | null>("GET", path("api", "sessions", id, "terminals")),
  file: (id: string, block: string) => call<void>("POST", path("api", "sessions", id, "files", ...each(block))),
  check: (id: string, check: string) => call<Result>("POST", path("api", "sessions", id, "checks", ...each(check))),
  solution: (id: string, step: string) => call<{ html: string }>("GET", path("api", "sessions", id, "solution", step)),
  hint: (id: string, step: string, n: number) =>
    call<{ html: string; more: boolean }>("GET", path("api", "sessions", id, "hints", step, n)),
  arrive: (id: string, part: string) => call<void>("POST", path("api", "sessions", id, "arrivals", part), { keepalive: true }),
  answer: (id: string, check: string, answer: Answer) =>
    call<Result>("POST", path("api", "sessions", id, "answers", ...each(check)), { body: answer }),
  list: (id: string, dir: string, host: number) => call<Listing>("GET", path("api", "sessions", id, "files") + query({ dir }, host)),
  read: (id: string, file: string, host: number) => call<FileText>("GET", path("api", "sessions", id, "file") + query({ path: file }, host)),
  write: (id: string, file: string, host: number, text: string, was: string) =>
    call<{ version: string }>("PUT", path("api", "sessions", id, "file") + query({ path: file }, host), { body: { text, was } }),
  /** Address of the events that say that a lesson's files were read again. */
  changes: (lab: string) => path("api", "labs", lab, "changes"),
  /** Address of a terminal's WebSocket. */
  terminal(id: string, name: string, from: number, rows: number, cols: number): string {
    const u = new URL(path("api", "sessions", id, "terminals", name), location.href);
    u.protocol = u.protocol === "https:" ? "wss:" : "ws:";
    u.search = `?from=${from}&rows=${rows}&cols=${cols}`;
    return u.href;
  },
};

export interface EventsListener {
  state(s: State): void;
  result(r: ResultEvent): void;
  notice(n: Notice): void;
  /** The lesson's files were read again: JSON with the mistakes in them. */
  lesson(data: string): void;
  /** Events arrive (true), or do not for the time being (false). */
  live(on: boolean): void;
  /** The stream was refused for good: the session is no more, or the server said no. */
  refused(): void;
}

/** The events of one session. The browser reconnects by itself. */
export class Events {
  #source: EventSource | null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly session: string, private readonly on: EventsListener) {
    this.#source = this.#open();
    // A browser has six connections to one host, and keeps those of pages that
    // were left as long as it keeps the pages.
    addEventListener("pagehide", this.#leave);
    addEventListener("pageshow", this.#back);
  }

  readonly #leave = () => this.#source?.close();
  readonly #back = (e: PageTransitionEvent) => e.persisted && this.wake();

  /** Something suggests that the network changed: connect again now if needed. */
  wake(): void {
    if (this.#source && this.#source.readyState !== EventSource.OPEN) {
      this.#source.close();
      this.#source = this.#open();
    }
  }

  close(): void {
    clearTimeout(this.#timer);
    removeEventListener("pagehide", this.#leave);
    removeEventListener("pageshow", this.#back);
    this.#source?.close();
    this.#source = null;
  }

  #open(): EventSource {
    const s = new EventSource(path("api", "sessions", this.session, "events"));
    const data = <T>(e: Event) => JSON.parse((e as MessageEvent<string>).data) as T;
    s.onopen = () => this.on.live(true);
    s.addEventListener("state", (e) => this.on.state(data<State>(e)));
    s.addEventListener("result", (e) => this.on.result(data<ResultEvent>(e)));
    s.addEventListener("notice", (e) => this.on.notice(data<Notice>(e)));
    s.addEventListener("lesson", (e) => this.on.lesson((e as MessageEvent<string>).data));
    s.onerror = () => {
      this.on.live(false);
      if (s.readyState === EventSource.CLOSED && this.#source === s) {
        // An answer that is no stream. Whoever listens asks for the state and
        // closes us if that settles it.
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.wake(), 3000);
        this.on.refused();
      }
    };
    return s;
  }
}
