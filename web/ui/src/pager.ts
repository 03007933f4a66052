// A paged lesson: one part at a time, a list of parts with their ticks, Back
// and Next. Every part has an address, so links and the browser's own back
// button work. Nothing is locked: Next looks at the checks, says what is
// missing, and goes on when it is asked again.

import { announce } from "./notice";
import type { Result } from "./session";
import { recall, remember } from "./store";

export interface PagerHost {
  lab: string;
  /** Address of the finish page. */
  finish: string;
  /** Whether a step is done; null when it asks for nothing. */
  done(step: string): boolean | null;
  /** Names of the checks of a step that are not done. */
  missing(step: string): string[];
  /** Has a step's checks made now. */
  evaluate(step: string): Promise<Result[]>;
  /** Checks can be made: there is a session that is ready. */
  ready(): boolean;
  /** A part is shown. */
  shown(part: string): void;
}

interface Part {
  id: string;
  title: string;
  section: HTMLElement;
  link: HTMLAnchorElement;
}

export const finishPart = "finish";

/** How long Next waits for checks. */
const patience = 4000;

export class Pager {
  /** Id of the part in view. */
  part = "";
  #parts: Part[] = [];
  #asked = ""; // the step that Next has spoken about
  #busy = false;
  readonly #list: HTMLElement;
  readonly #place: HTMLElement;
  readonly #said: HTMLElement;
  readonly #back: HTMLButtonElement;
  readonly #next: HTMLButtonElement;

