// The editor on the files of a sandbox: a tree, open files in tabs, and
// CodeMirror. It is a bundle of its own, loaded when it is first opened, and
// knows nothing of the page but its host.

import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { unifiedMergeView } from "@codemirror/merge";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { Annotation, Compartment, EditorState, Text, type Extension, type TransactionSpec } from "@codemirror/state";
import {
  drawSelection,
  dropCursor,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags as t } from "@lezer/highlight";
import { Document, type DocumentState } from "./document";
import { languageOf, type Language } from "./language";
import type { FileText, Listing } from "./session";
import { Tree, type Root } from "./tree";

export interface EditorHost {
  home: string;
  roots: Root[];
  list(dir: string, host: number): Promise<Listing>;
  read(path: string, host: number): Promise<FileText>;
  write(path: string, host: number, text: string, was: string): Promise<{ version: string }>;
  notice(text: string, kind?: string): void;
  announce(text: string): void;
  ask(title: string, text: string, yes: string): Promise<boolean>;
}

/** Most files that are open at a time. */
const maxOpen = 20;

/** The change comes from disk: it is no edit of the learner. */
const fromDisk = Annotation.define<boolean>();

const colours = syntaxHighlighting(
  HighlightStyle.define([
    { tag: [t.comment, t.meta], color: "var(--code-comment)" },
    { tag: [t.keyword, t.modifier, t.operatorKeyword, t.controlKeyword], color: "var(--code-keyword)" },
    { tag: [t.string, t.special(t.string), t.regexp], color: "var(--code-string)" },
    { tag: [t.number, t.bool, t.null, t.atom], color: "var(--code-number)" },
    { tag: [t.propertyName, t.attributeName, t.tagName, t.typeName, t.className, t.definition(t.variableName), t.function(t.variableName)], color: "var(--code-name)" },
    { tag: [t.heading, t.strong], fontWeight: "600" },
    { tag: t.heading, color: "var(--code-keyword)" },
    { tag: t.emphasis, fontStyle: "italic" },
    { tag: [t.link, t.url], color: "var(--accent)", textDecoration: "underline" },
    { tag: t.invalid, color: "var(--bad)" },
  ]),
);

const looks = EditorView.theme({
  "&": { height: "100%", backgroundColor: "var(--term-bg)", color: "var(--text)", fontSize: "0.875rem" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6" },
  ".cm-content": { caretColor: "var(--term-cursor)", padding: "10px 0" },
  ".cm-cursor": { borderLeftColor: "var(--term-cursor)", borderLeftWidth: "2px" },
  ".cm-gutters": { backgroundColor: "var(--term-bg)", color: "var(--muted)", border: "0" },
  ".cm-lineNumbers .cm-gutterElement": { padding: "0 12px 0 14px", minWidth: "2.6em" },
  ".cm-activeLine": { backgroundColor: "transparent" },
  "&.cm-focused .cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--panel) 70%, transparent)" },
  ".cm-activeLineGutter": { backgroundColor: "transparent", color: "var(--text)" },
  "& > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, &.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": {
    backgroundColor: "var(--term-selection)",
  },
  ".cm-selectionMatch": { backgroundColor: "var(--accent-soft)" },
  ".cm-searchMatch": { backgroundColor: "var(--warn-soft)", outline: "1px solid var(--warn)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--accent-soft)", outline: "1px solid var(--line-strong)" },
  ".cm-panels": { backgroundColor: "var(--panel)", color: "var(--text)", borderColor: "var(--line)", fontFamily: "var(--sans)" },
  ".cm-panel.cm-search": { padding: "8px 32px 8px 10px" },
  ".cm-textfield": { backgroundColor: "var(--bg)", border: "1px solid var(--line-strong)", borderRadius: "6px", padding: "3px 8px", fontSize: "0.8125rem" },
  ".cm-button": { backgroundImage: "none", backgroundColor: "var(--raised)", color: "var(--text)", border: "1px solid var(--line)", borderRadius: "6px", padding: "3px 10px", fontSize: "0.8125rem" },
  ".cm-changedLine": { backgroundColor: "color-mix(in srgb, var(--ok) 14%, transparent) !important" },
  ".cm-changedText, .cm-insertedLine .cm-changedText": { background: "color-mix(in srgb, var(--ok) 24%, transparent) !important" },
  ".cm-deletedChunk": { backgroundColor: "var(--bad-soft) !important", color: "var(--text)", paddingLeft: "6px" },
  ".cm-deletedChunk .cm-deletedText": { background: "color-mix(in srgb, var(--bad) 24%, transparent) !important" },
  ".cm-deletedLine, .cm-deletedLine del": { textDecoration: "none" },
  ".cm-changeGutter": { width: "3px" },
  ".cm-changedLineGutter": { backgroundColor: "var(--ok)" },
  ".cm-deletedLineGutter": { backgroundColor: "var(--bad)" },
});

