// The connection as the learner should see it: quiet while it is good.

import type { LineState } from "./socket";

type Shown = "good" | "slow" | "connecting" | "stalled" | "broken" | "offline" | "none";

const slow = 400; // ms of round trip that a typist notices

export class Connection {
  #line: LineState | null = null;
  #live = true;
  #trip = 0;
  #shown: Shown | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly box: HTMLElement) {
    box.hidden = false;
    this.#show("none");
  }

  /** State of the terminal in view; null when none is open. */
  line(s: LineState | null): void {
    this.#line = s;
    this.#later();
  }

  /** Whether the session's events arrive. */
  live(on: boolean): void {
    this.#live = on;
    this.#later();
  }

  latency(ms: number): void {
    this.#trip = this.#trip === 0 ? ms : this.#trip * 0.6 + ms * 0.4;
    this.#later();
  }

  // A break that is over within half a second is not worth a word.
  #later(): void {
    const now = this.#judge();
    clearTimeout(this.#timer);
    if (now === this.#shown && now !== "slow") {
      return;
    }
    if (now === "good" || now === "offline" || this.#shown === null || this.#shown === "none") {
      this.#show(now);
    } else {
      this.#timer = setTimeout(() => this.#show(this.#judge()), 500);
    }
  }

  #judge(): Shown {
    const k = this.#line?.kind;
    const broken = k === "waiting" || !this.#live;
    if (broken) {
      return navigator.onLine ? "broken" : "offline";
    }
    switch (k) {
      case "open":
        return this.#trip > slow ? "slow" : "good";
      case "stalled":
        return "stalled";
      case "connecting":
        return "connecting";
    }
    return "none";
  }

  #show(s: Shown): void {
    this.#shown = s;
    this.box.dataset["state"] = s;
    const text: Record<Shown, string> = {
      good: "Connected",
      slow: `Slow: ${Math.round(this.#trip / 10) * 10} ms`,
      connecting: "Connecting",
      stalled: "No answer",
      broken: "Reconnecting",
      offline: "Offline",
      none: "",
    };
    const t = text[s];
    if (this.box.textContent !== t) {
      this.box.textContent = t;
    }
  }
}
