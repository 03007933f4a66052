// The tree of files of a sandbox: folders are read when they are opened. By
// mouse, and by the keys that trees have everywhere.

import type { Entry, Listing } from "./session";

export interface TreeHost {
  list(dir: string, host: number): Promise<Listing>;
  open(path: string, host: number): void;
  /** A sentence for the learner. */
  say(text: string): void;
}

export interface Root {
  title: string;
  dir: string;
  host: number;
  /** Open from the start. */
  open: boolean;
}

interface Node {
  path: string;
  host: number;
  dir: boolean;
  depth: number;
  row: HTMLElement;
  group: HTMLElement | null; // of an open folder
  names: string; // what the group shows, to leave it alone when nothing changed
}

export class Tree {
  readonly element: HTMLElement;
  #nodes = new Map<HTMLElement, Node>();
  #hidden = false;
  #selected = "";

  constructor(private readonly roots: readonly Root[], private readonly host: TreeHost) {
    this.element = document.createElement("div");
    this.element.className = "tree";
    this.element.setAttribute("role", "tree");
    this.element.setAttribute("aria-label", "Files");
    this.element.addEventListener("click", (e) => {
      const node = this.#nodeOf(e.target as Element);
      if (node) {
        this.#focus(node.row, true);
        void this.#act(node);
      }
    });
    this.element.addEventListener("keydown", (e) => this.#keys(e));
    for (const r of roots) {
      this.element.append(this.#node({ name: r.title, path: r.dir, dir: true, size: 0, mtime: "" }, r.host, 0, true));
    }
    this.#rows()[0]?.setAttribute("tabindex", "0");
  }

  /** Reads the roots that are open from the start. */
  async start(): Promise<void> {
    const rows = this.#rows();
    await Promise.all(this.roots.map((r, i) => (r.open ? this.#open(this.#nodes.get(rows[i]!)!) : undefined)));
  }

  get hidden(): boolean {
    return this.#hidden;
  }

  /** Shows files whose names begin with a dot, or does not. */
  set hidden(on: boolean) {
    this.#hidden = on;
    for (const n of this.#nodes.values()) {
      n.names = "";
    }
    void this.refresh();
  }

  /** The folder in which a new file belongs: that of what is selected. */
  get folder(): { dir: string; host: number } {
    const row = this.element.querySelector<HTMLElement>('[tabindex="0"]');
    const n = row && this.#nodes.get(row);
    if (!n) {
      return { dir: this.roots[0]!.dir, host: this.roots[0]!.host };
    }
    return { dir: n.dir ? n.path : n.path.replace(/\/[^/]*$/, "") || "/", host: n.host };
  }

  /** Reads every open folder again. What did not change is left alone. */
  async refresh(): Promise<void> {
    // A folder may go while those in it are read.
    const open = [...this.#nodes.values()].filter((n) => n.group !== null);
    await Promise.all(open.map((n) => this.#fill(n, true)));
  }

  /** Opens the folders down to a path, and marks it. */
  async reveal(path: string, host: number): Promise<void> {
    this.#selected = `${host}:${path}`;
    const root = [...this.#nodes.values()]
      .filter((n) => n.depth === 0 && n.host === host && (path === n.path || path.startsWith(n.path === "/" ? "/" : `${n.path}/`)))
      .sort((a, b) => b.path.length - a.path.length)[0];
    let at: Node | undefined = root;
    while (at && at.path !== path) {
      if (at.group === null) {
        await this.#open(at);
      }
      const depth: number = at.depth + 1;
      at = [...this.#nodes.values()].find(
        (n) => n.depth === depth && n.host === host && (n.path === path || (n.dir && path.startsWith(`${n.path}/`))),
      );
    }
    this.#mark();
    if (at) {
      this.#focus(at.row, false);
      at.row.scrollIntoView({ block: "nearest" });
      if (at.dir && at.group === null) {
        await this.#open(at);
      }
    }
  }

  #mark(): void {
    for (const [row, n] of this.#nodes) {
      row.setAttribute("aria-selected", String(`${n.host}:${n.path}` === this.#selected));
    }
  }

  #node(e: Entry, host: number, depth: number, dir: boolean): HTMLElement {
    const row = document.createElement("div");
    row.className = `tree-row ${dir ? "folder" : "file"}`;
    row.setAttribute("role", "treeitem");
    row.setAttribute("aria-level", String(depth + 1));
    row.tabIndex = -1;
    row.style.setProperty("--depth", String(depth));
    row.textContent = e.name;
    row.title = e.path;
    if (dir) {
      row.setAttribute("aria-expanded", "false");
    }
    const node: Node = { path: e.path, host, dir, depth, row, group: null, names: "" };
    row.setAttribute("aria-selected", String(`${host}:${e.path}` === this.#selected));
    this.#nodes.set(row, node);
    return row;
  }

  #rows(): HTMLElement[] {
    return [...this.element.querySelectorAll<HTMLElement>(".tree-row")];
  }

  #nodeOf(e: Element): Node | undefined {
    const row = e.closest<HTMLElement>(".tree-row");
    return row ? this.#nodes.get(row) : undefined;
  }

  async #act(n: Node): Promise<void> {
    if (!n.dir) {
      this.host.open(n.path, n.host);
    } else if (n.group) {
      this.#close(n);
    } else {
      await this.#open(n);
    }
  }

  async #open(n: Node): Promise<void> {
    if (n.group) {
      return;
    }
    n.group = document.createElement("div");
    n.group.setAttribute("role", "group");
    n.row.after(n.group);
    n.row.setAttribute("aria-expanded", "true");
    n.names = "";
    await this.#fill(n, false);
  }

  #close(n: Node): void {
    for (const row of n.group?.querySelectorAll<HTMLElement>(".tree-row") ?? []) {
      if (row.tabIndex === 0) {
        this.#focus(n.row, false);
      }
      this.#nodes.delete(row);
    }
    n.group?.remove();
    n.group = null;
    n.row.setAttribute("aria-expanded", "false");
  }

  async #fill(n: Node, again: boolean): Promise<void> {
    let l: Listing;
    try {
      l = await this.host.list(n.path, n.host);
    } catch (err) {
      if (!n.row.isConnected) {
        return;
      }
      if (!again) {
        this.host.say((err as Error).message);
        this.#close(n);
      } else if ((err as { status?: number }).status === 404 && n.depth > 0) {
        this.#close(n);
      }
      return;
    }
    const group = n.group;
    if (!group || !n.row.isConnected) {
      return;
    }
    const entries = (l.entries ?? [])
      .filter((e) => this.#hidden || !e.name.startsWith("."))
      .sort((a, b) => Number(b.dir) - Number(a.dir) || a.name.localeCompare(b.name, "en", { numeric: true }));
    const names = JSON.stringify([entries.map((e) => [e.path, e.dir]), l.more]);
    if (names === n.names) {
      return;
    }
    n.names = names;
    // Rows that stay are kept, with what is open below them and the focus.
    const kept = new Map<string, Node>();
    for (const row of [...group.children] as HTMLElement[]) {
      const c = this.#nodes.get(row);
      if (!c) {
        continue;
      }
      if (entries.some((e) => e.path === c.path && e.dir === c.dir)) {
        kept.set(c.path, c);
      } else {
        this.#close(c);
        if (row.tabIndex === 0) {
          this.#focus(n.row, row === document.activeElement);
        }
        this.#nodes.delete(row);
      }
    }
    const focused = document.activeElement;
    const children: HTMLElement[] = [];
    for (const e of entries) {
      const k = kept.get(e.path);
      children.push(k?.row ?? this.#node(e, n.host, n.depth + 1, e.dir));
      if (k?.group) {
        children.push(k.group);
      }
    }
    if (entries.length === 0 || l.more) {
      const p = document.createElement("p");
      p.className = "tree-note";
      p.style.setProperty("--depth", String(n.depth + 1));
      p.textContent = l.more ? "There is more here than can be shown." : "Empty";
      children.push(p);
    }
    group.replaceChildren(...children);
    if (focused instanceof HTMLElement && focused.isConnected && focused !== document.activeElement) {
      focused.focus({ preventScroll: true });
    }
  }

  #focus(row: HTMLElement, really: boolean): void {
    for (const r of this.#rows()) {
      r.tabIndex = r === row ? 0 : -1;
    }
    if (really) {
      row.focus({ preventScroll: true });
      row.scrollIntoView({ block: "nearest" });
    }
  }

  #keys(e: KeyboardEvent): void {
    const n = this.#nodeOf(e.target as Element);
    if (!n || e.ctrlKey || e.altKey || e.metaKey) {
      return;
    }
    const rows = this.#rows();
    const at = rows.indexOf(n.row);
    const to = (row: HTMLElement | undefined) => row && this.#focus(row, true);
    switch (e.key) {
      case "ArrowDown":
        to(rows[at + 1]);
        break;
      case "ArrowUp":
        to(rows[at - 1]);
        break;
      case "Home":
        to(rows[0]);
        break;
      case "End":
        to(rows.at(-1));
        break;
      case "ArrowRight":
        if (n.dir && !n.group) {
          void this.#open(n);
        } else if (n.group) {
          to(n.group.querySelector<HTMLElement>(".tree-row") ?? undefined);
        }
        break;
      case "ArrowLeft":
        if (n.group) {
          this.#close(n);
        } else {
          to((n.row.parentElement?.previousElementSibling as HTMLElement | null) ?? undefined);
        }
        break;
      case "Enter":
      case " ":
        void this.#act(n);
        break;
      default: {
        if (e.key.length !== 1) {
          return;
        }
        const k = e.key.toLowerCase();
        const next = [...rows.slice(at + 1), ...rows.slice(0, at + 1)].find((r) => r.textContent?.toLowerCase().startsWith(k));
        to(next);
      }
    }
    e.preventDefault();
  }
}
