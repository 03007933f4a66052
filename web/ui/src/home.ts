// The list of labs: a filter, where there are many.

export function startHome(body: HTMLElement): void {
  const box = body.querySelector<HTMLElement>(".filter");
  const input = box?.querySelector<HTMLInputElement>("input");
  const count = box?.querySelector<HTMLElement>(".filter-count");
  if (!box || !input || !count) {
    return;
  }
  const courses = [...body.querySelectorAll<HTMLElement>(".course")].map((section) => ({
    section,
    labs: [...section.querySelectorAll<HTMLElement>(".lab")].map((lab) => ({
      lab,
      text: plain(["h2.course-title", ".lab-title", ".summary", ".read-only", ".level"].map((q) => (q.startsWith("h2") ? section : lab).querySelector(q)?.textContent ?? "").join(" ")),
    })),
  }));
  const all = courses.reduce((n, c) => n + c.labs.length, 0);
  const apply = () => {
    const words = plain(input.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const c of courses) {
      let here = 0;
      for (const { lab, text } of c.labs) {
        lab.hidden = !words.every((w) => text.includes(w));
        here += Number(!lab.hidden);
      }
      c.section.hidden = here === 0;
      shown += here;
    }
    const say = words.length === 0 ? `${all} labs` : shown === 0 ? "No lab fits" : `${shown} of ${all} labs`;
    if (count.textContent !== say) {
      count.textContent = say;
    }
  };
  input.disabled = false;
  input.addEventListener("input", apply);
  input.addEventListener("keydown", (e) => {
    if (e.key === "Escape" && input.value !== "") {
      e.preventDefault();
      input.value = "";
      apply();
    }
  });
  addEventListener("pageshow", apply); // the browser may have filled it in
  document.addEventListener("keydown", (e) => {
    const in_ = e.target as HTMLElement;
    if (e.key === "/" && !e.ctrlKey && !e.metaKey && !e.altKey && !in_.matches("input, textarea, [contenteditable]")) {
      e.preventDefault();
      input.focus();
    }
  });
  apply();
}

/** Without case and accents. */
function plain(s: string): string {
  return s.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}
