// Questions to the learner. Each is a check of its step, answered in the text.

import { announce, notice } from "./notice";
import { api, Refusal, type Answer, type CheckState, type Result } from "./session";

export interface QuizzesHost {
  session(): string;
  /** What the server said of an answer. */
  answered(r: Result): void;
}

export class Quizzes {
  #ready = false;

  constructor(private readonly text: HTMLElement, private readonly host: QuizzesHost) {
    text.addEventListener("submit", (e) => {
      const form = (e.target as Element).closest<HTMLFormElement>("form.quiz");
      if (form) {
        e.preventDefault();
        void this.#answer(form);
      }
    });
    text.addEventListener("input", (e) => {
      const form = (e.target as Element).closest<HTMLFormElement>("form.quiz");
      if (form && form.dataset["status"] !== "passed") {
        say(form, "", "");
      }
    });
    this.ready(false);
  }

  ready(on: boolean): void {
    this.#ready = on;
    for (const form of this.#forms()) {
      button(form).disabled = !on || form.dataset["status"] === "passed";
    }
  }

  /** Shows which questions were answered rightly. */
  update(checks: ReadonlyMap<string, CheckState>): void {
    for (const form of this.#forms()) {
      const passed = checks.get(form.dataset["quiz"] ?? "")?.passed === true;
      if (passed !== (form.dataset["status"] === "passed")) {
        say(form, passed ? "passed" : "", passed ? "Right" : "");
        button(form).disabled = !this.#ready || passed;
      }
    }
  }

  #forms(): NodeListOf<HTMLFormElement> {
    return this.text.querySelectorAll<HTMLFormElement>("form.quiz");
  }

  async #answer(form: HTMLFormElement): Promise<void> {
    const b = button(form);
    if (b.disabled || b.getAttribute("aria-busy") === "true") {
      return;
    }
    const text = form.querySelector<HTMLInputElement>('input[name="text"]');
    const picked = [...form.querySelectorAll<HTMLInputElement>('input[name="a"]:checked')].map((i) => Number(i.value));
    const answer: Answer = text ? { text: text.value } : { picked };
    if (text ? text.value.trim() === "" : picked.length === 0) {
      say(form, "open", text ? "Type an answer first." : "Pick an answer first.");
      return;
    }
    b.setAttribute("aria-busy", "true");
    try {
      const r = await api.answer(this.host.session(), form.dataset["quiz"] ?? "", answer);
      const right = r.status === "passed";
      say(form, right ? "passed" : "failed", right ? "Right" : "Not right. Try again.");
      // The sentence beside the button is in a live region of its own.
      if (right && document.activeElement === b) {
        form.querySelector<HTMLInputElement>("input")?.focus({ preventScroll: true });
      }
      b.disabled = right;
      this.host.answered(r);
    } catch (err) {
      if (err instanceof Refusal) {
        notice(err.message, "bad");
      } else {
        say(form, "open", "The server cannot be reached.");
        announce("The server cannot be reached.");
      }
    } finally {
      b.removeAttribute("aria-busy");
    }
  }
}

function button(form: HTMLFormElement): HTMLButtonElement {
  return form.querySelector<HTMLButtonElement>(".quiz-button")!;
}

function say(form: HTMLFormElement, status: string, text: string): void {
  form.dataset["status"] = status;
  const said = form.querySelector<HTMLElement>(".quiz-said");
  if (said && said.textContent !== text) {
    said.textContent = text;
  }
}
