// Chromium for tests, with a fresh profile.

import { chromium, type Browser, type Page } from "playwright-core";

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** Fails on what the page complains about: exceptions, refused resources, broken policy. */
export function watch(page: Page, complaints: string[]): void {
  page.on("pageerror", (e) => complaints.push(`exception: ${e.message}`));
  page.on("console", (m) => m.type() === "error" && complaints.push(`console: ${m.text()}`));
}

/** What the terminal in view shows, line by line. */
export function lines(page: Page): Promise<string[]> {
  return page.evaluate(() =>
    [...document.querySelectorAll(".panel:not([hidden]) .xterm-rows > div")].map((d) => (d.textContent ?? "").replaceAll("\u00a0", " ").trimEnd()),
  );
}

export async function until(what: string, ok: () => Promise<boolean> | boolean, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await ok())) {
    if (performance.now() > end) {
      throw new Error(`${what}: not within ${ms} ms`);
    }
    await new Promise((r) => setTimeout(r, 25));
  }
}
