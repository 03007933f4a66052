// Watch mode: while an author edits the lesson, the page takes over what
// changed, and keeps everything else: the terminals, where the reader is, what
// is open. A mistake is shown at the top; the last good text stays below.

import { api } from "./session";

export interface Mistake {
  file: string;
  line: number;
  what: string;
  hint?: string;
  warn?: boolean;
}

export interface WatchHost {
  /** Text of the page was replaced. */
  swapped(fresh: globalThis.Document): void;
}

export class Watch {
  #sections: Map<string, string>;
  #away = false;
  #host: WatchHost = { swapped: () => undefined };
  #fetching: AbortController | null = null;

  /** Must be made before any other script changes the text. */
  constructor(private readonly text: HTMLElement, private readonly lab: string) {
    this.#sections = sections(text);
  }

  /**
   * A page with a session is told of edits on the session's own stream; one
   * that is alone has a stream for them.
   */
  start(host: WatchHost, alone: boolean): void {
    this.#host = host;
    if (!alone) {
      return;
    }
    const source = new EventSource(api.changes(this.lab));
    addEventListener("pagehide", () => source.close());
    source.addEventListener("lesson", (e) => this.told((e as MessageEvent<string>).data));
    source.onopen = () => this.live(true);
    source.onerror = () => this.live(false);
  }

  /** Events arrive, or do not for the time being: what was missed is caught up with. */
  live(on: boolean): void {
    const back = on && this.#away;
    this.#away = !on;
    if (back) {
      void this.#take(this.#host);
    }
  }

  /** The lesson's files were read again. */
  told(data: string): void {
    let said: { mistakes?: Mistake[] | null } = {};
    try {
      said = JSON.parse(data) as typeof said;
    } catch {
      // Then the page itself says what is wrong.
    }
    this.#show(said.mistakes ?? []);
    void this.#take(this.#host);
  }

  async #take(host: WatchHost): Promise<void> {
    this.#fetching?.abort();
    const mine = (this.#fetching = new AbortController());
    let fresh: globalThis.Document;
    try {
      const r = await fetch(location.pathname, { cache: "no-store", signal: mine.signal });
      if (!r.ok) {
        return;
      }
      fresh = new DOMParser().parseFromString(await r.text(), "text/html");
    } catch {
      return; // a newer edit, or the server is away: another event follows
    }
    const article = fresh.querySelector<HTMLElement>("article.text");
    if (!article || mine.signal.aborted) {
      return;
    }
    const now = sections(article);
    const place = keepPlace(this.text);
    let changed = false;
    for (const id of this.#sections.keys()) {
      if (!now.has(id)) {
        part(this.text, id)?.remove();
        changed = true;
      }
    }
    let before: Element | null = null;
    for (const [id, html] of now) {
      const here = part(this.text, id);
      const there = part(article, id)!;
      let section: HTMLElement = there;
      if (here && this.#sections.get(id) === html) {
        section = here;
      } else {
        changed = true;
        section = document.importNode(there, true);
        if (here) {
          reopen(here, section);
          section.hidden = here.hidden;
          here.replaceWith(section);
        }
      }
      const at: Element | null = before ? before.nextElementSibling : first(this.text);
      if (section !== at) {
        changed ||= section.isConnected;
        if (before) {
          before.after(section);
        } else {
          this.text.insertBefore(section, at);
        }
      }
      before = section;
    }
    this.#sections = now;
    if (changed || fresh.title !== document.title) {
      host.swapped(fresh);
    }
    place();
  }

  #show(mistakes: Mistake[]): void {
    const key = JSON.stringify(mistakes);
    const old = this.text.querySelector<HTMLElement>(":scope > section.mistakes");
    if (old?.dataset["key"] === key) {
      return;
    }
    const place = keepPlace(this.text);
    old?.remove();
    if (mistakes.length > 0) {
      const box = mistakesBox(mistakes);
      box.dataset["key"] = key;
      this.text.insertBefore(box, first(this.text));
    }
    place();
  }
}

