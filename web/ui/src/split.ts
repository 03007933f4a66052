// Dividers between panes: by pointer, by keyboard, remembered. Text and
// terminal stand side by side, or one below the other on a narrow screen; the
// editor always stands above the terminal.

import { recall, remember } from "./store";

const min = 20;
const max = 80;

/** A window in which panes stand one below the other. */
export const narrow = matchMedia("(max-width: 899.98px)");

/** The divider between text and terminal. */
export function startSplit(main: HTMLElement, divider: HTMLElement, moved: () => void): void {
  start(main, divider, moved, () =>
    narrow.matches
      ? { rows: true, key: "split.rows", standard: 55, label: "Height of the text" }
      : { rows: false, key: "split.columns", standard: 46, label: "Width of the text" },
  );
}

/** The divider between editor and terminal. */
export function startRows(pane: HTMLElement, divider: HTMLElement, moved: () => void): void {
  start(pane, divider, moved, () => ({ rows: true, key: "split.editor", standard: 56, label: "Height of the editor" }));
}

interface Lay {
  rows: boolean;
  key: string;
  standard: number; // percent
  label: string;
}

function start(main: HTMLElement, divider: HTMLElement, moved: () => void, how: () => Lay): void {
  const property = main.classList.contains("split") ? "--split" : "--rows";
  const standard = () => how().standard;
  let percent = 0;

  const set = (to: number) => {
    percent = Math.min(max, Math.max(min, Math.round(to * 10) / 10));
    main.style.setProperty(property, `${percent}%`);
    divider.setAttribute("aria-valuenow", String(Math.round(percent)));
    moved();
  };
  const lay = () => {
    const l = how();
    divider.setAttribute("aria-orientation", l.rows ? "horizontal" : "vertical");
    divider.setAttribute("aria-label", l.label);
    set(Number(recall(l.key, l.standard)) || l.standard);
  };
  const keep = () => remember(how().key, percent);

  divider.addEventListener("pointerdown", (e) => {
    if (e.button !== 0) {
      return;
    }
    e.preventDefault();
    divider.focus();
    divider.setPointerCapture(e.pointerId);
    main.classList.add("dragging");
    const box = main.getBoundingClientRect();
    const at = (p: PointerEvent) =>
      how().rows ? ((p.clientY - box.top) / box.height) * 100 : ((p.clientX - box.left) / box.width) * 100;
    const from = at(e) - percent; // where on the divider it was taken
    const move = (p: PointerEvent) => set(at(p) - from);
    const up = () => {
      divider.removeEventListener("pointermove", move);
      main.classList.remove("dragging");
      keep();
    };
    divider.addEventListener("pointermove", move);
    divider.addEventListener("lostpointercapture", up, { once: true });
  });
  divider.addEventListener("dblclick", () => {
    set(standard());
    keep();
  });
  divider.addEventListener("keydown", (e) => {
    const step = e.shiftKey ? 10 : 2;
    const to: Record<string, number> = {
      ArrowLeft: percent - step,
      ArrowUp: percent - step,
      ArrowRight: percent + step,
      ArrowDown: percent + step,
      Home: min,
      End: max,
      Enter: standard(),
    };
    const v = to[e.key];
    if (v !== undefined) {
      e.preventDefault();
      set(v);
      keep();
    }
  });
  narrow.addEventListener("change", lay);
  lay();
}
