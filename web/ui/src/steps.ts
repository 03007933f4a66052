// Steps and their checks: ticks, what is expected and what was seen, hints and
// solutions. Space for all that comes by itself is reserved, so that nothing
// on the page moves unless the learner asked for it.

import { announce, notice } from "./notice";
import { api, type CheckState, type Refusal, type Result, type ResultEvent, type State } from "./session";

/** How a check looks to the learner. */
export interface CheckLook {
  status: "pending" | "passed" | "failed" | "unknown";
  /** One line beside it, or "". */
  line: string;
  /** Words for the mark. */
  label: string;
  expected: string;
  seen: string;
}

const upper = (s: string) => s.charAt(0).toUpperCase() + s.slice(1);

/**
 * Quiet until the learner acted in the step: a check that does not hold yet is
 * nothing to talk about before. A check that could not be made always says so,
 * and one that passed once stays passed.
 */
export function look(c: CheckState | undefined, acted: boolean): CheckLook {
  const now = c?.now;
  const expected = now?.expected ?? "";
  const seen = now?.seen ?? "";
  const quiet = { line: "", expected: "", seen: "" };
  if (c?.passed) {
    if (now?.status === "failed") {
      const line = seen ? `Was done. Right now: ${seen}` : "Was done; it does not hold right now.";
      return { status: "passed", line, label: "done before", expected, seen };
    }
    return { status: "passed", label: "done", ...quiet };
  }
  switch (now?.status) {
    case "passed":
      return { status: "passed", label: "done", ...quiet };
    case "unknown": {
      const why = now.reason || "the reason is not known";
      return { status: "unknown", line: `Could not be checked: ${why}`, label: "could not be checked", expected: "", seen: "" };
    }
    case "failed": {
      if (!acted) {
        return { status: "pending", label: "not done yet", ...quiet };
      }
      const line = seen ? `Not yet. Seen: ${seen}` : expected ? `Not yet. Expected: ${expected}` : "Not yet.";
      return { status: "failed", line, label: "not done yet", expected, seen };
    }
  }
  return { status: "pending", label: "not done yet", ...quiet };
}

/** A question's check is done or not; there is nothing to see in a sandbox. */
export function answerLook(c: CheckState | undefined): CheckLook {
  const passed = c?.passed === true;
  return { status: passed ? "passed" : "pending", label: passed ? "done" : "not answered yet", line: "", expected: "", seen: "" };
}

/** Shows a sentence whose `code` stands between backticks. */
function words(el: HTMLElement, text: string): void {
  const parts = text.split("`");
  if (parts.length % 2 === 0) {
    el.textContent = text; // one is left over: it is text
    return;
  }
  el.replaceChildren(
    ...parts.map((part, i) => {
      if (i % 2 === 0) {
        return document.createTextNode(part);
      }
      const code = document.createElement("code");
      code.textContent = part;
      return code;
    }),
  );
}

export class Steps {
  readonly #checks = new Map<string, CheckState>();
  readonly #acted = new Set<string>();
  #done = new Map<string, boolean>();
  #fresh = true; // the first state is not news

  constructor(
    private readonly text: HTMLElement,
    private readonly progress: HTMLElement | null,
    private readonly session: () => string,
    /** Every step that counts is done. */
    private readonly finished: (news: boolean) => void,
  ) {
    this.adopt();
    text.addEventListener("click", (e) => {
      const t = e.target as Element;
      const why = t.closest<HTMLElement>("button.why");
      const b = t.closest<HTMLButtonElement>(".help button");
      if (why) {
        this.#toggle(why);
      } else if (b?.classList.contains("check-button")) {
        void this.#check(b);
      } else if (b?.classList.contains("hint-button")) {
        void this.#hint(b);
      } else if (b?.classList.contains("solution-button")) {
        void this.#solution(b);
      }
    });
  }

