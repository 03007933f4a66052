// The lesson page: opens the learner's session, follows it, and brings steps
// and terminals to life.

import { Blocks } from "./blocks";
import { Connection } from "./connection";
import { ask } from "./dialog";
import { Files } from "./files";
import { startMenu } from "./menu";
import { announce, notice } from "./notice";
import { lessonData } from "./page";
import { Pager } from "./pager";
import { PhaseCard, type PhaseView } from "./phase";
import { Quizzes } from "./quiz";
import { api, Events, Refusal, Unreachable, type State } from "./session";
import { narrow, startRows, startSplit } from "./split";
import { Steps } from "./steps";
import { Tabs } from "./tabs";
import { onTheme } from "./theme";
import { TimeLeft } from "./time";
import { Watch } from "./watch";

export class Lesson {
  readonly #lab: string;
  readonly #text: HTMLElement;
  readonly #terminals: HTMLElement;
  readonly #tabs: Tabs;
  readonly #steps: Steps;
  readonly #blocks: Blocks;
  readonly #card: PhaseCard;
  readonly #connection: Connection;
  readonly #time: TimeLeft;
  readonly #menu: (open: boolean) => void;
  readonly #quizzes: Quizzes;
  readonly #files: Files;
  readonly #above: HTMLElement | null; // the editor's pane above the terminals
  readonly #pager: Pager | null = null;
  readonly #cannot: string; // why this lesson cannot be run, or ""
  #arrived = new Set<string>(); // parts of this session that the server was told of
  #events: Events | null = null;
  readonly #watch: Watch | null;
  #session = "";
  #phase: State["phase"] | "" = "";
  #began = performance.now();
  #busy = false;
  #lastInText: HTMLElement | null = null;