/** What is wrong with a lesson, as the page of the server shows it, too. */
function mistakesBox(mistakes: Mistake[]): HTMLElement {
  const box = document.createElement("section");
  box.className = "mistakes";
  box.setAttribute("aria-label", "Mistakes in this lab's files");
  box.setAttribute("role", "status");
  const title = document.createElement("p");
  title.className = "mistakes-title";
  title.textContent = mistakes.some((m) => !m.warn) ? "A mistake in this lab: below is the last version without it." : "In this lab’s files:";
  box.append(title);
  const list = document.createElement("ul");
  for (const m of mistakes.slice(0, 50)) {
    const li = document.createElement("li");
    li.className = m.warn ? "mistake warn" : "mistake";
    const where = document.createElement("code");
    where.textContent = m.line > 0 ? `${m.file}:${m.line}` : m.file;
    const what = document.createElement("span");
    what.className = "mistake-what";
    what.textContent = m.what;
    li.append(where, what);
    if (m.hint) {
      const hint = document.createElement("span");
      hint.className = "mistake-hint";
      hint.textContent = m.hint;
      li.append(hint);
    }
    list.append(li);
  }
  if (mistakes.length > 50) {
    const li = document.createElement("li");
    li.textContent = `and ${mistakes.length - 50} more`;
    list.append(li);
  }
  box.append(list);
  return box;
}

const parts = ":scope > section.intro, :scope > section.step";

/** The author's text of each part, by its id: without what is the reader's. */
function sections(article: HTMLElement): Map<string, string> {
  return new Map(
    [...article.querySelectorAll<HTMLElement>(parts)].map((s) => {
      const text = s.cloneNode(true) as HTMLElement;
      text.classList.remove("done");
      delete text.dataset["done"];
      text.querySelectorAll<HTMLElement>(".check").forEach((c) => delete c.dataset["status"]);
      text.querySelectorAll(".tick, .mark").forEach((t) => t.removeAttribute("aria-label"));
      text.querySelectorAll<HTMLElement>(".image").forEach((n) => (n.hidden = false));
      return [s.id, text.outerHTML];
    }),
  );
}

function part(article: HTMLElement, id: string): HTMLElement | null {
  return article.querySelector<HTMLElement>(`:scope > section:is(.intro, .step)[id="${CSS.escape(id)}"]`);
}

/** Where the lesson's parts begin. */
function first(article: HTMLElement): Element | null {
  return article.querySelector(`${parts}, :scope > .finish`);
}

/** What the reader had opened is open in the new text, too. */
function reopen(old: HTMLElement, fresh: HTMLElement): void {
  const name = (d: HTMLDetailsElement) => d.querySelector("summary")?.textContent?.trim() ?? "";
  const open = new Set([...old.querySelectorAll<HTMLDetailsElement>("details[open]")].map(name));
  for (const d of fresh.querySelectorAll<HTMLDetailsElement>("details")) {
    d.open ||= open.has(name(d));
  }
}

/** Remembers what the reader looks at; calling the result brings it back to its place. */
function keepPlace(text: HTMLElement): () => void {
  if (document.body.dataset["page"] !== undefined) {
    // In a paged lesson it is the part in view that scrolls.
    const shown = [...text.querySelectorAll<HTMLElement>(parts)].find((s) => !s.hidden);
    const { id = "", scrollTop = 0 } = shown ?? {};
    return () => {
      const now = part(text, id);
      if (now) {
        now.scrollTop = scrollTop;
      }
    };
  }
  const top = text.getBoundingClientRect().top;
  const at = [...text.querySelectorAll<HTMLElement>(`${parts}`)].find((s) => !s.hidden && s.getBoundingClientRect().bottom > top + 1);
  if (!at || text.scrollTop === 0) {
    return () => undefined;
  }
  const id = at.id;
  const offset = at.getBoundingClientRect().top;
  return () => {
    const now = part(text, id);
    if (now) {
      text.scrollTop += now.getBoundingClientRect().top - offset;
    }
  };
}