  /** Prepares text that is new on the page, and shows what is known there. */
  adopt(): void {
    for (const li of this.text.querySelectorAll<HTMLElement>(".check:not([data-prepared])")) {
      this.#prepare(li);
      this.#draw(li);
    }
    // Questions are answered in the text: without other checks there is
    // nothing to check now.
    for (const b of this.text.querySelectorAll<HTMLElement>(".check-button")) {
      b.hidden = this.#askable(b.dataset["step"] ?? "").length === 0;
    }
    for (const [id, done] of this.#done) {
      this.#step(id, done, false);
    }
    this.#label();
    if (!this.#fresh) {
      this.#count(false);
    }
  }

  /** Called whenever a check or a step may have changed. */
  changed: (() => void) | undefined;

  get checks(): ReadonlyMap<string, CheckState> {
    return this.#checks;
  }

  /** Whether a step is done; null for one that asks for nothing. */
  isDone(step: string): boolean | null {
    const d = this.#section(step)?.dataset["done"];
    return d === undefined ? null : d === "true";
  }

  /** Names of the checks of a step that are not done and count. */
  missing(step: string): string[] {
    return [...(this.#section(step)?.querySelectorAll<HTMLElement>(".check:not(.optional)") ?? [])]
      .filter((li) => !this.#checks.get(li.dataset["check"] ?? "")?.passed)
      .map((li) => li.querySelector(".check-name")?.textContent?.trim() ?? "");
  }

  /** What the server said of one check, in answer to us. */
  take(r: Result): void {
    const before = this.#checks.get(r.check);
    this.#checks.set(r.check, { passed: before?.passed || r.status === "passed", now: r });
    const li = this.#li(r.check);
    if (li) {
      this.#draw(li);
    }
    this.changed?.();
  }

  /** Has the checks of a step made now, those that can be. */
  async evaluate(step: string): Promise<Result[]> {
    const results = await Promise.all(this.#askable(step).map((id) => api.check(this.session(), id)));
    for (const r of results) {
      const before = this.#checks.get(r.check);
      this.#checks.set(r.check, { passed: before?.passed || r.status === "passed", now: r });
    }
    const section = this.#section(step);
    if (section?.dataset["done"] === "false" && this.missing(step).length === 0) {
      this.#step(step, true, true);
      this.#count(true);
    }
    this.#speak(step);
    this.changed?.();
    return results;
  }

  /** Ids of a step's checks that are no questions. */
  #askable(step: string): string[] {
    return [...(this.#section(step)?.querySelectorAll<HTMLElement>(".check") ?? [])]
      .filter((li) => li.dataset["quiz"] === undefined)
      .map((li) => li.dataset["check"] ?? "");
  }

  /** Takes over everything that the server says. */
  update(s: State): void {
    this.#checks.clear();
    for (const [id, c] of Object.entries(s.checks ?? {})) {
      this.#checks.set(id, c);
    }
    for (const [id, st] of Object.entries(s.steps ?? {})) {
      this.#step(id, st.done, false);
    }
    for (const li of this.text.querySelectorAll<HTMLElement>(".check")) {
      this.#draw(li);
    }
    for (const [ref, source] of Object.entries(s.images ?? {})) {
      for (const p of this.text.querySelectorAll<HTMLElement>("p.image")) {
        if (p.dataset["image"] === ref) {
          p.hidden = p.dataset["source"] !== source;
        }
      }
    }
    this.#count(!this.#fresh);
    this.#fresh = false;
    this.ready(s.phase === "ready");
    this.changed?.();
  }

  /** Forgets what belonged to an earlier session. */
  reset(): void {
    this.#acted.clear();
    this.#fresh = true;
    for (const box of this.text.querySelectorAll<HTMLElement>(".help-text")) {
      box.replaceChildren();
    }
    for (const b of this.text.querySelectorAll<HTMLButtonElement>(".help button")) {
      delete b.dataset["n"];
      delete b.dataset["spent"];
      b.removeAttribute("aria-expanded");
    }
    this.#label();
  }

  result(r: ResultEvent): void {
    const before = this.#checks.get(r.check);
    this.#checks.set(r.check, { passed: r.passed, now: r.now });
    const li = this.#li(r.check);
    if (li) {
      this.#draw(li);
      if (r.passed && !before?.passed) {
        announce(`Done: ${li.querySelector(".check-name")?.textContent?.trim() ?? ""}.`);
      }
    }
    if (r.step) {
      this.#step(r.step, r.stepDone, true);
      this.#count(true);
    }
    this.changed?.();
  }

  /** The learner did something in a step: from now on it says what is missing. */
  acted(step: string): void {
    // Not at once: what was just started should have a moment to be done.
    setTimeout(() => this.#speak(step), 1500);
  }

  ready(on: boolean): void {
    for (const b of this.text.querySelectorAll<HTMLButtonElement>(".help button")) {
      b.disabled = !on || b.dataset["spent"] === "true";
    }
  }

  #speak(step: string): void {
    this.#acted.add(step);
    for (const li of this.#section(step)?.querySelectorAll<HTMLElement>(".check") ?? []) {
      this.#draw(li);
    }
  }

  #section(step: string): HTMLElement | null {
    return this.text.querySelector<HTMLElement>(`section.step[data-step="${CSS.escape(step)}"]`);
  }

  #li(check: string): HTMLElement | null {
    return this.text.querySelector<HTMLElement>(`.check[data-check="${CSS.escape(check)}"]`);
  }

  #prepare(li: HTMLElement): void {
    li.dataset["prepared"] = "true";
    const quiz = this.text.querySelector(`form.quiz[data-quiz="${CSS.escape(li.dataset["check"] ?? "")}"]`);
    if (quiz) {
      li.dataset["quiz"] = "true";
    }
    const detail = li.querySelector<HTMLElement>(".check-detail");
    if (!detail) {
      return;
    }
    detail.hidden = false;
    const why = document.createElement("button");
    why.type = "button";
    why.className = "why";
    why.hidden = true;
    why.setAttribute("aria-expanded", "false");
    const all = document.createElement("dl");
    all.className = "why-text";
    all.hidden = true;
    all.id = `why-${li.dataset["check"]}`;
    why.setAttribute("aria-controls", all.id);
    detail.replaceChildren(why);
    li.append(all);
  }

  #draw(li: HTMLElement): void {
    const id = li.dataset["check"] ?? "";
    const step = li.closest<HTMLElement>("section.step")?.dataset["step"] ?? "";
    const quiz = li.dataset["quiz"] !== undefined;
    // What is wrong with an answer is said beside the question.
    const l = quiz ? answerLook(this.#checks.get(id)) : look(this.#checks.get(id), this.#acted.has(step));
    li.dataset["status"] = l.status;
    li.dataset["now"] = l.label === "done before" ? "failed" : "";
    li.querySelector(".mark")?.setAttribute("aria-label", l.label);
    const why = li.querySelector<HTMLButtonElement>("button.why");
    const all = li.querySelector<HTMLElement>(".why-text");
    if (!why || !all) {
      return;
    }
    if (why.dataset["line"] !== l.line) {
      why.dataset["line"] = l.line;
      words(why, l.line);
    }
    why.hidden = l.line === "";
    const parts: [string, string][] = l.expected || l.seen
      ? [["Expected", l.expected || "nothing in particular"], ["Seen", l.seen || "nothing"]]
      : l.line ? [["Why", l.line]] : [];
    all.replaceChildren(
      ...parts.flatMap(([name, text]) => {
        const dt = document.createElement("dt");
        const dd = document.createElement("dd");
        dt.textContent = name;
        words(dd, upper(text));
        return [dt, dd];
      }),
    );
    if (parts.length === 0) {
      all.hidden = true;
      why.setAttribute("aria-expanded", "false");
    }
  }

  #toggle(why: HTMLElement): void {
    const all = why.closest(".check")?.querySelector<HTMLElement>(".why-text");
    if (all) {
      all.hidden = !all.hidden;
      why.setAttribute("aria-expanded", String(!all.hidden));
    }
  }

  #step(id: string, done: boolean, news: boolean): void {
    const section = this.#section(id);
    if (!section || section.dataset["done"] === undefined) {
      return;
    }
    const before = this.#done.get(id);
    this.#done.set(id, done);
    section.dataset["done"] = String(done);
    section.classList.toggle("done", done);
    section.querySelector("h2 .tick")?.setAttribute("aria-label", done ? "done" : "not done yet");
    if (news && done && !before) {
      announce(`Step done: ${section.querySelector("h2")?.textContent?.trim() ?? ""}.`);
    }
  }

