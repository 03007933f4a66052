// The terminal's menu: text size, screen reader mode, starting over.

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
