// The menus of the tabs: a new terminal or the preview of a port; text size,
// screen reader mode, starting over.

import { hostName } from "./page";
import type { Look } from "./terminal";

export interface MenuHost {
  look: Look;
  startOver(): void;
  end(): void;
}

export function startMenu(bar: HTMLElement, host: MenuHost): (open: boolean) => void {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "icon menu-button";
  button.setAttribute("aria-label", "Terminal settings");
  button.title = "Terminal settings";
  button.setAttribute("popovertarget", "terminal-menu");

  const menu = document.createElement("div");
  menu.id = "terminal-menu";
  menu.className = "menu";
  menu.setAttribute("popover", "auto");
  menu.innerHTML = `
    <div class="row" role="group" aria-label="Text size"><span>Text size</span>
      <button type="button" class="icon smaller" aria-label="Smaller text"></button>
      <output class="size"></output>
      <button type="button" class="icon larger" aria-label="Larger text"></button></div>
    <label class="row"><span>Screen reader mode</span><input type="checkbox" class="reader"></label>
    <hr>
    <button type="button" class="row plain over">Start over…</button>
    <button type="button" class="row plain end">End the session…</button>`;
  const find = <T extends HTMLElement>(s: string) => menu.querySelector<T>(s)!;
  const size = find<HTMLOutputElement>(".size");
  const reader = find<HTMLInputElement>(".reader");
  const draw = () => {
    size.value = String(host.look.fontSize);
    reader.checked = host.look.screenReader;
  };
  const scale = (by: number) => {
    host.look = { ...host.look, fontSize: host.look.fontSize + by };
    draw();
  };
  find(".smaller").addEventListener("click", () => scale(-1));
  find(".larger").addEventListener("click", () => scale(1));
  reader.addEventListener("change", () => {
    host.look = { ...host.look, screenReader: reader.checked };
  });
  find(".over").addEventListener("click", () => {
    menu.hidePopover();
    host.startOver();
  });
  find(".end").addEventListener("click", () => {
    menu.hidePopover();
    host.end();
  });
  menu.addEventListener("beforetoggle", (e) => {
    if ((e as ToggleEvent).newState === "open") {
      draw();
      const at = button.getBoundingClientRect();
      menu.style.top = `${at.bottom + 4}px`;
      menu.style.right = `${Math.max(8, document.documentElement.clientWidth - at.right)}px`;
    }
  });
  bar.append(button);
  document.body.append(menu);
  draw();
  return (open) => {
    find<HTMLButtonElement>(".end").disabled = !open;
  };
}

export interface AddHost {
  terminal(host: number): void;
  port(port: number, host: number): void;
  canPreview(): boolean;
  /** No more terminals can be opened. */
  full(): boolean;
}

/** Puts a button behind the tabs that opens a menu of what can be added. */
export function startAddMenu(tabs: HTMLElement, hosts: number, on: AddHost): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "icon add";
  button.setAttribute("aria-label", "New terminal or preview");
  button.title = "New terminal or preview";
  button.setAttribute("popovertarget", "add-menu");
  button.hidden = true;

  const menu = document.createElement("div");
  menu.id = "add-menu";
  menu.className = "menu";
  menu.setAttribute("popover", "auto");
  const all = Array.from({ length: hosts }, (_, i) => i + 1);
  const terminals = all.map((host) => {
    const b = document.createElement("button");
    b.type = "button";
    b.className = "row plain new-terminal";
    b.textContent = hosts > 1 ? `New terminal on ${hostName(host)}` : "New terminal";
    b.addEventListener("click", () => {
      menu.hidePopover();
      on.terminal(host);
    });
    return b;
  });
  const form = document.createElement("form");
  form.className = "row new-port";
  form.innerHTML = `<label for="new-port">Web page on port</label><input id="new-port" type="text" inputmode="numeric" pattern="[0-9]{1,5}" maxlength="5" placeholder="8080" autocomplete="off" required>`;
  const input = form.querySelector("input")!;
  let host: HTMLSelectElement | null = null;
  if (hosts > 1) {
    host = document.createElement("select");
    host.setAttribute("aria-label", "Machine");
    host.append(...all.map((h) => new Option(hostName(h), String(h))));
    form.append(host);
  }
  const open = document.createElement("button");
  open.className = "button small";
  open.textContent = "Open";
  form.append(open);
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    const port = Number(input.value);
    if (!Number.isInteger(port) || port < 1 || port > 65535) {
      input.setCustomValidity("A port is a number from 1 to 65535.");
      input.reportValidity();
      return;
    }
    menu.hidePopover();
    input.value = "";
    on.port(port, Number(host?.value ?? 1));
  });
  input.addEventListener("input", () => input.setCustomValidity(""));
  menu.append(...terminals, document.createElement("hr"), form);
  menu.addEventListener("beforetoggle", (e) => {
    if ((e as ToggleEvent).newState === "open") {
      terminals.forEach((b) => (b.disabled = on.full()));
      form.hidden = !on.canPreview();
      menu.querySelector("hr")!.hidden = form.hidden;
      const at = button.getBoundingClientRect();
      menu.style.top = `${at.bottom + 4}px`;
      menu.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - 268))}px`;
    }
  });
  menu.addEventListener("toggle", (e) => {
    if ((e as ToggleEvent).newState === "open") {
      terminals[0]!.focus();
    }
  });
  tabs.after(button);
  document.body.append(menu);
  return button;
}
