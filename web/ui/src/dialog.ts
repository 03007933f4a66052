// A question before something that cannot be undone.

/** Asks in a modal dialog; true when the learner confirms. */
export function ask(title: string, text: string, yes: string): Promise<boolean> {
  const d = document.createElement("dialog");
  d.className = "ask";
  const h = document.createElement("h2");
  h.id = "ask-title";
  h.textContent = title;
  const p = document.createElement("p");
  p.id = "ask-text";
  p.textContent = text;
  d.setAttribute("aria-labelledby", h.id);
  d.setAttribute("aria-describedby", p.id);
  const form = document.createElement("form");
  form.method = "dialog";
  const no = document.createElement("button");
  no.value = "no";
  no.className = "button quiet";
  no.textContent = "Cancel";
  no.autofocus = true;
  const ok = document.createElement("button");
  ok.value = "yes";
  ok.className = "button danger";
  ok.textContent = yes;
  form.append(no, ok);
  d.append(h, p, form);
  document.body.append(d);
  return new Promise((resolve) => {
    d.addEventListener("close", () => {
      d.remove();
      resolve(d.returnValue === "yes");
    });
    d.addEventListener("click", (e) => e.target === d && d.close("no"));
    d.showModal();
  });
}
