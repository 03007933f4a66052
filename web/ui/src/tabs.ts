// The tabs beside the text: the terminals of a session, each with a screen and
// a line behind it, and sheets that show something else.

import { startAddMenu } from "./menu";
import { notice } from "./notice";
import { hostName, splitTerminal, terminalTitle, type PageTab, type TerminalTab } from "./page";
import { previewName, Preview } from "./preview";
import type { Size } from "./protocol";
import type { Way } from "./blocks";
import { caret } from "./keys";
import { api } from "./session";
import type { Sheet } from "./sheet";
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
  /** Previews that the learner opened. */
  ports?: { port: number; host: number; path: string }[];
  /** By terminal: offset up to which output was drawn here, and questions of programs answered. */
  drawn: Record<string, number>;
}

const maxTabs = 8;
const maxPreviews = 8;
const look0 = (): Look => ({ fontSize: matchMedia("(max-width: 899.98px)").matches ? 13 : 14, screenReader: false });

export class Tabs {
  readonly #panes = new Map<string, Pane>();
  readonly #sheets = new Map<string, Sheet>();
  readonly #titles = new Map<string, string>();
  readonly #list: HTMLElement;
  readonly #add: HTMLButtonElement;
  readonly #screen: HTMLElement;
  readonly #status: HTMLElement;
  readonly #hint: HTMLElement;
  readonly #engine: HTMLElement;
  readonly #retry: HTMLButtonElement;
  #session = "";
  #memory: Memory = { session: "", tab: "1", drawn: {} };
  #selected: Pane | Sheet | null = null;
  #terminal: Pane | null = null; // the one that was selected last
  #previews = ""; // State.preview
  #look: Look = { ...look0(), ...recall<Partial<Look>>("look", {}) };
  #save: ReturnType<typeof setTimeout> | undefined;

