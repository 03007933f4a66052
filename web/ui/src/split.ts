// The divider between text and terminal: by pointer, by keyboard, remembered.
// The panes stand side by side, or one below the other on a narrow screen.

import { recall, remember } from "./store";

const min = 20;
const max = 80;

export function startSplit(main: HTMLElement, divider: HTMLElement, moved: () => void): void {
  const narrow = matchMedia("(max-width: 899.98px)");
  const key = () => (narrow.matches ? "split.rows" : "split.columns");
  const standard = () => (narrow.matches ? 55 : 46);
  let percent = 0;

  const set = (to: number) => {
    percent = Math.min(max, Math.max(min, Math.round(to * 10) / 10));
    main.style.setProperty("--split", `${percent}%`);
    divider.setAttribute("aria-valuenow", String(Math.round(percent)));
    moved();
  };
  const lay = () => {
    divider.setAttribute("aria-orientation", narrow.matches ? "horizontal" : "vertical");
    divider.setAttribute("aria-label", narrow.matches ? "Height of the text" : "Width of the text");
    set(Number(recall(key(), standard())) || standard());
  };
  const keep = () => remember(key(), percent);

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
      narrow.matches ? ((p.clientY - box.top) / box.height) * 100 : ((p.clientX - box.left) / box.width) * 100;
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