  constructor(private readonly text: HTMLElement, private readonly host: PagerHost) {
    const top = document.createElement("nav");
    top.className = "parts";
    top.setAttribute("aria-label", "Parts of this lab");
    this.#list = document.createElement("ol");
    this.#place = document.createElement("span");
    this.#place.className = "parts-place";
    top.append(this.#list, this.#place);
    top.addEventListener("keydown", (e) => this.#keys(e));

    const bottom = document.createElement("div");
    bottom.className = "pager";
    this.#back = document.createElement("button");
    this.#back.type = "button";
    this.#back.className = "button quiet back-button";
    this.#back.textContent = "Back";
    this.#said = document.createElement("p");
    this.#said.className = "pager-said";
    this.#said.setAttribute("role", "status");
    this.#next = document.createElement("button");
    this.#next.type = "button";
    this.#next.className = "button next-button";
    // All that it may say stands in it, one above the other: it keeps its width.
    for (const word of ["Start", "Continue", "Go on anyway", "Finish"]) {
      const w = document.createElement("span");
      w.textContent = word;
      w.dataset["word"] = word;
      this.#next.append(w);
    }
    bottom.append(this.#back, this.#said, this.#next);
    text.prepend(top);
    text.append(bottom);
    this.#back.addEventListener("click", () => this.#step(-1));
    this.#next.addEventListener("click", () => void this.#forward());
    addEventListener("hashchange", () => this.#follow(true));
    addEventListener("popstate", () => this.#follow(true));
    text.addEventListener("click", (e) => this.#link(e));

    this.adopt();
    document.body.dataset["page"] = "";
    const from = this.#named() ?? recall<string>(`part.${host.lab}`, "");
    this.#show(this.#parts.some((p) => p.id === from) ? from : (this.#parts[0]?.id ?? ""), false);
    this.#anchor();
  }

  /** Reads the parts from the page again. */
  adopt(): void {
    const titles = (s: HTMLElement) => s.querySelector("h2")?.textContent?.trim() || "Introduction";
    const sections = [...this.text.querySelectorAll<HTMLElement>(":scope > section.intro, :scope > section.step")].filter(
      (s) => s.classList.contains("step") || hasText(s),
    );
    this.#parts = sections.map((section) => {
      const link = document.createElement("a");
      link.href = `#${encodeURIComponent(section.id)}`;
      return { id: section.id, title: titles(section), section, link };
    });
    let n = 0;
    this.#list.replaceChildren(
      ...this.#parts.map((p) => {
        const li = document.createElement("li");
        p.link.title = p.title;
        if (p.section.classList.contains("step")) {
          p.link.textContent = String(++n);
        } else {
          p.link.dataset["intro"] = "true";
        }
        p.link.addEventListener("click", (e) => {
          if (!e.ctrlKey && !e.metaKey && !e.shiftKey) {
            e.preventDefault();
            this.go(p.id);
          }
        });
        li.append(p.link);
        return li;
      }),
    );
    for (const s of this.text.querySelectorAll<HTMLElement>(":scope > section.intro, :scope > section.step")) {
      (s.querySelector("h2") ?? s).setAttribute("tabindex", "-1");
    }
    if (this.part !== "" || this.#parts.length === 0) {
      this.#show(this.#parts.some((p) => p.id === this.part) ? this.part : (this.#parts[0]?.id ?? ""), false);
    }
  }

  /** What is focused when the learner comes to the part in view. */
  get heading(): HTMLElement {
    const section = this.#parts.find((p) => p.id === this.part)?.section;
    return section?.querySelector<HTMLElement>("h2") ?? section ?? this.text;
  }

  /** Id of the introduction when it is no page of its own, "" otherwise. */
  get unseen(): string {
    const intro = this.text.querySelector<HTMLElement>(":scope > section.intro");
    return intro && !this.#parts.some((p) => p.section === intro) ? "intro" : "";
  }

  /** Shows ticks and words as they are now. */
  update(): void {
    for (const [i, p] of this.#parts.entries()) {
      const done = p.section.classList.contains("step") ? this.host.done(p.id) : null;
      const here = p.id === this.part;
      p.link.dataset["done"] = String(done === true);
      const counts = done === null ? "" : done ? ", done" : ", not done yet";
      p.link.setAttribute("aria-label", `${p.section.classList.contains("step") ? `${p.link.textContent}: ` : ""}${p.title}${counts}`);
      if (here) {
        p.link.setAttribute("aria-current", "step");
        this.#back.classList.toggle("kept", i === 0);
        const steps = this.#parts.filter((x) => x.section.classList.contains("step"));
        const at = steps.indexOf(p);
        const place = at < 0 ? "Introduction" : `Step ${at + 1} of ${steps.length}`;
        if (this.#place.textContent !== place) {
          this.#place.textContent = place;
        }
      } else {
        p.link.removeAttribute("aria-current");
      }
    }
    const last = this.#parts.at(-1)?.id === this.part;
    const open = this.#open();
    if (!open && this.#asked === this.part) {
      this.#asked = "";
    }
    const anyway = this.#asked !== "" && this.#asked === this.part;
    const word = anyway ? "Go on anyway" : last ? "Finish" : this.#parts[0]?.id === this.part && !this.#isStep() ? "Start" : "Continue";
    for (const w of this.#next.children as HTMLCollectionOf<HTMLElement>) {
      w.classList.toggle("kept", w.dataset["word"] !== word);
      w.toggleAttribute("aria-hidden", w.dataset["word"] !== word);
    }
    this.#next.classList.toggle("quiet", open);
    const missing = open ? this.host.missing(this.part) : [];
    this.#say(
      !open ? "" : anyway ? `Not done yet: ${missing[0] ?? "a check"}${missing.length > 1 ? `, and ${missing.length - 1} more` : ""}` : "",
    );
  }

  /** The learner starts over: from the first part. */
  restart(): void {
    const first = this.#parts[0]?.id;
    if (first !== undefined && first !== this.part) {
      this.go(first);
    }
  }

  /** Goes to a part, as a click on it does. */
  go(id: string): void {
    if (id === this.part) {
      this.heading.closest("section")!.scrollTop = 0;
      return;
    }
    history.pushState(null, "", `#${encodeURIComponent(id)}`);
    this.#show(id, true);
  }

