// Sentences for the learner: announced to screen readers, and shown at the
// bottom of the page for a while where they would otherwise be missed.

let region: HTMLElement | null = null;
let stack: HTMLElement | null = null;
let queue: string[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;

/** Tells screen readers, politely, without showing anything. */
export function announce(text: string): void {
  if (!region) {
    region = document.createElement("div");
    region.className = "sr-only";
    region.setAttribute("aria-live", "polite");
    region.id = "announcements";
    document.body.append(region);
  }
  // What happens together is read together.
  queue.push(text);
  clearTimeout(timer);
  timer = setTimeout(() => {
    region!.textContent = queue.join(" ");
    queue = [];
  }, 150);
}

const life = 12_000;

/** Shows a sentence until it has been read or closed. The same one is not shown twice. */
export function notice(text: string, kind = "plain"): void {
  if (!stack) {
    stack = document.createElement("section");
    stack.className = "notices";
    stack.setAttribute("aria-label", "Notices");
    document.body.append(stack);
  }
  for (const n of stack.children) {
    if (n.firstElementChild?.textContent === text) {
      return;
    }
  }
  const box = document.createElement("div");
  box.className = "notice";
  box.dataset["kind"] = kind;
  const p = document.createElement("p");
  p.textContent = text;
  const shut = document.createElement("button");
  shut.type = "button";
  shut.className = "icon shut";
  shut.setAttribute("aria-label", "Close this notice");
  box.append(p, shut);
  stack.append(box);
  while (stack.children.length > 3) {
    stack.firstElementChild!.remove();
  }
  announce(text);

  let end: ReturnType<typeof setTimeout>;
  const start = () => (end = setTimeout(() => box.remove(), life));
  const hold = () => clearTimeout(end);
  shut.addEventListener("click", () => {
    hold();
    box.remove();
  });
  box.addEventListener("pointerenter", hold);
  box.addEventListener("focusin", hold);
  box.addEventListener("pointerleave", start);
  box.addEventListener("focusout", start);
  start();
}