interface Open {
  path: string;
  host: number;
  language: Language;
  state: EditorState;
  scroll: ReturnType<EditorView["scrollSnapshot"]> | null;
  document: Document;
  difference: Compartment;
  shown: boolean; // the difference is
  fresh: boolean; // it is not on disk yet
  tab: HTMLButtonElement;
  box: HTMLElement;
}

export class Editor {
  readonly #root: HTMLElement;
  readonly #tree: Tree;
  readonly #tabs: HTMLElement;
  readonly #place: HTMLElement;
  readonly #empty: HTMLElement;
  readonly #question: HTMLElement;
  readonly #status: HTMLElement;
  readonly #where: HTMLElement;
  readonly #kind: HTMLElement;
  readonly #new: HTMLFormElement;
  #view: EditorView | null = null;
  #files: Open[] = [];
  #active: Open | null = null;
  #ready = true;
  #looked = 0;

  constructor(parent: HTMLElement, private readonly host: EditorHost) {
    this.#root = document.createElement("div");
    this.#root.className = "editor";
    this.#root.innerHTML = `
      <div class="editor-side">
        <div class="editor-tools" role="toolbar" aria-label="Files">
          <span class="editor-title">Files</span>
          <button type="button" class="icon new-file-button" aria-label="New file" title="New file"></button>
          <button type="button" class="icon dots-button" aria-label="Show hidden files" title="Show hidden files" aria-pressed="false"></button>
          <button type="button" class="icon reload refresh-button" aria-label="Read the files again" title="Read the files again"></button>
        </div>
        <form class="new-file" hidden><input type="text" aria-label="Path of the new file" spellcheck="false" autocomplete="off" maxlength="1000"></form>
      </div>
      <div class="editor-main">
        <div class="editor-bar">
          <button type="button" class="icon side-button" aria-label="Show the list of files" title="Files" aria-expanded="false"></button>
          <div class="editor-tabs" role="tablist" aria-label="Open files"></div>
        </div>
        <div class="editor-place"><p class="editor-empty">Pick a file from the list, or make a new one.</p></div>
        <div class="editor-question" role="group" aria-label="The file has changed on disk" hidden></div>
        <div class="editor-status"><span class="editor-where"></span><span class="editor-said"></span><span class="editor-kind"></span></div>
      </div>`;
    const find = <T extends HTMLElement>(s: string) => this.#root.querySelector<T>(s)!;
    this.#tabs = find(".editor-tabs");
    this.#place = find(".editor-place");
    this.#empty = find(".editor-empty");
    this.#question = find(".editor-question");
    this.#status = find(".editor-said");
    this.#where = find(".editor-where");
    this.#kind = find(".editor-kind");
    this.#new = find<HTMLFormElement>(".new-file");
    this.#tree = new Tree(host.roots, {
      list: (dir, on) => host.list(dir, on),
      open: (path, on) => void this.open(path, on).then(() => this.focus()),
      say: (text) => host.notice(text, "bad"),
    });
    find(".editor-side").append(this.#tree.element);
    parent.append(this.#root);

    find(".new-file-button").addEventListener("click", () => this.#askName());
    const dots = find(".dots-button");
    dots.addEventListener("click", () => {
      this.#tree.hidden = !this.#tree.hidden;
      dots.setAttribute("aria-pressed", String(this.#tree.hidden));
    });
    find(".refresh-button").addEventListener("click", () => void this.#refresh(true));
    const side = find(".side-button");
    side.addEventListener("click", () => this.#side(this.#root.dataset["side"] !== "open"));
    this.#new.addEventListener("submit", (e) => {
      e.preventDefault();
      void this.#create();
    });
    this.#new.addEventListener("keydown", (e) => {
      if (e.key === "Escape") {
        this.#new.hidden = true;
        find(".new-file-button").focus();
      }
    });
    this.#tabs.addEventListener("keydown", (e) => this.#keys(e));
    // Whoever comes here from a terminal may have changed something there.
    this.#root.addEventListener("focusin", () => void this.refresh());
    this.#root.addEventListener("pointerenter", () => void this.refresh());
    this.#side(true);
    void this.#tree.start();
  }

  /** Opens a file; a folder is shown in the tree. */
  async open(path: string, host = 1): Promise<void> {
    const at = this.#whole(path);
    const known = this.#files.find((f) => f.path === at && f.host === host);
    if (known) {
      this.#show(known);
      void this.#look(known);
      return;
    }
    if (this.#files.length >= maxOpen) {
      this.host.notice(`${maxOpen} files are open, which is as many as can be. Close one first.`);
      return;
    }
    let f: FileText;
    let fresh = false;
    try {
      f = await this.host.read(at, host);
    } catch (err) {
      const status = (err as { status?: number }).status;
      if (status !== 404 && status !== 400) {
        this.host.notice((err as Error).message, "bad");
        return;
      }
      const folder = await this.host.list(at, host).catch(() => null);
      if (folder) {
        this.#side(true);
        await this.#tree.reveal(folder.dir || at, host);
        return;
      }
      if (status === 400) {
        this.host.notice((err as Error).message, "bad");
        return;
      }
      f = { path: at, text: "", version: "" }; // it begins with the first key
      fresh = true;
    }
    // Asked for twice, or another name of a file that is open.
    const twice = this.#files.find((o) => o.path === (f.path || at) && o.host === host);
    this.#show(twice ?? this.#add(f.path || at, host, f, fresh));
    this.#side(false);
    void this.#tree.reveal(f.path || at, host);
  }

  /** Files can be read and written (true), or cannot for now. */
  ready(on: boolean): void {
    if (on !== this.#ready) {
      this.#ready = on;
      if (on) {
        this.wake();
        void this.#refresh(false);
      }
    }
  }

  /** Looks what changed on disk, if that was not done a moment ago. */
  async refresh(): Promise<void> {
    if (performance.now() - this.#looked > 1000) {
      await this.#refresh(false);
    }
  }

  /** The network may be back. */
  wake(): void {
    this.#files.forEach((f) => f.document.wake());
  }

  /** There is text that could not be saved yet. */
  get unsaved(): boolean {
    return this.#files.some((f) => f.document.unsaved);
  }

  /** Saves what waits for a pause in typing. */
  flush(): void {
    this.#files.forEach((f) => f.document.state.kind === "edited" && void f.document.save());
  }

  focus(): void {
    if (this.#active) {
      this.#view?.focus();
    } else {
      this.#tree.element.querySelector<HTMLElement>('[tabindex="0"]')?.focus();
    }
  }

  dispose(): void {
    this.#files.forEach((f) => f.document.close());
    this.#view?.destroy();
    this.#root.remove();
  }

  #whole(path: string): string {
    const p = path === "~" ? this.host.home : path.startsWith("~/") ? this.host.home + path.slice(1) : path;
    const full = p.startsWith("/") ? p : `${this.host.home}/${p}`;
    const parts: string[] = [];
    for (const part of full.split("/")) {
      if (part === "..") {
        parts.pop();
      } else if (part !== "" && part !== ".") {
        parts.push(part);
      }
    }
    return `/${parts.join("/")}`;
  }

  /** On a narrow pane the list of files stands above the file, when it is open. */
  #side(open: boolean): void {
    this.#root.dataset["side"] = open || this.#files.length === 0 ? "open" : "shut";
    this.#root.querySelector(".side-button")?.setAttribute("aria-expanded", String(this.#root.dataset["side"] === "open"));
  }

  #add(path: string, host: number, f: FileText, fresh: boolean): Open {
    const name = path.replace(/^.*\//, "") || path;
    const box = document.createElement("div");
    box.className = "editor-tab";
    box.setAttribute("role", "presentation");
    const tab = document.createElement("button");
    tab.type = "button";
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-selected", "false");
    tab.setAttribute("aria-keyshortcuts", "Delete");
    tab.tabIndex = -1;
    tab.textContent = name;
    tab.title = path;
    const shut = document.createElement("button"); // by keyboard: Delete on the tab
    shut.type = "button";
    shut.className = "icon shut";
    shut.tabIndex = -1;
    shut.setAttribute("aria-hidden", "true");
    shut.title = `Close ${name}`;
    box.append(tab, shut);
    this.#tabs.append(box);

    const language = languageOf(path, f.text);
    const difference = new Compartment();
    const open: Open = {
      path, host, language, difference, tab, box, fresh,
      shown: false,
      scroll: null,
      state: EditorState.create({ doc: f.text, extensions: this.#extensions(language, difference, separator(f.text), name) }),
      document: new Document(f.version, {
        read: () => this.host.read(path, host),
        write: (text, was) => this.host.write(path, host, text, was),
        text: () => (this.#active === open ? this.#view!.state : open.state).sliceDoc(),
        state: (s) => this.#told(open, s),
      }),
    };
    tab.addEventListener("click", () => {
      this.#show(open);
      this.focus();
      void this.#look(open);
    });
    shut.addEventListener("click", () => void this.#close(open));
    box.addEventListener("auxclick", (e) => e.button === 1 && void this.#close(open));
    this.#files.push(open);
    return open;
  }

  #extensions(l: Language, difference: Compartment, sep: string, name: string): Extension[] {
    return [
      EditorState.lineSeparator.of(sep),
      lineNumbers(),
      highlightSpecialChars(),
      history(),
      drawSelection(),
      dropCursor(),
      indentOnInput(),
      bracketMatching(),
      highlightActiveLine(),
      highlightActiveLineGutter(),
      highlightSelectionMatches(),
      indentUnit.of(l.indent === 0 ? "\t" : " ".repeat(l.indent)),
      EditorState.tabSize.of(l.indent === 0 ? 4 : l.indent),
      l.support(),
      colours,
      looks,
      difference.of([]),
      EditorView.contentAttributes.of({ "aria-label": `Text of ${name}. Escape, then Tab leaves it.`, spellcheck: "false" }),
      keymap.of([
        { key: "Mod-s", preventDefault: true, run: () => (void this.#saveNow(), true) },
        ...defaultKeymap,
        ...historyKeymap,
        ...searchKeymap,
        indentWithTab,
      ]),
      EditorView.updateListener.of((u) => {
        if (u.docChanged && !u.transactions.some((tr) => tr.annotation(fromDisk)) && this.#active) {
          this.#active.fresh = false;
          this.#active.document.edited();
        }
      }),
    ];
  }

  #show(f: Open): void {
    if (this.#active === f) {
      return;
    }
    this.#leave();
    this.#active = f;
    this.#empty.hidden = true;
    if (this.#view) {
      this.#view.setState(f.state);
    } else {
      this.#view = new EditorView({ state: f.state, parent: this.#place });
    }
    this.#view.dom.hidden = false;
    if (f.scroll) {
      this.#view.dispatch({ effects: f.scroll });
    }
    for (const o of this.#files) {
      o.tab.setAttribute("aria-selected", String(o === f));
      o.tab.tabIndex = o === f ? 0 : -1;
      o.box.dataset["here"] = String(o === f);
    }
    f.box.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.#draw();
  }

  /** Keeps what belongs to the file in view. */
  #leave(): void {
    if (this.#active && this.#view) {
      this.#active.scroll = this.#view.scrollSnapshot();
      this.#active.state = this.#view.state;
    }
  }

  async #close(f: Open): Promise<void> {
    if (f.document.unsaved) {
      await f.document.save();
    }
    const name = f.tab.textContent ?? "";
    if (f.document.unsaved && !(await this.host.ask(`Close ${name}?`, "What you changed in it is not saved and would be lost.", "Close it"))) {
      return;
    }
    f.document.close();
    const i = this.#files.indexOf(f);
    this.#files.splice(i, 1);
    const focused = f.box.contains(document.activeElement);
    f.box.remove();
    if (this.#active === f) {
      this.#active = null;
      const next = this.#files[i] ?? this.#files[i - 1];
      if (next) {
        this.#show(next);
        if (focused) {
          next.tab.focus();
        }
      } else {
        if (this.#view) {
          this.#view.dom.hidden = true;
        }
        this.#empty.hidden = false;
        this.#side(true);
        this.#draw();
        if (focused) {
          this.focus();
        }
      }
    }
  }

  async #saveNow(): Promise<void> {
    const f = this.#active;
    if (!f) {
      return;
    }
    if (f.fresh) {
      f.fresh = false;
      f.document.edited(); // an empty file is a file, too
    }
    await f.document.save();
    if (f.document.state.kind === "saved") {
      this.host.announce("Saved.");
    }
  }

  #told(f: Open, s: DocumentState): void {
    f.box.dataset["unsaved"] = String(s.kind !== "saved");
    if (s.kind === "saved" && f.shown) {
      this.#difference(f, null);
    }
    if (f === this.#active) {
      this.#draw();
    }
    if (s.kind === "changed") {
      this.host.announce(`${f.tab.textContent} has changed on disk meanwhile. Choose which one is kept, below the text.`);
    } else if ((s.kind === "waiting" || s.kind === "refused") && this.#status.dataset["told"] !== s.why) {
      this.#status.dataset["told"] = s.why;
      this.host.announce(`Not saved. ${s.why}`);
    } else if (s.kind === "saved") {
      delete this.#status.dataset["told"];
    }
  }

  #draw(): void {
    const f = this.#active;
    const s = f?.document.state;
    let say = "";
    switch (s?.kind) {
      case "saved":
        say = f!.fresh ? "New file" : "Saved";
        break;
      case "edited":
        say = "Edited";
        break;
      case "saving":
        say = "Saving";
        break;
      case "changed":
        say = "Not saved";
        break;
      case "waiting":
        say = `Not saved: ${s.why} Your text is kept here, and it is tried again.`;
        break;
      case "refused":
        say = `Not saved: ${s.why}`;
        break;
    }
    const bad = s?.kind === "waiting" || s?.kind === "refused" || s?.kind === "changed";
    this.#status.textContent = say;
    this.#status.title = bad ? say : "";
    this.#status.dataset["bad"] = String(bad);
    this.#where.textContent = f ? (f.path.startsWith(`${this.host.home}/`) ? `~${f.path.slice(this.host.home.length)}` : f.path) : "";
    this.#kind.textContent = f?.language.name ?? "";
    this.#ask();
  }

  /** In a conflict: what is to be kept? */
  #ask(): void {
    const f = this.#active;
    const s = f?.document.state;
    if (!f || s?.kind !== "changed") {
      this.#question.hidden = true;
      this.#question.replaceChildren();
      return;
    }
    const name = f.tab.textContent ?? "";
    const p = document.createElement("p");
    p.textContent = s.gone ? `${name} was deleted on disk meanwhile.` : `${name} was changed on disk meanwhile. What you typed is not saved.`;
    const button = (label: string, quiet: boolean, act: () => Promise<void>) => {
      const b = document.createElement("button");
      b.type = "button";
      b.className = `button small${quiet ? " quiet" : ""}`;
      b.textContent = label;
      b.addEventListener("click", () => {
        act()
          .catch((err: Error) => this.host.notice(err.message, "bad"))
          .finally(() => this.#active === f && document.activeElement === document.body && this.focus());
      });
      return b;
    };
    const all = s.gone
      ? [button("Write it again", false, () => f.document.overwrite())]
      : [
          button("Take the one on disk", false, async () => this.#replace(f, await f.document.takeDisk())),
          button("Overwrite it", true, () => f.document.overwrite()),
          button(f.shown ? "Hide the difference" : "Show the difference", true, async () => {
            this.#difference(f, f.shown ? null : (await this.host.read(f.path, f.host)).text);
            this.#ask();
            this.#question.querySelector<HTMLElement>("button:last-child")?.focus();
          }),
        ];
    this.#question.replaceChildren(p, ...all);
    this.#question.hidden = false;
  }

  /** Shows what differs from this text, or, for null, no longer. */
  #difference(f: Open, disk: string | null): void {
    f.shown = disk !== null;
    const view = disk === null ? [] : unifiedMergeView({ original: f.state.toText(disk), mergeControls: false, highlightChanges: true, gutter: true });
    this.#dispatch(f, { effects: f.difference.reconfigure(view) });
  }

  #dispatch(f: Open, spec: TransactionSpec): void {
    if (this.#active === f && this.#view) {
      this.#view.dispatch(spec);
    } else {
      f.state = f.state.update(spec).state;
    }
  }

  /** The file's text is now this, and nobody typed it. Only what differs is touched. */
  #replace(f: Open, text: string): void {
    const state = this.#active === f && this.#view ? this.#view.state : f.state;
    const a = state.doc.toString();
    const b = state.toText(text).toString();
    let from = 0;
    const least = Math.min(a.length, b.length);
    while (from < least && a.charCodeAt(from) === b.charCodeAt(from)) {
      from++;
    }
    let end = 0;
    while (end < least - from && a.charCodeAt(a.length - 1 - end) === b.charCodeAt(b.length - 1 - end)) {
      end++;
    }
    if (from === a.length && a.length === b.length) {
      return;
    }
    this.#dispatch(f, {
      changes: { from, to: a.length - end, insert: Text.of(b.slice(from, b.length - end).split("\n")) },
      annotations: fromDisk.of(true),
    });
  }

  async #refresh(loud: boolean): Promise<void> {
    this.#looked = performance.now();
    if (!this.#ready || document.visibilityState === "hidden") {
      return;
    }
    await Promise.all([this.#tree.refresh(), this.#active ? this.#look(this.#active) : undefined]);
    if (loud) {
      this.host.announce("The files were read again.");
    }
  }

  /** Takes over what is on disk, if nothing was typed. */
  async #look(f: Open): Promise<void> {
    if (f.fresh) {
      return;
    }
    try {
      const text = await f.document.refresh();
      if (text !== null && this.#files.includes(f)) {
        this.#replace(f, text);
      }
      delete f.box.dataset["gone"];
    } catch (err) {
      // Deleted, or not to be read any more: the text stays, and saving tells.
      f.box.dataset["gone"] = String((err as { status?: number }).status === 404);
    }
  }

  #askName(): void {
    const input = this.#new.querySelector("input")!;
    const { dir, host } = this.#tree.folder;
    this.#new.dataset["host"] = String(host);
    this.#new.hidden = false;
    const at = dir === "/" ? "/" : `${dir.startsWith(`${this.host.home}/`) || dir === this.host.home ? `~${dir.slice(this.host.home.length)}` : dir}/`;
    input.value = at;
    input.focus();
    input.setSelectionRange(at.length, at.length);
  }

  async #create(): Promise<void> {
    const input = this.#new.querySelector("input")!;
    const host = Number(this.#new.dataset["host"]) || 1;
    const name = input.value.trim();
    if (name === "" || name.endsWith("/")) {
      input.focus();
      return;
    }
    const path = this.#whole(name);
    try {
      await this.host.write(path, host, "", "");
    } catch (err) {
      if ((err as { status?: number }).status !== 409) {
        this.host.notice((err as Error).message, "bad");
        input.focus();
        return;
      }
      this.host.notice("There is a file of that name already. Here it is.");
    }
    this.#new.hidden = true;
    await this.#tree.refresh();
    await this.open(path, host);
    this.focus();
  }

  #keys(e: KeyboardEvent): void {
    const at = this.#files.findIndex((f) => f.tab === document.activeElement);
    if (at < 0) {
      return;
    }
    const n = this.#files.length;
    const to: Record<string, number> = { ArrowLeft: (at - 1 + n) % n, ArrowRight: (at + 1) % n, Home: 0, End: n - 1 };
    const i = to[e.key];
    if (i !== undefined) {
      e.preventDefault();
      this.#show(this.#files[i]!);
      this.#files[i]!.tab.focus();
    } else if (e.key === "Delete") {
      e.preventDefault();
      void this.#close(this.#files[at]!);
    }
  }
}

/** A file whose lines all end in CR LF keeps them; any other keeps every byte as well. */
function separator(text: string): string {
  return text.includes("\r\n") && !/(^|[^\r])\n/.test(text) && !/\r(?!\n)/.test(text) ? "\r\n" : "\n";
}