  #isStep(): boolean {
    return this.#parts.find((p) => p.id === this.part)?.section.classList.contains("step") === true;
  }

  /** The step in view asks for something that is not done. */
  #open(): boolean {
    return this.#isStep() && this.host.done(this.part) === false;
  }

  #say(text: string): void {
    if (this.#said.textContent !== text) {
      this.#said.textContent = text;
      this.#said.title = text;
    }
  }

  #show(id: string, focus: boolean): void {
    const part = this.#parts.find((p) => p.id === id);
    if (!part) {
      return;
    }
    const before = this.part;
    this.part = id;
    this.#asked = "";
    document.body.dataset["page"] = id;
    for (const s of this.text.querySelectorAll<HTMLElement>(":scope > section.intro, :scope > section.step")) {
      s.hidden = s !== part.section;
    }
    this.update();
    if (before !== id) {
      part.section.scrollTop = 0;
      part.link.scrollIntoView({ block: "nearest", inline: "nearest" });
      remember(`part.${this.host.lab}`, id);
      if (focus) {
        this.heading.focus({ preventScroll: true });
        announce(`${this.#place.textContent}: ${part.title}`);
      }
      this.host.shown(id);
    }
  }

  #step(by: number): void {
    const i = this.#parts.findIndex((p) => p.id === this.part);
    const to = this.#parts[i + by];
    if (to) {
      this.go(to.id);
    }
  }

  async #forward(): Promise<void> {
    if (this.#busy) {
      return;
    }
    const part = this.part;
    if (this.#open() && this.#asked !== part && this.host.ready()) {
      this.#busy = true;
      this.#next.setAttribute("aria-busy", "true");
      try {
        const late = new Promise<void>((r) => setTimeout(r, patience));
        await Promise.race([this.host.evaluate(part), late]);
      } catch {
        // It is said that it is not done, which is what is known.
      } finally {
        this.#busy = false;
        this.#next.removeAttribute("aria-busy");
      }
      if (this.part !== part) {
        return; // the learner went elsewhere meanwhile
      }
      if (this.#open()) {
        this.#asked = part;
        this.update();
        return;
      }
    }
    if (this.#parts.at(-1)?.id === part) {
      this.host.shown(finishPart);
      location.assign(this.host.finish);
      return;
    }
    this.#step(1);
  }

  /** The part that the address names: itself, or something in it. */
  #named(): string | null {
    const id = fragment();
    if (id === "") {
      return null;
    }
    const at = document.getElementById(id);
    return this.#parts.find((p) => p.id === id || (at && p.section.contains(at)))?.id ?? null;
  }

  #follow(focus: boolean): void {
    const to = this.#named() ?? this.#parts[0]?.id;
    if (to !== undefined && to !== this.part) {
      this.#show(to, focus);
    }
    this.#anchor();
  }

  #anchor(): void {
    const id = fragment();
    if (id !== "" && id !== this.part) {
      document.getElementById(id)?.scrollIntoView({ block: "start" });
    }
  }

  /** The finish link of the page without scripts is Next's last word here. */
  #link(e: MouseEvent): void {
    if ((e.target as Element).closest(".finish-link")) {
      this.host.shown(finishPart);
    }
  }

  #keys(e: KeyboardEvent): void {
    const links = this.#parts.map((p) => p.link);
    const at = links.indexOf(document.activeElement as HTMLAnchorElement);
    const to: Record<string, number> = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: links.length - 1 };
    const i = to[e.key];
    if (at >= 0 && i !== undefined) {
      e.preventDefault();
      links[Math.min(links.length - 1, Math.max(0, i))]!.focus();
    }
  }
}

/** An introduction that says nothing is no page. */
function hasText(intro: HTMLElement): boolean {
  return [...intro.children].some((e) => !e.classList.contains("facts") && !(e as HTMLElement).hidden && !e.classList.contains("image"));
}

function fragment(): string {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // a broken address names nothing
  }
}
