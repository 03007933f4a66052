// The editor's place on the page: a tab beside the terminals, or a pane above
// them when the lesson says so and there is room. The editor itself is loaded
// when it is first opened.

import { ask } from "./dialog";
import type * as editor from "./editor";
import { announce, notice } from "./notice";
import { hostName, type LessonData } from "./page";
import { api } from "./session";
import { sheetParts, type Sheet } from "./sheet";
import type { Root } from "./tree";

const script = document.currentScript instanceof HTMLScriptElement ? document.currentScript.src : location.href;

export interface FilesHost {
  session(): string;
  /** Brings the tab into view; does nothing while the editor stands above. */
  select(focus: boolean): void;
}

export class Files implements Sheet {
  readonly name = "=files";
  readonly tab: HTMLButtonElement;
  readonly panel: HTMLElement;
  #editor: editor.Editor | null = null;
  #loading: Promise<editor.Editor | null> | null = null;
  #session = "";
  #ready = false;

  constructor(private readonly data: LessonData, private readonly host: FilesHost) {
    ({ tab: this.tab, panel: this.panel } = sheetParts(this.name, "Files"));
    this.panel.classList.add("files");
    addEventListener("focus", () => this.#shown() && void this.#editor?.refresh());
    addEventListener("online", () => this.#editor?.wake());
    document.addEventListener("visibilitychange", () =>
      document.visibilityState === "hidden" ? this.#editor?.flush() : this.#shown() && void this.#editor?.refresh(),
    );
    addEventListener("beforeunload", (e) => {
      if (this.#editor?.unsaved) {
        this.#editor.flush();
        e.preventDefault();
      }
    });
  }

  /** The session as it is now: "" while there is none whose files can be reached. */
  session(id: string, ready: boolean): void {
    if (id !== this.#session) {
      this.#session = id;
      this.#editor?.dispose();
      this.#editor = null;
      this.#loading = null;
    }
    if (ready !== this.#ready) {
      this.#ready = ready;
      this.#editor?.ready(ready);
      if (ready && this.#shown()) {
        this.show();
      }
    }
  }

  /** It came into view. */
  show(): void {
    if (this.#editor) {
      void this.#editor.refresh();
    } else if (this.#ready) {
      void this.#load();
    }
  }

  focus(): void {
    if (this.#editor) {
      this.#editor.focus();
    } else {
      void this.#load().then((e) => this.#shown() && e?.focus());
    }
  }

  /** Opens a file or folder and brings it into view. */
  async open(path: string, host: number): Promise<void> {
    this.host.select(false);
    const e = await this.#load();
    await e?.open(path, host);
    e?.focus();
  }

  /** A command ran or a block wrote: files may have changed. */
  changed(): void {
    if (this.#shown()) {
      void this.#editor?.refresh();
    }
  }

  #shown(): boolean {
    return this.panel.isConnected && !this.panel.hidden;
  }

  #load(): Promise<editor.Editor | null> {
    if (!this.#ready) {
      return Promise.resolve(null);
    }
    this.#loading ??= this.#start();
    return this.#loading;
  }

  async #start(): Promise<editor.Editor | null> {
    const session = this.#session;
    this.#say("Opening the editor");
    let bundle: typeof editor;
    try {
      bundle = (await import(new URL("editor.js", script).href)) as typeof editor;
    } catch {
      this.#loading = null;
      this.#say("The editor could not be loaded.", () => this.show());
      return null;
    }
    if (session !== this.#session) {
      return this.#load();
    }
    const { home, hosts } = this.data;
    const roots: Root[] = [];
    for (let host = 1; host <= hosts; host++) {
      const on = hosts > 1 ? `${hostName(host)}: ` : "";
      roots.push({ title: `${on}~`, dir: home, host, open: host === 1 }, { title: `${on}/`, dir: "/", host, open: false });
    }
    this.panel.replaceChildren();
    const e = new bundle.Editor(this.panel, {
      home,
      roots,
      list: (dir, host) => api.list(session, dir, host),
      read: (path, host) => api.read(session, path, host),
      write: (path, host, text, was) => api.write(session, path, host, text, was),
      notice,
      announce,
      ask,
    });
    e.ready(this.#ready);
    this.#editor = e;
    if (this.data.open) {
      await e.open(this.data.open, 1);
    }
    return e;
  }

  #say(text: string, again?: () => void): void {
    const p = document.createElement("p");
    p.className = "files-note";
    p.textContent = text;
    this.panel.replaceChildren(p);
    if (again) {
      const b = document.createElement("button");
      b.type = "button";
      b.className = "button small quiet";
      b.textContent = "Try again";
      b.addEventListener("click", again);
      p.append(b);
    }
  }
}
