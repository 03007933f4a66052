// Light, dark, or as the system has it. The choice is a cookie, so that the
// server writes it into the page and nothing flashes.

export type Theme = "system" | "light" | "dark";

const order: Theme[] = ["system", "light", "dark"];
const names: Record<Theme, string> = { system: "As the system", light: "Light", dark: "Dark" };
const changed = new Set<() => void>();
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Calls f whenever the colours may have changed. */
export function onTheme(f: () => void): void {
  changed.add(f);
}

function current(): Theme {
  const t = document.documentElement.dataset["theme"];
  return t === "light" || t === "dark" ? t : "system";
}

function apply(t: Theme): void {
  if (t === "system") {
    delete document.documentElement.dataset["theme"];
  } else {
    document.documentElement.dataset["theme"] = t;
  }
  label();
  changed.forEach((f) => f());
}

function label(): void {
  const t = current();
  for (const b of document.querySelectorAll<HTMLButtonElement>("button.theme")) {
    b.dataset["choice"] = t;
    b.setAttribute("aria-label", `Colours: ${names[t]}`);
    b.title = `Colours: ${names[t]}`;
  }
}

export function startTheme(): void {
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("berth.theme") : null;
  if (channel) {
    channel.onmessage = (e) => order.includes(e.data as Theme) && apply(e.data as Theme);
  }
  for (const b of document.querySelectorAll<HTMLButtonElement>("button.theme")) {
    b.textContent = "";
    b.hidden = false;
    b.addEventListener("click", () => {
      const t = order[(order.indexOf(current()) + 1) % order.length]!;
      apply(t);
      const age = t === "system" ? 0 : 365 * 24 * 3600;
      document.cookie = `theme=${t}; Path=/; Max-Age=${age}; SameSite=Lax`;
      channel?.postMessage(t);
    });
  }
  dark.addEventListener("change", () => changed.forEach((f) => f()));
  label();
}
