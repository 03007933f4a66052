// Previews: what listens on a port of a sandbox, in a tab. Each port has an
// origin of its own, which is not ours, so what is shown there cannot act as
// this page.

import { sheetParts, type Sheet } from "./sheet";

export interface Port {
  port: number;
  host: number;
  path: string;
}

/** Name of the tab of a port: one per port. */
export function previewName(p: { port: number; host: number }): string {
  return `=port-${p.host > 1 ? `${p.host}-` : ""}${p.port}`;
}

/** Address of a port's preview: previews is State.preview. */
export function previewAddress(previews: string, p: Port): string {
  const path = p.path === "" || p.path.startsWith("/") ? p.path : `/${p.path}`;
  return previews.replace("PORT", p.host > 1 ? `${p.port}-${p.host}` : String(p.port)) + (path || "/");
}

/** Where the page asks for a preview: the server looks who asks, and leads there. */
export function previewDoor(address: string): string {
  return `/preview?to=${encodeURIComponent(address)}`;
}

export class Preview implements Sheet {
  readonly name: string;
  readonly tab: HTMLButtonElement;
  readonly panel: HTMLElement;
  readonly #path: HTMLInputElement;
  readonly #out: HTMLAnchorElement;
  readonly #frame: HTMLIFrameElement;
  #previews = "";
  #shown = "";

  constructor(
    private readonly to: Port,
    title: string,
    readonly close: (() => void) | undefined,
  ) {
    this.name = previewName(to);
    ({ tab: this.tab, panel: this.panel } = sheetParts(this.name, title));
    this.panel.classList.add("preview");

    const bar = document.createElement("form");
    bar.className = "preview-bar";
    const button = (kind: string, say: string) => {
      const b = document.createElement("button");
      b.type = "button";
      b.className = `icon ${kind}`;
      b.setAttribute("aria-label", say);
      b.title = say;
      return b;
    };
    const reload = button("reload", "Reload");
    reload.addEventListener("click", () => this.#load());
    const label = document.createElement("label");
    label.className = "preview-address";
    const port = document.createElement("span");
    port.textContent = `:${to.port}`;
    port.title = `Port ${to.port} of ${to.host > 1 ? `machine ${to.host}` : "your sandbox"}`;
    this.#path = document.createElement("input");
    this.#path.type = "text";
    this.#path.spellcheck = false;
    this.#path.autocomplete = "off";
    this.#path.setAttribute("aria-label", `Path on port ${to.port}`);
    this.#path.value = to.path || "/";
    label.append(port, this.#path);
    this.#out = document.createElement("a");
    this.#out.className = "icon out";
    this.#out.target = "_blank";
    this.#out.rel = "noopener";
    this.#out.setAttribute("aria-label", "Open in a new tab");
    this.#out.title = "Open in a new tab";
    bar.append(reload, label, this.#out);
    if (close) {
      const shut = button("shut", "Close this preview");
      shut.addEventListener("click", close);
      bar.append(shut);
    }
    bar.addEventListener("submit", (e) => {
      e.preventDefault();
      this.go(this.#path.value.trim());
    });

    this.#frame = document.createElement("iframe");
    this.#frame.title = `Preview of port ${to.port}`;
    // Its origin is never ours: allow-same-origin gives it its own back, without
    // which most applications do not work. It cannot navigate this page.
    this.#frame.setAttribute("sandbox", "allow-scripts allow-forms allow-same-origin allow-popups allow-downloads");
    this.#frame.referrerPolicy = "no-referrer";
    this.panel.append(bar, this.#frame);
  }

  /** Previews are to be found here, or "" when there are none for now. */
  at(previews: string): void {
    this.#previews = previews;
    this.#shown = "";
    this.#address();
    if (previews === "") {
      this.#frame.removeAttribute("src");
    }
  }

  /** Shows a path of it. */
  go(path: string): void {
    this.to.path = path === "" || path.startsWith("/") ? path : `/${path}`;
    this.#path.value = this.to.path || "/";
    this.#address();
    if (!this.panel.hidden) {
      this.#load();
    } else {
      this.#shown = "";
    }
  }

  show(): void {
    if (this.#shown === "") {
      this.#load();
    }
  }

  focus(): void {
    this.#frame.focus();
  }

  #address(): string {
    const door = this.#previews === "" ? "" : previewDoor(previewAddress(this.#previews, this.to));
    if (door === "") {
      this.#out.removeAttribute("href");
    } else {
      this.#out.href = door;
    }
    return door;
  }

  #load(): void {
    const door = this.#address();
    if (door === "") {
      return;
    }
    this.#shown = door;
    // A frame that is new does not add to the browser's history.
    this.#frame.remove();
    this.#frame.src = door;
    this.panel.append(this.#frame);
  }
}