  constructor(
    root: HTMLElement,
    private readonly lab: string,
    private readonly terminals: readonly TerminalTab[],
    private readonly hosts: number,
    private readonly on: TabsEvents,
  ) {
    this.#list = root.querySelector<HTMLElement>("[role=tablist]")!;
    this.#screen = root.querySelector<HTMLElement>(".screen")!;
    this.#status = root.querySelector<HTMLElement>(".status")!;
    for (const t of terminals) {
      if (t.title) {
        this.#titles.set(t.name, t.title);
      }
    }

    this.#add = startAddMenu(this.#list, hosts, {
      terminal: (host) => this.select(this.#unused(host), true),
      port: (port, host) => this.preview({ port, host, path: "" }, true),
      canPreview: () => this.#previews !== "",
      full: () => this.#panes.size >= maxTabs,
    });
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
    for (let host = 2; host <= this.hosts; host++) {
      this.#pane(`1@${host}`);
    }
    this.terminals.slice(0, maxTabs).forEach((t) => this.#pane(t.name));
    for (const p of this.#memory.ports?.slice(0, maxPreviews) ?? []) {
      this.preview(p, false);
    }
    const last = this.#memory.tab;
    this.select(last.startsWith("=") && !this.#sheets.has(last) ? "1" : last, false);
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
    this.#remember();
    this.previews("");
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
    for (const s of [...this.#sheets.values()]) {
      if (s.close) {
        this.#drop(s);
      }
    }
    this.#selected = this.#terminal = null;
    this.#session = "";
  }

  /** Adds a sheet behind those there are. */
  add(sheet: Sheet): void {
    if (this.#sheets.has(sheet.name)) {
      return;
    }
    sheet.panel.hidden = true;
    this.#sheets.set(sheet.name, sheet);
    this.#screen.append(sheet.panel);
    sheet.tab.onclick = () => this.select(sheet.name, true);
    sheet.tab.onauxclick = (e) => e.button === 1 && sheet.close && this.remove(sheet.name);
    this.#order();
  }

  /** Takes a sheet out of the tabs without closing it. */
  take(name: string): void {
    const sheet = this.#sheets.get(name);
    if (!sheet) {
      return;
    }
    this.#sheets.delete(name);
    sheet.tab.remove();
    sheet.panel.remove();
    if (this.#selected === sheet) {
      this.#selected = null;
      if (this.#session !== "") {
        this.select(this.#terminal?.name ?? "1", false);
      }
    }
  }

  has(sheet: string): boolean {
    return this.#sheets.has(sheet);
  }

  /** The pages that the lesson wants beside its terminals. */
  lessonTabs(tabs: readonly PageTab[]): void {
    for (const t of tabs.slice(0, maxPreviews)) {
      if (t.port) {
        this.preview({ port: t.port, host: t.host || 1, path: t.path ?? "" }, false, t.title || `:${t.port}`);
      } else if (t.url && /^https?:/i.test(t.url)) {
        const a = document.createElement("a");
        a.className = "tab-link";
        a.href = t.url;
        a.target = "_blank";
        a.rel = "noopener";
        a.textContent = t.title || new URL(t.url).host;
        a.title = `${t.url} (in a new window)`;
        this.#add.after(a);
      }
    }
  }

  get canPreview(): boolean {
    return this.#previews !== "";
  }

  /** Takes a sheet away, and shows a terminal if it was in view. */
  remove(name: string): void {
    const sheet = this.#sheets.get(name);
    if (!sheet) {
      return;
    }
    const inView = this.#selected === sheet;
    this.#drop(sheet);
    if (this.#memory.ports) {
      this.#memory.ports = this.#memory.ports.filter((p) => previewName(p) !== name);
    }
    if (inView) {
      this.#selected = null;
      if (this.#session !== "") {
        this.select(this.#terminal?.name ?? "1", true);
      }
    }
    this.#remember();
  }

  #drop(sheet: Sheet): void {
    this.#sheets.delete(sheet.name);
    sheet.close?.();
    sheet.tab.remove();
    sheet.panel.remove();
  }

  /** Whether this terminal or sheet is in view. */
  shows(name: string): boolean {
    return this.#selected?.name === name;
  }

  /** Says where previews are: the session's State.preview, or "" while there are none. */
  previews(address: string): void {
    if (address === this.#previews) {
      return;
    }
    this.#previews = address;
    for (const s of this.#sheets.values()) {
      if (s instanceof Preview) {
        s.at(address);
        if (s === this.#selected) {
          s.show();
        }
      }
    }
  }

  /** Shows a port of a sandbox. Title is for a tab that stays. */
  preview(to: { port: number; host: number; path: string }, select: boolean, title = ""): void {
    const name = previewName(to);
    const known = this.#sheets.get(name);
    if (known instanceof Preview) {
      if (to.path) {
        known.go(to.path);
      }
    } else {
      const close = title === "" ? () => this.remove(name) : undefined;
      const p = new Preview(to, title || `${to.host > 1 ? `${hostName(to.host)} ` : ""}:${to.port}`, close);
      p.at(this.#previews);
      this.add(p);
      if (close && this.#session !== "" && !this.#memory.ports?.some((m) => previewName(m) === name)) {
        this.#memory.ports = [...(this.#memory.ports ?? []), to].slice(-maxPreviews);
      }
    }
    if (select) {
      this.select(name, true);
    }
  }

  /** Shows a terminal, making it if need be, or a sheet. */
  select(name: string, focus: boolean): void {
    const to = this.#sheets.get(name) ?? this.#pane(name);
    if (to !== this.#selected) {
      this.#selected = to;
      for (const p of [...this.#panes.values(), ...this.#sheets.values()]) {
        const here = p === to;
        p.tab.setAttribute("aria-selected", String(here));
        p.tab.tabIndex = here ? 0 : -1;
        p.panel.hidden = !here;
      }
      to.tab.scrollIntoView({ block: "nearest", inline: "nearest" });
      if (to instanceof Pane) {
        this.#terminal = to;
        if (this.#session !== "") {
          to.show(this.#look);
        }
      } else {
        to.show();
      }
      this.#memory.tab = name;
      this.#remember();
      this.#help();
      this.on.line(this.#line()?.state ?? null);
    }
    if (focus) {
      to instanceof Pane ? to.screen?.focus() : to.focus();
    }
  }

  /** The line of the terminal in view, or of the last one that was. */
  #line(): Line | null {
    return this.#terminal?.line ?? null;
  }

  /** Types code into a terminal, as a click on a command does. False: it was not sent. */
  async run(name: string, id: string, code: string, way: Way, interrupt: boolean): Promise<boolean> {
    if (this.#session === "") {
      return false;
    }
    const fresh = !this.#panes.has(name) || !this.#panes.get(name)!.line;
    this.select(name, !matchMedia("(hover: none)").matches);
    const pane = this.#terminal!;
    if (fresh) {
      await pane.settled();
    }
    if (interrupt) {
      if (!pane.command(`${id}^`, () => Uint8Array.of(3))) {
        return false;
      }
      await new Promise((r) => setTimeout(r, 250)); // for the program to end and the prompt to come
    }
    return pane.command(id, (s) => (way === "keys" ? caret(code) : s.keys(code, way === "line")));
  }

  focus(): void {
    this.#selected instanceof Pane ? this.#selected.screen?.focus() : this.#selected?.focus();
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
    this.#terminal?.screen?.fit();
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

  #unused(host: number): string {
    for (let i = 1; ; i++) {
      const name = host > 1 ? `${i}@${host}` : String(i);
      if (!this.#panes.has(name)) {
        return name;
      }
    }
  }

  // Terminals by machine and name, whatever order they were opened in, and
  // sheets behind them.
  #order(): void {
    const key = (p: Pane) => {
      const { inside, host } = splitTerminal(p.name);
      return `${host} ${inside}`;
    };
    const panes = [...this.#panes.values()].sort((a, b) => key(a).localeCompare(key(b), "en", { numeric: true }));
    const tabs = [...panes, ...this.#sheets.values()].map((p) => p.tab);
    const focused = document.activeElement;
    tabs.forEach((t, i) => this.#list.children[i] !== t && this.#list.insertBefore(t, this.#list.children[i] ?? null));
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.#list.contains(focused)) {
      focused.focus();
    }
  }

  #pane(name: string): Pane {
    const known = this.#panes.get(name);
    if (known) {
      return known;
    }
    const session = this.#session;
    const title = this.#titles.get(name) ?? terminalTitle(name, this.hosts);
    const pane = new Pane(name, title, session, this.#memory.drawn[name], {
      line: (s) => {
        if (s.kind === "closed" && s.code !== 1000) {
          this.on.gone();
        }
        if (pane === this.#terminal) {
          this.#help();
          this.on.line(s);
        }
      },
      latency: (ms) => pane === this.#terminal && this.on.latency(ms),
      typed: () => this.on.typed(),
      drawn: (offset) => {
        this.#memory.drawn[name] = offset;
        this.#save ??= setTimeout(() => this.#remember(), 500);
      },
      visible: () => pane === this.#selected,
    });
    pane.tab.addEventListener("click", () => this.select(name, true));
    this.#panes.set(name, pane);
    this.#order();
    this.#screen.append(pane.panel);
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
    } else if (at >= 0 && e.key === "Delete") {
      const sheet = this.#sheets.get(tabs[at]!.dataset["name"]!);
      if (sheet?.close) {
        e.preventDefault();
        this.remove(sheet.name);
      }
    }
  }

  #help(): void {
    const s = this.#session === "" ? null : this.#line()?.state;
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
      text = this.#terminal?.mayType === false ? "Read only." : "";
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
    title: string,
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
    this.tab.textContent = title;
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
    const screen = new Screen(this.panel, this.tab.textContent ?? this.name, "terminal-help", look, {
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
