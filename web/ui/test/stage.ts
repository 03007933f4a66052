// What component tests stand on: one browser, and for every test a fixture
// server and a page of its own.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { launch, until, watch } from "./browser";
import { Fixture, type PageOptions } from "./fixture";
import type { Terminal } from "./peer";

export class Stage {
  ctx!: BrowserContext;
  page!: Page;
  f!: Fixture;
  base = "";
  term!: Terminal;
  complaints: string[] = [];
  #browser!: Browser;

  constructor() {
    before(async () => {
      this.#browser = await launch();
    });
    after(async () => {
      await this.#browser.close();
    });
    beforeEach(async () => {
      this.f = new Fixture();
      this.base = await this.f.listen();
      this.term = this.f.peer.terminal("1");
      this.term.attached = 0;
      this.ctx = await this.#browser.newContext({ viewport: { width: 1280, height: 800 }, permissions: ["clipboard-read", "clipboard-write"] });
      this.page = await this.ctx.newPage();
      this.complaints = [];
      watch(this.page, this.complaints);
    });
    afterEach(async () => {
      await this.ctx.close();
      this.f.stop();
    });
  }

  /** Opens a lesson with everything in it. */
  async open(o: PageOptions = {}, hash = ""): Promise<void> {
    this.f.enrich(o);
    await this.page.goto(this.base + hash);
    if (!o.cannot) {
      await this.page.waitForSelector(".panel[data-line=open]");
    }
  }

  button(command: string) {
    return this.page.locator(`[data-command="${command}"] button`).first();
  }

  said(text: string): Promise<void> {
    return until(`"${text}" to be said`, async () => ((await this.page.locator("#announcements").textContent()) ?? "").includes(text));
  }

  noticed(text: string): Promise<void> {
    return until(`"${text}" to be shown`, async () => (await this.page.locator(".notice p").allTextContents()).some((n) => n.includes(text)));
  }

  asked(request: string): number {
    return this.f.requests.filter((r) => r === request).length;
  }

  /** Where things are, to see that nothing moves. */
  boxes(selector: string): Promise<string[]> {
    return this.page.evaluate(
      (s) =>
        [...document.querySelectorAll<HTMLElement>(s)]
          .filter((e) => e.offsetParent !== null)
          .map((e) => {
            const b = e.getBoundingClientRect();
            const y = b.y + document.querySelector("article.text")!.scrollTop;
            return [e.tagName, ...[b.x, y, b.width, b.height].map(Math.round)].join(" ");
          }),
      selector,
    );
  }

  /** Every control in view has a name and can be hit, and nothing is wider than its place. */
  async sound(): Promise<void> {
    const bad = await this.page.evaluate(() => {
      const wrong = [...document.querySelectorAll<HTMLElement>("button, [role=tab], [role=treeitem], a.button, a.home, .parts a, input, select, iframe")]
        .filter((e) => e.offsetParent !== null && getComputedStyle(e).visibility === "visible" && e.getAttribute("aria-hidden") !== "true")
        .map((e) => ({
          e,
          box: e.getBoundingClientRect(),
          name: (e.getAttribute("aria-label") ?? ((e as HTMLInputElement).labels?.[0]?.textContent || e.textContent || e.title)).trim(),
        }))
        .filter(({ e, box, name }) => name === "" || (!e.matches("input[type=radio], input[type=checkbox]") && (box.width < 24 || box.height < 24)))
        .map(({ e, box, name }) => `${e.tagName}.${e.className} "${name}" ${box.width}×${box.height}`);
      const wide = ["html", "body", "article.text", "section.terminals", "header.bar", ".terminal-bar"]
        .map((s) => [s, document.querySelector(s)] as const)
        .filter(([, e]) => e && e.scrollWidth > e.clientWidth)
        .map(([s, e]) => `${s} ${e!.scrollWidth} > ${e!.clientWidth}`);
      const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
      return [...wrong, ...wide, ...ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => `id ${id} twice`)];
    });
    assert.deepEqual(bad, []);
  }
}
