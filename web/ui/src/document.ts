// A Document is a file that is open in the editor: what is known of it on disk,
// and how what the learner typed gets there. Nothing on disk is overwritten
// that the learner has not seen, and nothing typed is lost while it cannot be
// saved.

import type { FileText } from "./session";

export type DocumentState =
  | { kind: "saved" }
  | { kind: "edited" } // to be saved in a moment
  | { kind: "saving" }
  | { kind: "changed"; gone: boolean } // on disk, by somebody else
  | { kind: "waiting"; why: string } // could not be saved; tried again
  | { kind: "refused"; why: string }; // could not be saved; tried again after the next edit

export interface DocumentHost {
  read(): Promise<FileText>;
  /** Refuses with status 409 and the version on disk when that is not was. */
  write(text: string, was: string): Promise<{ version: string }>;
  /** What the editor holds now. */
  text(): string;
  state(s: DocumentState): void;
}

export interface DocumentTimes {
  /** Milliseconds after the last keystroke until it is saved. */
  pause?: number;
  /** Until a save that failed is tried again; longer and longer, ten times this at most. */
  again?: number;
}

interface Failure {
  status?: number;
  version?: string;
  message: string;
}

export class Document {
  state: DocumentState = { kind: "saved" };
  #version: string;
  #theirs: string | undefined; // version on disk, in a conflict
  #timer: ReturnType<typeof setTimeout> | undefined;
  #saving: Promise<void> | null = null;
  #edits = 0;
  #failures = 0; // in a row

  constructor(
    version: string,
    private readonly host: DocumentHost,
    private readonly times: DocumentTimes = {},
  ) {
    this.#version = version;
  }

  /** There is text that is not on disk. */
  get unsaved(): boolean {
    return this.state.kind !== "saved";
  }

  /** The learner typed: it is saved a moment after the last key. */
  edited(): void {
    this.#edits++;
    if (this.state.kind === "changed") {
      return; // the learner decides first
    }
    if (this.state.kind !== "saving" && this.state.kind !== "waiting") {
      this.#set({ kind: "edited" });
    }
    if (this.state.kind !== "waiting") {
      this.#later(this.times.pause ?? 1000);
    }
  }

  /** Saves now what is not saved; waits for it. */
  async save(): Promise<void> {
    while (this.#saving) {
      await this.#saving;
    }
    if (this.state.kind === "saved" || this.state.kind === "changed") {
      return;
    }
    await this.#write();
  }

  /** In a conflict: the learner's text becomes what is on disk. */
  async overwrite(): Promise<void> {
    if (this.state.kind !== "changed") {
      return;
    }
    this.#version = this.#theirs ?? this.#version;
    this.#set({ kind: "edited" });
    await this.save();
  }

  /** In a conflict: gives what is on disk, which is what the editor shows from now on. */
  async takeDisk(): Promise<string> {
    const f = await this.host.read();
    this.#version = f.version;
    this.#theirs = undefined;
    clearTimeout(this.#timer);
    this.#set({ kind: "saved" });
    return f.text;
  }

  /**
   * Looks whether the file on disk is another one by now, unless there are
   * edits. Gives its text then, and null otherwise. Throws when it cannot be
   * read.
   */
  async refresh(): Promise<string | null> {
    if (this.unsaved || this.#saving) {
      return null;
    }
    const edits = this.#edits;
    const f = await this.host.read();
    if (f.version === this.#version || edits !== this.#edits || this.unsaved) {
      return null;
    }
    this.#version = f.version;
    return f.text;
  }

  /** The network may be back. */
  wake(): void {
    if (this.state.kind === "waiting") {
      void this.save();
    }
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #set(s: DocumentState): void {
    this.state = s;
    this.host.state(s);
  }

  #later(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.save(), ms);
  }

  #write(): Promise<void> {
    clearTimeout(this.#timer);
    const edits = this.#edits;
    const waiting = this.state.kind === "waiting";
    if (!waiting) {
      this.#set({ kind: "saving" });
    }
    this.#saving = this.host
      .write(this.host.text(), this.#version)
      .then(
        (w) => {
          this.#version = w.version;
          this.#failures = 0;
          if (edits === this.#edits) {
            this.#set({ kind: "saved" });
          } else {
            this.#set({ kind: "edited" });
            this.#later(this.times.pause ?? 1000);
          }
        },
        (err: Failure) => this.#failed(err),
      )
      .finally(() => (this.#saving = null));
    return this.#saving;
  }

  #failed(err: Failure): void {
    const s = err.status;
    if (s === 409) {
      this.#theirs = err.version ?? "";
      this.#set({ kind: "changed", gone: !err.version });
    } else if (s === undefined || s === 429 || s >= 500) {
      this.#set({ kind: "waiting", why: err.message });
      this.#later((this.times.again ?? 3000) * Math.min(10, 1.5 ** this.#failures++));
    } else {
      this.#set({ kind: "refused", why: err.message });
    }
  }
}