  #count(news: boolean): void {
    const counted = [...this.text.querySelectorAll<HTMLElement>("section.step[data-done]")];
    const total = counted.length;
    const done = counted.filter((s) => s.dataset["done"] === "true").length;
    if (this.progress) {
      this.progress.hidden = total === 0;
      this.progress.setAttribute("aria-valuemax", String(total));
      this.progress.setAttribute("aria-valuenow", String(done));
      this.progress.setAttribute("aria-valuetext", `${done} of ${total} steps done`);
      this.progress.querySelector("progress")?.setAttribute("value", String(done));
      this.progress.querySelector("progress")?.setAttribute("max", String(total));
      const t = this.progress.querySelector(".progress-text");
      if (t) {
        t.textContent = `${done} of ${total}`;
      }
    }
    if (total > 0 && done === total) {
      this.finished(news);
    }
  }

  async #check(b: HTMLButtonElement): Promise<void> {
    b.setAttribute("aria-busy", "true");
    try {
      const results = await this.evaluate(b.dataset["step"] ?? "");
      const hold = results.filter((r) => r.status === "passed").length;
      announce(hold === results.length ? "All checks of this step hold." : `${hold} of ${results.length} checks hold.`);
    } catch (err) {
      notice((err as Refusal).message, "bad");
    } finally {
      b.removeAttribute("aria-busy");
    }
  }

  async #hint(b: HTMLButtonElement): Promise<void> {
    const step = b.dataset["step"] ?? "";
    const n = Number(b.dataset["n"] ?? 0) + 1;
    b.setAttribute("aria-busy", "true");
    try {
      const h = await api.hint(this.session(), step, n);
      b.dataset["n"] = String(n);
      this.#help(b, "hint", n > 1 || h.more ? `Hint ${n}` : "Hint", h.html);
      if (!h.more) {
        b.dataset["spent"] = "true";
        b.disabled = true;
      }
      this.#label();
    } catch (err) {
      notice((err as Refusal).message, "bad");
    } finally {
      b.removeAttribute("aria-busy");
    }
  }

  async #solution(b: HTMLButtonElement): Promise<void> {
    const shown = b.closest(".help")?.querySelector<HTMLElement>(".help-item.solution");
    if (shown) {
      shown.hidden = !shown.hidden;
      b.setAttribute("aria-expanded", String(!shown.hidden));
      this.#label();
      return;
    }
    b.setAttribute("aria-busy", "true");
    try {
      const s = await api.solution(this.session(), b.dataset["step"] ?? "");
      this.#help(b, "solution", "Solution", s.html);
      b.setAttribute("aria-expanded", "true");
      this.#label();
    } catch (err) {
      notice((err as Refusal).message, "bad");
    } finally {
      b.removeAttribute("aria-busy");
    }
  }

  #help(b: HTMLElement, kind: string, title: string, html: string): void {
    const item = document.createElement("div");
    item.className = `help-item ${kind}`;
    const p = document.createElement("p");
    p.className = "help-title";
    p.textContent = title;
    const body = document.createElement("div");
    body.innerHTML = html; // sanitized by the server, as the lesson's own text
    item.append(p, body);
    b.closest(".help")?.querySelector(".help-text")?.append(item);
    this.added?.();
  }

  /** Called after text with buttons was added. */
  added: (() => void) | undefined;

  #label(): void {
    for (const b of this.text.querySelectorAll<HTMLButtonElement>(".hint-button")) {
      const n = Number(b.dataset["n"] ?? 0);
      b.textContent = n === 0 ? "Hint" : b.dataset["spent"] ? "No more hints" : "Another hint";
    }
    for (const b of this.text.querySelectorAll<HTMLButtonElement>(".solution-button")) {
      b.textContent = b.getAttribute("aria-expanded") === "true" ? "Hide the solution" : "Show the solution";
    }
  }
}
