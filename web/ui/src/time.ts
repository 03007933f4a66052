// Time left in a session, in words, and a way to get more when little is left.

import { announce } from "./notice";
import type { State } from "./session";

/** "1 h 20 min", "9 min", "40 s". Never less than is left by more than a unit. */
export function words(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) {
    return `${s} s`;
  }
  const m = Math.floor(s / 60);
  if (m < 60) {
    return `${m} min`;
  }
  return m % 60 === 0 ? `${Math.floor(m / 60)} h` : `${Math.floor(m / 60)} h ${m % 60} min`;
}

const little = 10 * 60_000;

export class TimeLeft {
  #ends = 0; // performance.now() when the session ends; 0: not running
  #canExtend = false;
  #told = Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly box: HTMLElement,
    private readonly left: HTMLElement,
    private readonly button: HTMLButtonElement,
    extend: () => void,
  ) {
    button.addEventListener("click", extend);
  }

  /** Takes over what the server says; its clock and ours need not agree. */
  update(s: State): void {
    const open = s.phase === "ready" || s.phase === "starting";
    const ms = Date.parse(s.expires) - Date.parse(s.now);
    this.#ends = open && ms > -60_000 && ms < 1000 * 3600_000 ? performance.now() + ms : 0;
    this.#canExtend = s.canExtend;
    if (ms > little) {
      this.#told = Infinity;
    }
    this.#show();
  }

  #show(): void {
    clearTimeout(this.#timer);
    this.box.hidden = this.#ends === 0;
    if (this.#ends === 0) {
      return;
    }
    const ms = Math.max(0, this.#ends - performance.now());
    this.left.textContent = `${words(ms)} left`;
    const low = ms <= little;
    this.box.dataset["low"] = String(low);
    this.button.hidden = false;
    this.button.classList.toggle("kept", !(low && this.#canExtend)); // keeps its place
    for (const at of [60_000, 5 * 60_000, little]) {
      if (ms <= at && this.#told > at) {
        this.#told = at;
        announce(`${words(ms + 999)} left in this session.${this.#canExtend ? " You can extend it." : ""}`);
      }
      if (ms <= at) {
        break;
      }
    }
    // To the next whole unit.
    const unit = ms <= 61_000 ? 1000 : 60_000;
    this.#timer = setTimeout(() => this.#show(), (ms % unit) + 20);
  }
}
