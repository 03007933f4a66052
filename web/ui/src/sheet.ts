// Sheets: what stands in a tab beside the terminals and is none.

/** Something that stands in a tab and is no terminal. */
export interface Sheet {
  /** Begins with "=", so that no terminal is called the same. */
  readonly name: string;
  readonly tab: HTMLButtonElement;
  readonly panel: HTMLElement;
  /** It came into view. */
  show(): void;
  focus(): void;
  /** It is taken away for good; undefined when it stays. */
  close?: (() => void) | undefined;
}

/** Makes the tab and the panel of a sheet. */
export function sheetParts(name: string, title: string): { tab: HTMLButtonElement; panel: HTMLElement } {
  const id = name.replace(/[^a-z0-9-]+/gi, "-");
  const tab = document.createElement("button");
  tab.type = "button";
  tab.id = `tab${id}`;
  tab.dataset["name"] = name;
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", `panel${id}`);
  tab.setAttribute("aria-selected", "false");
  tab.tabIndex = -1;
  tab.textContent = title;
  const panel = document.createElement("div");
  panel.id = `panel${id}`;
  panel.className = "sheet";
  panel.hidden = true;
  panel.setAttribute("role", "tabpanel");
  panel.setAttribute("aria-labelledby", tab.id);
  return { tab, panel };
}
