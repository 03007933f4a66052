// The buttons beside the lesson's code, in blocks and within lines: run, press
// keys, copy, write a file, open a file.

import { copy } from "./clipboard";
import { announce, notice } from "./notice";
import { api, type Refusal } from "./session";

/** How code gets into a terminal. */
export type Way = "line" | "keys" | "typed";

export interface BlocksHost {
  /** The open session, "" while there is none. */
  session(): string;
  /** Puts code into a terminal; false when it was not sent. */
  run(terminal: string, id: string, code: string, way: Way, interrupt: boolean): Promise<boolean>;
  /** Opens a file or folder in the editor. */
  open(path: string, host: number): void;
  /** A block wrote a file. */
  wrote(path: string, host: number): void;
  /** The learner did something in a step. */
  acted(step: string): void;
}

/** 96 random bits. crypto.randomUUID is not there without TLS. */
export function clickId(command: string): string {
  const b = crypto.getRandomValues(new Uint8Array(12));
  return `${command.slice(0, 200)}#${Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("")}`;
}

type Kind = "run" | "copy" | "write" | "open";

const kinds: Kind[] = ["run", "copy", "write", "open"];
const buttons = kinds.map((k) => `.${k}-button`).join(", ");
const done: Record<Kind, string> = { run: "Sent", copy: "Copied", write: "Written", open: "Opened" };

function kindOf(b: Element): Kind {
  return kinds.find((k) => b.classList.contains(`${k}-button`)) ?? "copy";
}

export class Blocks {
  readonly #last = new WeakMap<Element, number>();

  constructor(
    private readonly text: HTMLElement,
    private readonly host: BlocksHost,
    /** Nothing can be run here: what would be run is copied. */
    private readonly readOnly = false,
  ) {
    text.addEventListener("click", (e) => void this.#click(e));
    this.ready(false);
  }

  /** Enables what needs a session, or disables it. Copying always works. */
  ready(on: boolean): void {
    for (const b of this.text.querySelectorAll<HTMLButtonElement>(buttons)) {
      this.#prepare(b);
      b.disabled = kindOf(b) !== "copy" && (!on || b.dataset["spent"] === "true");
    }
  }

  // Both labels stand in the button, one above the other, so that it keeps its width.
  #prepare(b: HTMLButtonElement): void {
    if (b.querySelector(".label")) {
      return;
    }
    const item = this.#item(b);
    const inline = item?.classList.contains("code") === true;
    if (this.readOnly && !b.classList.contains("copy-button")) {
      // A block has a button to copy already.
      if (!inline && (item?.querySelector(".copy-button") || item?.classList.contains("file"))) {
        b.hidden = true;
        return;
      }
      b.className = "copy-button";
      item?.classList.remove("run", "open");
      item?.classList.add("copy");
      b.textContent = "Copy";
    }
    const kind = kindOf(b);
    const way = kind === "run" ? this.#way(item) : "line";
    const words: Record<Kind, string> = { run: { line: "Run", keys: "Press", typed: "Type" }[way], copy: "Copy", write: "Write file", open: "Open" };
    const label = document.createElement("span");
    label.className = "label";
    label.textContent = kind === "run" ? words.run : b.textContent?.trim() || words[kind];
    const after = document.createElement("span");
    after.className = "after";
    after.setAttribute("aria-hidden", "true");
    after.textContent = done[kind];
    b.replaceChildren(label, after);
    if (b.parentElement?.classList.contains("command")) {
      b.parentElement.prepend(b); // floats beside the line, however long that is
    }
    if (inline) {
      b.before("\u2060"); // the sign stays with the code's last letter
    }
    const code = kind === "write" ? "" : item?.dataset["open"] ?? item?.dataset["code"] ?? item?.querySelector("code")?.textContent ?? "";
    if (code) {
      const where = { line: "Run in the terminal", keys: "Press in the terminal", typed: "Type into the terminal, without Enter" }[way];
      const what: Record<Kind, string> = { run: where, copy: "Copy to the clipboard", write: "", open: "Open in the editor" };
      b.title = kind === "copy" ? what.copy : `${what[kind]}: ${first(code)}`;
      b.setAttribute("aria-label", `${label.textContent}: ${first(code)}`);
    }
  }

