// What the server wrote into the lesson's page for the scripts.

export interface TerminalTab {
  name: string;
  title?: string;
  command?: string;
}

/** A page beside the terminals: a port of a sandbox, or an address. */
export interface PageTab {
  title: string;
  port?: number;
  host?: number;
  path?: string;
  url?: string;
}

export interface LessonData {
  lab: string;
  title: string;
  /** Address of the finish page. */
  next: string;
  paged: boolean;
  layout: "terminal" | "editor";
  /** What the editor opens first, "" for the home. */
  open: string;
  home: string;
  terminals: TerminalTab[];
  tabs: PageTab[];
  hosts: number;
}

/** Reads the page's data; what is missing has its usual value. */
export function lessonData(root: ParentNode = document): LessonData {
  let d: Partial<Record<keyof LessonData, unknown>> = {};
  try {
    d = JSON.parse(root.querySelector("#lesson")?.textContent || "{}") as typeof d;
  } catch {
    // The page works without.
  }
  const list = <T>(v: unknown) => (Array.isArray(v) ? (v as T[]) : []);
  return {
    lab: String(d.lab ?? ""),
    title: String(d.title ?? ""),
    next: String(d.next ?? ""),
    paged: d.paged === true,
    layout: d.layout === "editor" ? "editor" : "terminal",
    open: String(d.open ?? ""),
    home: String(d.home || "/root").replace(/(.)\/+$/, "$1"),
    terminals: list<TerminalTab>(d.terminals),
    tabs: list<PageTab>(d.tabs),
    hosts: Math.max(1, Number(d.hosts) || 1),
  };
}

/** Name of a sandbox, from 1. */
export function hostName(host: number): string {
  return `host${String(host).padStart(2, "0")}`;
}

/** "1@2" is terminal "1" of the second sandbox. */
export function splitTerminal(name: string): { inside: string; host: number } {
  const m = /^(.*)@([2-9])$/.exec(name);
  return m ? { inside: m[1]!, host: Number(m[2]) } : { inside: name, host: 1 };
}

/** What stands on a terminal's tab when the lesson gives it no title. */
export function terminalTitle(name: string, hosts: number): string {
  const { inside, host } = splitTerminal(name);
  if (host === 1 && hosts === 1) {
    return /^\d+$/.test(inside) ? `Terminal ${inside}` : inside;
  }
  return inside === "1" ? hostName(host) : `${hostName(host)}: ${inside}`;
}
