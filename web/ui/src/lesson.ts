// The lesson page: opens the learner's session, follows it, and brings steps
// and terminals to life.

import { Blocks } from "./blocks";
import { Connection } from "./connection";
import { ask } from "./dialog";
import { startMenu } from "./menu";
import { announce, notice } from "./notice";
import { PhaseCard, type PhaseView } from "./phase";
import { api, Events, Refusal, Unreachable, type State } from "./session";
import { startSplit } from "./split";
import { Steps } from "./steps";
import { Tabs } from "./tabs";
import { onTheme } from "./theme";
import { TimeLeft } from "./time";

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
  #events: Events | null = null;
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
    this.#text = find("article.text");
    this.#terminals = find("section.terminals");
    this.#card = new PhaseCard(find(".screen"));
    this.#connection = new Connection(find(".connection"));
    this.#tabs = new Tabs(this.#terminals, this.#lab, {
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
    const finish = body.querySelector<HTMLElement>(".finish");
    this.#steps = new Steps(this.#text, body.querySelector<HTMLElement>(".bar .progress"), () => this.#session, (news) => {
      finish?.classList.add("all-done");
      if (news && finish?.dataset["told"] !== "true") {
        announce("All steps are done. The finish page sums up what you did.");
      }
      finish?.setAttribute("data-told", "true");
    });
    this.#blocks = new Blocks(this.#text, {
      session: () => this.#session,
      run: (terminal, id, code, interrupt) => this.#tabs.run(terminal, id, code, interrupt),
      acted: (step) => this.#steps.acted(step),
    });
    this.#steps.added = () => this.#blocks.ready(this.#phase === "ready");
    this.#time = new TimeLeft(find(".time"), find(".time .left"), find<HTMLButtonElement>(".time .extend"), () => void this.#extend());
    startSplit(find("main.split"), find(".divider"), () => this.#tabs.fit());
    onTheme(() => this.#tabs.theme());
    this.#keys();
    this.#network();
    void this.#open();
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
      this.#session = s.session;
      this.#phase = "";
      this.#began = performance.now();
      const id = s.session;
      this.#events = new Events(id, {
        state: (st) => st.session === this.#session && this.#update(st),
        result: (r) => id === this.#session && this.#steps.result(r),
        notice: (n) => notice(n.text, n.kind),
        live: (on) => this.#connection.live(on),
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
      this.#follow(this.#session === "" ? await api.open(this.#lab) : await api.reset(this.#session));
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

  // F6 goes from text to terminal and back; the shell never sees it.
  #keys(): void {
    this.#text.addEventListener("focusin", (e) => (this.#lastInText = e.target as HTMLElement));
    document.addEventListener(
      "keydown",
      (e) => {
        if (e.key !== "F6" || e.ctrlKey || e.altKey || e.metaKey || document.querySelector("dialog[open]")) {
          return;
        }
        e.preventDefault();
        e.stopPropagation();
        if (this.#terminals.contains(document.activeElement)) {
          const back = this.#lastInText?.isConnected && !(this.#lastInText as HTMLButtonElement).disabled ? this.#lastInText : this.#text;
          back.focus({ preventScroll: back !== this.#text });
        } else {
          this.#tabs.focus();
        }
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
