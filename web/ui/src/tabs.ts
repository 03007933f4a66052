// The terminals of a session: one tab each, a screen and a line behind it.

import { notice } from "./notice";
import type { Size } from "./protocol";
import { api } from "./session";
import { Line, type LineState } from "./socket";
import { recall, remember } from "./store";
import { Screen, type Look } from "./terminal";

export interface TabsEvents {
  /** State of the line of the terminal in view. */
  line(s: LineState | null): void;
  latency(ms: number): void;
  /** The server says that this session is no more. */
  gone(): void;
  /** The learner typed something. */
  typed(): void;
}

interface Memory {
  session: string;
  tab: string;
  /** By terminal: offset up to which output was drawn here, and questions of programs answered. */
  drawn: Record<string, number>;
}

const maxTabs = 8;
const look0 = (): Look => ({ fontSize: matchMedia("(max-width: 899.98px)").matches ? 13 : 14, screenReader: false });

export class Tabs {
  readonly #panes = new Map<string, Pane>();
  readonly #list: HTMLElement;
  readonly #add: HTMLButtonElement;
  readonly #screen: HTMLElement;
  readonly #status: HTMLElement;
  readonly #hint: HTMLElement;
  readonly #engine: HTMLElement;
  readonly #retry: HTMLButtonElement;
  #session = "";
  #memory: Memory = { session: "", tab: "1", drawn: {} };
  #selected: Pane | null = null;
  #look: Look = { ...look0(), ...recall<Partial<Look>>("look", {}) };
  #save: ReturnType<typeof setTimeout> | undefined;

