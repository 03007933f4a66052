// What stands in the terminal's place while there is none: starting, waiting,
// failed, ended.

export interface PhaseView {
  kind: "starting" | "waiting" | "failed" | "ended" | "unreachable" | "cannot";
  title: string;
  text: string;
  /** When it began (performance.now()), to show how long it has taken. */
  since?: number;
  action?: { label: string; run(): void };
}

export class PhaseCard {
  readonly #card: HTMLElement;
  #key = "";
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(screen: HTMLElement) {
    this.#card = document.createElement("div");
    this.#card.className = "phase";
    this.#card.setAttribute("role", "status");
    this.#card.hidden = true;
    screen.querySelectorAll(".before, noscript").forEach((e) => e.remove());
    screen.append(this.#card);
  }

  hide(): void {
    this.#key = "";
    clearInterval(this.#timer);
    this.#card.hidden = true;
    this.#card.replaceChildren();
  }

  show(v: PhaseView): void {
    const key = JSON.stringify([v.kind, v.title, v.text, v.since]);
    if (key === this.#key) {
      return; // nothing new: leave focus and screen readers alone
    }
    this.#key = key;
    clearInterval(this.#timer);
    this.#card.hidden = false;
    this.#card.dataset["kind"] = v.kind;
    const title = document.createElement("p");
    title.className = "phase-title";
    title.textContent = v.title;
    const text = document.createElement("p");
    text.className = "phase-text";
    text.textContent = v.text;
    const box = document.createElement("div");
    box.className = "phase-box";
    box.append(title, text);
    if (v.since !== undefined) {
      const since = v.since;
      const time = document.createElement("p");
      time.className = "phase-time";
      time.setAttribute("aria-hidden", "true");
      const tick = () => {
        const s = Math.floor((performance.now() - since) / 1000);
        time.textContent = s < 2 ? " " : `${s} s`;
      };
      tick();
      this.#timer = setInterval(tick, 1000);
      box.append(time);
    }
    if (v.action) {
      const b = document.createElement("button");
      b.type = "button";
      b.className = "button";
      b.textContent = v.action.label;
      b.addEventListener("click", v.action.run);
      box.append(b);
    }
    this.#card.replaceChildren(box);
  }
}