  constructor(body: HTMLElement) {
    const find = <T extends HTMLElement>(s: string) => {
      const e = body.querySelector<T>(s);
      if (!e) {
        throw new Error(`the page has no ${s}`);
      }
      return e;
    };
    this.#lab = body.dataset["lab"] ?? "";
    this.#cannot = body.dataset["cannot"] ?? "";
    const data = lessonData();
    this.#text = find("article.text");
    this.#terminals = find("section.terminals");
    this.#watch = body.dataset["watch"] === undefined ? null : new Watch(this.#text, this.#lab);
    this.#card = new PhaseCard(find(".screen"));
    this.#connection = new Connection(find(".connection"));
    this.#tabs = new Tabs(this.#terminals, this.#lab, data.terminals, data.hosts, {
      line: (s) => this.#connection.line(s),
      latency: (ms) => this.#connection.latency(ms),
      gone: () => void this.#look(),
      typed: () => undefined,
    });
    const tabs = this.#tabs;
    this.#menu = startMenu(find(".terminal-bar"), {
      get look() {
        return tabs.look;
      },
      set look(l) {
        tabs.look = l;
      },
      startOver: () => void this.#startOver(),
      end: () => void this.#end(),
    });
    this.#above = data.layout === "editor" ? body.querySelector<HTMLElement>(".files-pane") : null;
    this.#files = new Files(data, {
      session: () => this.#session,
      select: (focus) => this.#tabs.has(this.#files.name) && this.#tabs.select(this.#files.name, focus),
    });
    if (this.#cannot === "") {
      this.#placeFiles();
      narrow.addEventListener("change", () => this.#placeFiles());
      this.#tabs.lessonTabs(data.tabs);
    }
    const finish = body.querySelector<HTMLElement>(".finish");
    this.#steps = new Steps(this.#text, body.querySelector<HTMLElement>(".bar .progress"), () => this.#session, (news) => {
      finish?.classList.add("all-done");
      if (news && finish?.dataset["told"] !== "true") {
        announce("All steps are done. The finish page sums up what you did.");
      }
      finish?.setAttribute("data-told", "true");
    });
    this.#blocks = new Blocks(
      this.#text,
      {
        session: () => this.#session,
        run: async (terminal, id, code, way, interrupt) => {
          const sent = await this.#tabs.run(terminal, id, code, way, interrupt);
          if (sent) {
            setTimeout(() => this.#files.changed(), 1500); // for the command to have done something
          }
          return sent;
        },
        open: (path, host) => void this.#files.open(path, host),
        wrote: (path, host) => {
          if (path !== "" && data.layout === "editor") {
            void this.#files.open(path, host);
          } else {
            this.#files.changed();
          }
        },
        acted: (step) => this.#steps.acted(step),
      },
      this.#cannot !== "",
    );
    this.#steps.added = () => this.#blocks.ready(this.#phase === "ready");
    this.#quizzes = new Quizzes(this.#text, {
      session: () => this.#session,
      answered: (r) => {
        this.#steps.take(r);
      },
    });
    this.#text.addEventListener("click", (e) => this.#previewLink(e));
    if (body.dataset["paged"] !== undefined) {
      this.#pager = new Pager(this.#text, {
        lab: this.#lab,
        finish: data.next || `/labs/${encodeURIComponent(this.#lab)}/finish`,
        done: (step) => this.#steps.isDone(step),
        missing: (step) => this.#steps.missing(step),
        evaluate: (step) => this.#steps.evaluate(step),
        ready: () => this.#phase === "ready",
        shown: (part) => this.#arrive(part),
      });
    }
    this.#steps.changed = () => {
      this.#quizzes.update(this.#steps.checks);
      this.#pager?.update();
    };
    this.#time = new TimeLeft(find(".time"), find(".time .left"), find<HTMLButtonElement>(".time .extend"), () => void this.#extend());
    startSplit(find("main.split"), find("main.split > .divider"), () => this.#tabs.fit());
    const rows = body.querySelector<HTMLElement>(".terminals > .divider");
    if (rows) {
      startRows(this.#terminals, rows, () => this.#tabs.fit());
    }
    onTheme(() => this.#tabs.theme());
    this.#keys();
    this.#watch?.start({ swapped: (fresh) => this.#swapped(fresh) }, this.#cannot !== "");
    if (this.#cannot !== "") {
      this.#readOnly();
      return;
    }
    this.#network();
    void this.#open();
  }

  // A lesson that can be read here, but not run: no session is opened.
  #readOnly(): void {
    this.#card.show({ kind: "cannot", title: "This lab can be read here, but not run", text: this.#cannot });
    this.#blocks.ready(false);
    this.#menu(false);
  }

  // The editor stands above the terminals where the lesson wants that and there
  // is room, and in a tab otherwise.
  #placeFiles(): void {
    const { tab, panel, name } = this.#files;
    if (this.#above && !narrow.matches) {
      this.#tabs.take(name);
      panel.removeAttribute("role");
      panel.hidden = false;
      this.#above.append(panel);
    } else {
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      this.#tabs.add(this.#files);
    }
    if (!panel.hidden) {
      this.#files.show();
    }
  }

  // A link to a port opens a tab; with a key held, or the middle button, the
  // browser does what it does with any link.
  #previewLink(e: MouseEvent): void {
    const a = (e.target as Element).closest<HTMLAnchorElement>("a.preview");
    if (!a || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey || this.#phase !== "ready" || !this.#tabs.canPreview) {
      return;
    }
    const port = Number(a.dataset["port"]);
    const host = Number(a.dataset["host"]) || 1;
    if (port > 0) {
      e.preventDefault();
      this.#tabs.preview({ port, host, path: a.dataset["path"] || "/" }, true);
      announce(`Opened in a tab: port ${port}.`);
      const step = a.closest<HTMLElement>("[data-step]")?.dataset["step"];
      if (step) {
        this.#steps.acted(step);
      }
    }
  }

  // The server is told once per session that the learner came to a part of a
  // paged lesson: what is to happen there happens then.
  #arrive(part: string): void {
    if (!this.#pager || this.#phase !== "ready" || part === "") {
      return;
    }
    const unseen = this.#pager.unseen;
    if (unseen !== "" && part !== unseen && !this.#arrived.has(unseen)) {
      this.#arrive(unseen);
    }
    if (this.#arrived.has(part)) {
      return;
    }
    const session = this.#session;
    const arrived = this.#arrived;
    arrived.add(part);
    api.arrive(session, part).catch((err) => {
      if (session !== this.#session) {
        return;
      }
      if (err instanceof Unreachable) {
        arrived.delete(part); // the next word from the server tries again
      } else if (!(err instanceof Refusal && [404, 410].includes(err.status))) {
        notice((err as Error).message, "bad");
      }
    });
  }

  // The lesson was edited, and its text on this page was replaced.
  #swapped(fresh: globalThis.Document): void {
    document.title = fresh.title;
    const title = fresh.querySelector(".bar h1")?.textContent;
    const here = document.querySelector(".bar h1");
    if (title && here) {
      here.textContent = title;
    }
    this.#steps.adopt();
    this.#blocks.ready(this.#phase === "ready");
    this.#steps.ready(this.#phase === "ready");
    this.#quizzes.ready(this.#phase === "ready");
    this.#quizzes.update(this.#steps.checks);
    this.#pager?.adopt();
  }

  // Opens or resumes the session; tries again while the server is away.
  async #open(attempt = 0): Promise<void> {
    this.#began = performance.now();
    if (attempt === 0) {
      this.#card.show({ kind: "starting", title: "Opening your session", text: "", since: this.#began });
    }
    try {
      this.#follow(await api.open(this.#lab));
    } catch (err) {
      if (err instanceof Refusal && err.status === 429 && attempt < 3) {
        // Another page of this learner is opening the same lab, most likely.
        setTimeout(() => void this.#open(attempt + 1), 1500);
        return;
      }
      if (err instanceof Unreachable && attempt < 20) {
        this.#connection.live(false);
        this.#card.show({
          kind: "unreachable",
          title: "The server does not answer",
          text: "Trying again. You can read on meanwhile.",
          since: this.#began,
          action: { label: "Try now", run: () => void this.#open() },
        });
        setTimeout(() => this.#session === "" && void this.#open(attempt + 1), Math.min(10_000, 1000 * 1.5 ** attempt));
        return;
      }
      this.#fail("Your session could not be opened", err, () => void this.#open());
    }
  }

  // Everything that is known of a session is shown from here.
  #follow(s: State): void {
    if (s.session !== this.#session) {
      this.#events?.close();
      this.#tabs.close();
      this.#steps.reset();
      this.#arrived = new Set();
      this.#session = s.session;
      this.#phase = "";
      this.#began = performance.now();
      const id = s.session;
      this.#events = new Events(id, {
        state: (st) => st.session === this.#session && this.#update(st),
        result: (r) => id === this.#session && this.#steps.result(r),
        notice: (n) => notice(n.text, n.kind),
        lesson: (data) => this.#watch?.told(data),
        live: (on) => {
          this.#connection.live(on);
          this.#watch?.live(on);
        },
        refused: () => void this.#look(),
      });
    }
    this.#update(s);
  }

  #update(s: State): void {
    const before = this.#phase;
    this.#phase = s.phase;
    document.body.dataset["phase"] = s.phase;
    this.#steps.update(s);
    this.#time.update(s);
    this.#blocks.ready(s.phase === "ready");
    this.#quizzes.ready(s.phase === "ready");
    this.#tabs.previews(s.phase === "ready" ? (s.preview ?? "") : "");
    this.#files.session(s.session, s.phase === "ready");
    this.#menu(s.phase !== "ended");
    this.#tabs.engine(s.phase === "ready" ? s.engine : { phase: "off" });
    if (s.phase !== before && (s.phase === "starting" || s.phase === "waiting")) {
      this.#began = performance.now();
    }
    const v = this.#view(s);
    if (v) {
      this.#card.show(v);
    } else {
      this.#card.hide();
    }
    if (s.phase === "ready") {
      void this.#tabs.open(s.session);
      this.#arrive(this.#pager?.part ?? "");
      if (before === "starting" || before === "waiting") {
        announce("The terminal is ready.");
      }
    } else if (s.phase === "ended" || s.phase === "failed") {
      this.#events?.close();
      this.#connection.live(true);
      this.#tabs.end();
    }
  }

  #view(s: State): PhaseView | null {
    switch (s.phase) {
      case "waiting":
        return {
          kind: "waiting",
          title: s.ahead > 0 ? `${s.ahead} ahead of you` : "You are next",
          text: "All places are taken right now. Yours opens here by itself; you can read on meanwhile.",
          since: this.#began,
        };
      case "starting":
        return {
          kind: "starting",
          title: "Starting your sandbox",
          text: "A small machine with a Docker Engine of its own. It takes a few seconds at most.",
          since: this.#began,
        };
      case "failed":
        return {
          kind: "failed",
          title: "Your sandbox did not start",
          text: s.reason || "The reason is not known.",
          action: { label: "Try again", run: () => void this.#open() },
        };
      case "ended":
        return {
          kind: "ended",
          title: "This session has ended",
          text: `${s.reason || "It was ended."} Your progress is kept.`,
          action: { label: "Start a new session", run: () => void this.#open() },
        };
    }
    return null;
  }

  #fail(title: string, err: unknown, again: () => void): void {
    this.#blocks.ready(false);
    this.#quizzes.ready(false);
    this.#card.show({
      kind: "failed",
      title,
      text: err instanceof Error ? err.message : String(err),
      action: { label: "Try again", run: again },
    });
  }

  // The server said that the session is not what we think: ask.
  async #look(): Promise<void> {
    const id = this.#session;
    if (this.#busy || id === "") {
      return;
    }
    this.#busy = true;
    try {
      const s = await api.state(id);
      if (id === this.#session) {
        this.#follow(s);
      }
    } catch (err) {
      if (err instanceof Refusal && (err.status === 404 || err.status === 410) && id === this.#session) {
        this.#events?.close();
        this.#tabs.end();
        this.#phase = "ended";
        this.#files.session(this.#session, false);
        this.#quizzes.ready(false);
        this.#blocks.ready(false);
        this.#steps.ready(false);
        this.#card.show({
          kind: "ended",
          title: "This session is no more",
          text: "Your progress is kept.",
          action: { label: "Start a new session", run: () => void this.#open() },
        });
      }
      // Otherwise the line and the events go on trying.
    } finally {
      this.#busy = false;
    }
  }

  async #startOver(): Promise<void> {
    const yes = await ask(
      "Start over?",
      "You get a fresh sandbox and empty ticks. Files, images and containers of this one are deleted.",
      "Start over",
    );
    if (!yes) {
      return;
    }
    try {
      const fresh = this.#session === "" ? await api.open(this.#lab) : await api.reset(this.#session);
      this.#phase = ""; // what the first part begins with is for the new session
      this.#pager?.restart();
      this.#follow(fresh);
    } catch (err) {
      notice(err instanceof Error ? err.message : String(err), "bad");
    }
  }

  async #end(): Promise<void> {
    if (this.#session === "" || !(await ask("End the session?", "Your sandbox is deleted. Your progress is kept.", "End the session"))) {
      return;
    }
    try {
      this.#follow(await api.end(this.#session));
    } catch (err) {
      notice(err instanceof Error ? err.message : String(err), "bad");
    }
  }

  async #extend(): Promise<void> {
    try {
      this.#follow(await api.extend(this.#session));
      announce("You have more time.");
    } catch (err) {
      notice(err instanceof Error ? err.message : String(err), "bad");
    }
  }

  // F6 goes from text to editor, to terminal and back; the shell never sees it.
  #keys(): void {
    this.#text.addEventListener("focusin", (e) => (this.#lastInText = e.target as HTMLElement));
    const text = () => {
      const last = this.#lastInText;
      const start = this.#pager?.heading ?? this.#text;
      const back = last?.isConnected && last.offsetParent !== null && !(last as HTMLButtonElement).disabled ? last : start;
      back.focus({ preventScroll: back !== this.#text });
    };
    document.addEventListener(
      "keydown",
      (e) => {
        if (e.key !== "F6" || e.ctrlKey || e.altKey || e.metaKey || document.querySelector("dialog[open]")) {
          return;
        }
        e.preventDefault();
        e.stopPropagation();
        const at = document.activeElement;
        const above = this.#above && !narrow.matches && this.#cannot === "" ? this.#above : null;
        const order = [text, ...(above ? [() => this.#files.focus()] : []), () => this.#tabs.focus()];
        const here = above?.contains(at) ? 1 : this.#terminals.contains(at) ? order.length - 1 : 0;
        order[(here + (e.shiftKey ? order.length - 1 : 1)) % order.length]!();
      },
      { capture: true },
    );
  }

  #network(): void {
    const wake = () => {
      this.#tabs.wake();
      this.#events?.wake();
    };
    addEventListener("online", wake);
    addEventListener("offline", () => this.#tabs.wake());
    addEventListener("pageshow", (e) => e.persisted && wake());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());
    addEventListener("focus", () => this.#tabs.fit());
  }
}