  #item(b: Element): HTMLElement | null {
    return b.closest<HTMLElement>(".code, [data-command], [data-file], [data-code], .block");
  }

  #way(item: HTMLElement | null): Way {
    const d = item?.dataset ?? {};
    const outer = item?.closest<HTMLElement>(".block")?.dataset ?? {};
    if ((d["keys"] ?? outer["keys"]) !== undefined) {
      return "keys";
    }
    return (d["noEnter"] ?? outer["noEnter"]) === undefined ? "line" : "typed";
  }

  async #click(e: MouseEvent): Promise<void> {
    let b = (e.target as Element).closest<HTMLButtonElement>(buttons);
    if (!b) {
      // Code within a line is its own button, unless it is being selected.
      const code = (e.target as Element).closest<HTMLElement>(".code");
      b = code?.querySelector<HTMLButtonElement>(buttons) ?? null;
      if (!b || !(getSelection()?.isCollapsed ?? true)) {
        return;
      }
    }
    if (b.disabled) {
      return;
    }
    // A double click is one click.
    const now = performance.now();
    if (now - (this.#last.get(b) ?? -Infinity) < 400) {
      return;
    }
    this.#last.set(b, now);
    const item = this.#item(b);
    if (!item) {
      return;
    }
    switch (kindOf(b)) {
      case "run":
        return this.#run(b, item);
      case "copy":
        return this.#copy(b, item);
      case "write":
        return this.#write(b, item);
      case "open":
        this.host.open(item.dataset["open"] ?? "", Number(item.dataset["host"]) || 1);
    }
  }

  async #run(b: HTMLButtonElement, item: HTMLElement): Promise<void> {
    const d = item.dataset;
    const outer = item.closest<HTMLElement>(".block")?.dataset ?? d;
    const command = d["command"] ?? "";
    const terminal = d["terminal"] ?? outer["terminal"] ?? "1";
    const interrupt = (d["interrupt"] ?? outer["interrupt"]) !== undefined;
    if (!(await this.host.run(terminal, clickId(command), d["code"] ?? "", this.#way(item), interrupt))) {
      return;
    }
    item.dataset["ran"] = "true";
    if ((d["once"] ?? outer["once"]) !== undefined) {
      b.dataset["spent"] = "true";
      b.disabled = true;
    }
    flash(b);
    announce("Sent to the terminal.");
    this.#acted(item);
  }

  async #copy(b: HTMLButtonElement, item: HTMLElement): Promise<void> {
    const text = item.dataset["code"] ?? item.dataset["open"] ?? item.querySelector("code")?.textContent ?? "";
    if (await copy(text)) {
      flash(b);
      announce("Copied.");
    } else {
      notice("The browser did not allow copying. Select the text and copy it by hand.");
    }
  }

  async #write(b: HTMLButtonElement, item: HTMLElement): Promise<void> {
    const path = item.dataset["path"] ?? "";
    b.setAttribute("aria-busy", "true");
    try {
      await api.file(this.host.session(), item.dataset["file"] ?? "");
      flash(b);
      announce(`Written: ${path || "the file"}.`);
      this.host.wrote(path, Number(item.dataset["host"]) || 1);
      this.#acted(item);
    } catch (err) {
      notice((err as Refusal).message, "bad");
    } finally {
      b.removeAttribute("aria-busy");
    }
  }

  #acted(item: HTMLElement): void {
    const step = item.closest<HTMLElement>("[data-step]")?.dataset["step"];
    if (step) {
      this.host.acted(step);
    }
  }
}

function first(code: string): string {
  const [line = "", ...more] = code.split("\n");
  return more.length > 0 || line.length > 60 ? `${line.slice(0, 60)} …` : line;
}

function flash(b: HTMLElement): void {
  b.dataset["done"] = "true";
  setTimeout(() => delete b.dataset["done"], 1600);
}
