// The buttons beside the lesson's code: run, copy, write a file.

import { copy } from "./clipboard";
import { announce, notice } from "./notice";
import { api, type Refusal } from "./session";

export interface BlocksHost {
  /** The open session, "" while there is none. */
  session(): string;
  /** Types code into a terminal; false when it was not sent. */
  run(terminal: string, id: string, code: string, interrupt: boolean): Promise<boolean>;
  /** The learner did something in a step. */
  acted(step: string): void;
}

/** 96 random bits. crypto.randomUUID is not there without TLS. */
export function clickId(command: string): string {
  const b = crypto.getRandomValues(new Uint8Array(12));
  return `${command.slice(0, 200)}#${Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("")}`;
}

const working: Record<string, string> = { "run-button": "Run", "copy-button": "Copy", "write-button": "Write file" };
const done: Record<string, string> = { "run-button": "Sent", "copy-button": "Copied", "write-button": "Written" };

export class Blocks {
  readonly #last = new WeakMap<Element, number>();

  constructor(private readonly text: HTMLElement, private readonly host: BlocksHost) {
    text.addEventListener("click", (e) => void this.#click(e));
    this.ready(false);
  }

  /** Enables what needs a session, or disables it. Copying always works. */
  ready(on: boolean): void {
    for (const b of this.text.querySelectorAll<HTMLButtonElement>(".run-button, .write-button, .copy-button")) {
      this.#prepare(b);
      if (!b.classList.contains("copy-button")) {
        b.disabled = !on || b.dataset["spent"] === "true";
      } else {
        b.disabled = false;
      }
    }
  }

  // Both labels stand in the button, one above the other, so that it keeps its width.
  #prepare(b: HTMLButtonElement): void {
    const what = Object.keys(working).find((c) => b.classList.contains(c))!;
    if (!b.querySelector(".label")) {
      const label = document.createElement("span");
      label.className = "label";
      label.textContent = b.textContent?.trim() || working[what]!;
      const after = document.createElement("span");
      after.className = "after";
      after.setAttribute("aria-hidden", "true");
      after.textContent = done[what]!;
      b.replaceChildren(label, after);
      if (b.parentElement?.classList.contains("command")) {
        b.parentElement.prepend(b); // floats beside the line, however long that is
      }
      const code = b.closest<HTMLElement>("[data-code]")?.dataset["code"];
      if (code && what !== "write-button") {
        b.title = what === "run-button" ? `Run in the terminal: ${first(code)}` : "Copy to the clipboard";
        b.setAttribute("aria-label", `${label.textContent}: ${first(code)}`);
      }
    }
  }

  async #click(e: MouseEvent): Promise<void> {
    const b = (e.target as Element).closest<HTMLButtonElement>(".run-button, .copy-button, .write-button");
    if (!b || b.disabled) {
      return;
    }
    // A double click is one click.
    const now = performance.now();
    if (now - (this.#last.get(b) ?? -Infinity) < 400) {
      return;
    }
    this.#last.set(b, now);
    const block = b.closest<HTMLElement>("[data-command], [data-file], [data-code]");
    if (!block) {
      return;
    }
    if (b.classList.contains("run-button")) {
      await this.#run(b, block);
    } else if (b.classList.contains("copy-button")) {
      await this.#copy(b, block);
    } else {
      await this.#write(b, block);
    }
  }

  async #run(b: HTMLButtonElement, block: HTMLElement): Promise<void> {
    const d = block.dataset;
    const outer = block.closest<HTMLElement>(".block")?.dataset ?? d;
    const command = d["command"] ?? "";
    const terminal = d["terminal"] ?? outer["terminal"] ?? "1";
    const interrupt = (d["interrupt"] ?? outer["interrupt"]) !== undefined;
    if (!(await this.host.run(terminal, clickId(command), d["code"] ?? "", interrupt))) {
      return;
    }
    block.dataset["ran"] = "true";
    if ((d["once"] ?? outer["once"]) !== undefined) {
      b.dataset["spent"] = "true";
      b.disabled = true;
    }
    flash(b);
    announce("Sent to the terminal.");
    this.#acted(block);
  }

  async #copy(b: HTMLButtonElement, block: HTMLElement): Promise<void> {
    const text = block.dataset["code"] ?? block.querySelector("code")?.textContent ?? "";
    if (await copy(text)) {
      flash(b);
      announce("Copied.");
    } else {
      notice("The browser did not allow copying. Select the text and copy it by hand.");
    }
  }

  async #write(b: HTMLButtonElement, block: HTMLElement): Promise<void> {
    b.setAttribute("aria-busy", "true");
    try {
      await api.file(this.host.session(), block.dataset["file"] ?? "");
      flash(b);
      announce(`Written: ${block.dataset["path"] ?? "the file"}.`);
      this.#acted(block);
    } catch (err) {
      notice((err as Refusal).message, "bad");
    } finally {
      b.removeAttribute("aria-busy");
    }
  }

  #acted(block: HTMLElement): void {
    const step = block.closest<HTMLElement>("[data-step]")?.dataset["step"];
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