  constructor(root: HTMLElement, private readonly lab: string, private readonly on: TabsEvents) {
    this.#list = root.querySelector<HTMLElement>("[role=tablist]")!;
    this.#screen = root.querySelector<HTMLElement>(".screen")!;
    this.#status = root.querySelector<HTMLElement>(".status")!;

    this.#add = document.createElement("button");
    this.#add.type = "button";
    this.#add.className = "icon add";
    this.#add.setAttribute("aria-label", "New terminal");
    this.#add.title = "New terminal";
    this.#add.hidden = true;
    this.#add.addEventListener("click", () => this.select(this.#unused(), true));
    this.#list.after(this.#add);
    this.#list.addEventListener("keydown", (e) => this.#keys(e));

    this.#hint = document.createElement("span");
    this.#hint.id = "terminal-help";
    this.#retry = document.createElement("button");
    this.#retry.type = "button";
    this.#retry.className = "button small retry";
    this.#retry.textContent = "Try now";
    this.#retry.hidden = true;
    this.#retry.addEventListener("click", () => {
      this.wake();
      this.focus();
    });
    this.#engine = document.createElement("span");
    this.#engine.className = "engine";
    this.#status.replaceChildren(this.#hint, this.#engine, this.#retry);
    this.#help();
    addEventListener("pagehide", () => this.#remember());
  }

  /** Opens the terminals of a session that is ready. */
  async open(session: string): Promise<void> {
    if (this.#session === session) {
      return;
    }
    this.close();
    this.#session = session;
    const m = recall<Memory | null>(`lab.${this.lab}`, null);
    this.#memory = m?.session === session && m.drawn ? m : { session, tab: "1", drawn: {} };
    this.#add.hidden = false;
    this.#pane("1");
    this.select(this.#memory.tab, false);
    let names: string[] = [];
    try {
      names = (await api.terminals(session)) ?? [];
    } catch {
      // The first one is enough to work with, and others can be opened.
    }
    if (this.#session !== session) {
      return;
    }
    names.slice(0, maxTabs).forEach((n) => this.#pane(n));
  }

  /** Ends all lines. What the screens show stays until the next session. */
  end(): void {
    for (const p of this.#panes.values()) {
      p.line?.close();
    }
    this.#session = "";
    this.#add.hidden = true;
    this.#help();
    this.on.line(null);
  }

  close(): void {
    this.#remember();
    for (const p of this.#panes.values()) {
      p.dispose();
    }
    this.#panes.clear();
    this.#selected = null;
    this.#session = "";
  }

  /** Shows a terminal, making it if need be. */
  select(name: string, focus: boolean): void {
    const pane = this.#pane(name);
    if (pane !== this.#selected) {
      this.#selected = pane;
      for (const p of this.#panes.values()) {
        const here = p === pane;
        p.tab.setAttribute("aria-selected", String(here));
        p.tab.tabIndex = here ? 0 : -1;
        p.panel.hidden = !here;
      }
      if (this.#session !== "") {
        pane.show(this.#look);
      }
      this.#memory.tab = name;
      this.#remember();
      this.#help();
      this.on.line(pane.line?.state ?? null);
    }
    if (focus) {
      pane.screen?.focus();
    }
  }

  /** Types code into a terminal, as a click on a command does. False: it was not sent. */
  async run(name: string, id: string, code: string, interrupt: boolean): Promise<boolean> {
    if (this.#session === "") {
      return false;
    }
    const fresh = !this.#panes.has(name) || !this.#panes.get(name)!.line;
    this.select(name, !matchMedia("(hover: none)").matches);
    const pane = this.#selected!;
    if (fresh) {
      await pane.settled();
    }
    if (interrupt) {
      if (!pane.command(`${id}^`, () => Uint8Array.of(3))) {
        return false;
      }
      await new Promise((r) => setTimeout(r, 250)); // for the program to end and the prompt to come
    }
    return pane.command(id, (s) => s.keys(code));
  }

  focus(): void {
    this.#selected?.screen?.focus();
  }

  wake(): void {
    for (const p of this.#panes.values()) {
      p.line?.wake();
    }
  }

  /** Says what the learner's engine does, when that is worth a word. */
  engine(e: { phase: string; reason?: string }): void {
    const text =
      e.phase === "starting" ? "Docker Engine is starting" : e.phase === "failed" ? `Docker Engine failed: ${e.reason || "the reason is not known"}` : "";
    if (this.#engine.textContent !== text) {
      this.#engine.textContent = text;
      this.#engine.dataset["phase"] = e.phase;
    }
  }

  theme(): void {
    for (const p of this.#panes.values()) {
      p.screen?.theme();
    }
  }

  fit(): void {
    this.#selected?.screen?.fit();
  }

  get look(): Look {
    return this.#look;
  }

  set look(l: Look) {
    this.#look = { fontSize: Math.min(28, Math.max(10, l.fontSize)), screenReader: l.screenReader };
    remember("look", this.#look);
    for (const p of this.#panes.values()) {
      p.screen?.look(this.#look);
    }
  }

  #unused(): string {
    for (let i = 1; ; i++) {
      if (!this.#panes.has(String(i))) {
        return String(i);
      }
    }
  }

  #pane(name: string): Pane {
    const known = this.#panes.get(name);
    if (known) {
      return known;
    }
    const session = this.#session;
    const pane = new Pane(name, session, this.#memory.drawn[name], {
      line: (s) => {
        if (s.kind === "closed" && s.code !== 1000) {
          this.on.gone();
        }
        if (pane === this.#selected) {
          this.#help();
          this.on.line(s);
        }
      },
      latency: (ms) => pane === this.#selected && this.on.latency(ms),
      typed: () => this.on.typed(),
      drawn: (offset) => {
        this.#memory.drawn[name] = offset;
        this.#save ??= setTimeout(() => this.#remember(), 500);
      },
      visible: () => pane === this.#selected,
    });
    pane.tab.addEventListener("click", () => this.select(name, true));
    this.#panes.set(name, pane);
    // In the order of their names, whatever order they were opened in.
    const order = [...this.#panes.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    this.#list.replaceChildren(...order.map((p) => p.tab));
    this.#screen.append(pane.panel);
    this.#add.disabled = this.#panes.size >= maxTabs;
    return pane;
  }

  #keys(e: KeyboardEvent): void {
    const tabs = [...this.#list.querySelectorAll<HTMLElement>("[role=tab]")];
    const at = tabs.indexOf(document.activeElement as HTMLElement);
    const to: Record<string, number> = {
      ArrowLeft: (at - 1 + tabs.length) % tabs.length,
      ArrowRight: (at + 1) % tabs.length,
      Home: 0,
      End: tabs.length - 1,
    };
    const i = to[e.key];
    if (at >= 0 && i !== undefined) {
      e.preventDefault();
      tabs[i]!.focus();
      this.select(tabs[i]!.dataset["name"]!, false);
    }
  }

  #help(): void {
    const s = this.#session === "" ? null : this.#selected?.line?.state;
    let text = "";
    let bad = false;
    if (s?.kind === "waiting" || s?.kind === "stalled") {
      bad = true;
      text =
        s.kind === "stalled"
          ? "No answer. What you type is not sent."
          : s.busy
            ? "Too many terminals or pages are open here. Close one."
            : navigator.onLine
              ? "Connection lost. What you type is not sent."
              : "You are offline. What you type is not sent.";
    } else if (s) {
      text = this.#selected?.mayType === false ? "Read only." : "";
    }
    this.#status.dataset["bad"] = String(bad);
    this.#retry.hidden = !bad || s?.kind !== "waiting";
    if (text !== "") {
      if (this.#hint.textContent !== text) {
        this.#hint.textContent = text;
      }
    } else if (!this.#hint.querySelector("kbd")) {
      this.#hint.innerHTML =
        "<kbd>F6</kbd> text and terminal <span class=\"more\"><kbd>Ctrl</kbd> <kbd>Shift</kbd> <kbd>C</kbd> copy <kbd>V</kbd> paste</span>";
    }
  }

  #remember(): void {
    clearTimeout(this.#save);
    this.#save = undefined;
    if (this.#session !== "") {
      remember(`lab.${this.lab}`, this.#memory);
    }
  }
}

interface PaneEvents {
  line(s: LineState): void;
  latency(ms: number): void;
  typed(): void;
  drawn(offset: number): void;
  visible(): boolean;
}

const ackBytes = 16 << 10;
const ackDelay = 25;

class Pane {
  readonly tab: HTMLButtonElement;
  readonly panel: HTMLElement;
  screen: Screen | null = null;
  line: Line | null = null;
  mayType = true;

  #acked = 0;
  #drawn = 0;
  #ackTimer: ReturnType<typeof setTimeout> | undefined;
  #edge: number; // what comes before is a replay
  #live = false;
  #liveTimer: ReturnType<typeof setTimeout> | undefined;
  #told = false; // that keys are not sent
  #last = 0; // when output came last
  #wasOpen = false;
  #wished = -Infinity; // when we last asked for a size
  #wish: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly name: string,
    private readonly session: string,
    drawn: number | undefined,
    private readonly on: PaneEvents,
  ) {
    this.#edge = drawn ?? -1;
    this.tab = document.createElement("button");
    this.tab.type = "button";
    this.tab.id = `tab-${name}`;
    this.tab.dataset["name"] = name;
    this.tab.setAttribute("role", "tab");
    this.tab.setAttribute("aria-controls", `panel-${name}`);
    this.tab.setAttribute("aria-selected", "false");
    this.tab.tabIndex = -1;
    this.tab.textContent = `Terminal ${name}`;
    this.panel = document.createElement("div");
    this.panel.id = `panel-${name}`;
    this.panel.className = "panel";
    this.panel.hidden = true;
    this.panel.setAttribute("role", "tabpanel");
    this.panel.setAttribute("aria-labelledby", this.tab.id);
  }

  /** Called when the pane is in view: connects the first time. */
  show(look: Look): void {
    delete this.tab.dataset["unread"];
    if (this.screen) {
      this.screen.fit();
      return;
    }
    const screen = new Screen(this.panel, this.name, "terminal-help", look, {
      input: (bytes) => this.#input(bytes),
      resize: (size) => this.#resize(size),
      drawn: (offset) => this.#ack(offset),
      notice: (text) => notice(text),
    });
    this.screen = screen;
    this.line = new Line(
      { url: (from, size) => api.terminal(this.session, this.name, from, size.rows, size.cols), size: screen.size },
      {
        state: (s) => this.#state(s),
        start: (offset, _, jumped) => this.#start(offset, jumped),
        output: (bytes, at) => this.#output(bytes, at),
        resize: (size) => {
          // Just after a wish of ours it is the answer to that, or to the one before.
          if (performance.now() - this.#wished > 1000) {
            screen.resized(size);
          }
        },
        exit: (status) => screen.say(`The shell ended${status ? ` with status ${status}` : ""}. Here is a new one.`),
        role: (mayType) => {
          this.mayType = mayType;
          this.#state(this.line!.state);
        },
        latency: (ms) => this.on.latency(ms),
        unsure: () => notice("The connection broke while you typed: the last keys may not have arrived."),
      },
    );
  }

  /** The first output has come and gone quiet: a prompt, most likely. At most 5 s. */
  async settled(): Promise<void> {
    const end = performance.now() + 5000;
    while (performance.now() < end && !(this.#last > 0 && performance.now() - this.#last > 120)) {
      await new Promise((r) => setTimeout(r, 40));
    }
  }

  command(id: string, bytes: (s: Screen) => Uint8Array): boolean {
    this.#alive();
    if (this.screen && this.line?.command(id, bytes(this.screen))) {
      this.on.typed();
      return true;
    }
    notice("There is no connection to the terminal, so nothing was run. Try again when it is back.");
    return false;
  }

  dispose(): void {
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#liveTimer);
    clearTimeout(this.#wish);
    this.line?.close();
    this.screen?.dispose();
    this.tab.remove();
    this.panel.remove();
  }

  #state(s: LineState): void {
    this.panel.dataset["line"] = s.kind;
    if (s.kind === "open") {
      this.#told = false;
      this.#wasOpen = true;
    }
    this.on.line(s);
  }

  #start(offset: number, jumped: boolean): void {
    const screen = this.screen!;
    if (jumped) {
      const older = offset < this.#drawn;
      screen.clear();
      screen.say(older ? "A new shell: the earlier one is gone." : "Output that came meanwhile is no longer kept.");
    }
    if (jumped || !this.#wasOpen) {
      this.#acked = this.#drawn = offset;
    }
    if (!this.#live) {
      // When nothing is known of an earlier view, what comes at once is old.
      screen.replay(true);
      clearTimeout(this.#liveTimer);
      this.#liveTimer = setTimeout(() => this.#alive(), this.#edge <= offset ? 300 : 2000);
    }
  }

  #output(bytes: Uint8Array, at: number): void {
    const screen = this.screen!;
    this.#last = performance.now();
    const old = this.#live ? 0 : Math.min(bytes.length, Math.max(0, this.#edge - at));
    if (old > 0) {
      screen.write(bytes.subarray(0, old), at + old);
      if (at + old >= this.#edge) {
        this.#alive();
      }
    }
    if (old < bytes.length) {
      screen.write(bytes.subarray(old), at + bytes.length);
    }
    if (this.#live && !this.on.visible()) {
      this.tab.dataset["unread"] = "true";
    }
  }

  /** From here on, programs that ask the terminal something get an answer. */
  #alive(): void {
    clearTimeout(this.#liveTimer);
    if (!this.#live) {
      this.#live = true;
      this.screen?.replay(false);
    }
  }

  #input(bytes: Uint8Array): void {
    this.#alive();
    if (!this.mayType) {
      return;
    }
    if (this.line?.input(bytes)) {
      this.on.typed();
    } else if (!this.#told && this.line?.state.kind !== "closed") {
      this.#told = true;
      notice("There is no connection to the terminal: what you type is not sent.");
    }
  }

  // While a divider is dragged, programs hear only of where it stops.
  #resize(size: Size): void {
    clearTimeout(this.#wish);
    this.#wished = performance.now();
    this.#wish = setTimeout(() => {
      this.#wished = performance.now();
      this.line?.resize(size);
    }, 80);
  }

  #ack(offset: number): void {
    this.#drawn = offset;
    const send = () => {
      clearTimeout(this.#ackTimer);
      this.#ackTimer = undefined;
      this.#acked = this.#drawn;
      this.line?.ack(this.#drawn);
      this.on.drawn(this.#drawn);
    };
    if (offset - this.#acked >= ackBytes) {
      send();
    } else {
      this.#ackTimer ??= setTimeout(send, ackDelay);
    }
  }
}
