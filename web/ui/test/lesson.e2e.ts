// The container-image lab from end to end, in a browser, against a running
// server: BASE_URL=http://localhost:8080 npm run e2e
// With SCREENSHOTS=DIR it leaves pictures there.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { launch, lines, until, watch } from "./browser";

const base = (process.env["BASE_URL"] ?? "http://localhost:8080").replace(/\/$/, "");
const pictures = process.env["SCREENSHOTS"];
const lab = `${base}/labs/${process.env["LAB"] ?? "container-image"}`;
const commandTime = 180_000; // a pull, an import
const tickTime = 15_000; // after the command's end; the goal of 300 ms is measured elsewhere

let browser: Browser;
let ctx: BrowserContext;
let page: Page;
const complaints: string[] = [];

before(async () => {
  if (pictures) {
    mkdirSync(pictures, { recursive: true });
  }
  browser = await launch();
  ctx = await browser.newContext({ viewport: { width: 1440, height: 900 }, permissions: ["clipboard-read", "clipboard-write"] });
  page = await ctx.newPage();
  watch(page, complaints);
});

after(async () => {
  await browser.close();
});

async function picture(name: string, of = page): Promise<void> {
  if (pictures) {
    await of.screenshot({ path: join(pictures, `${name}.png`) });
  }
}

async function ready(): Promise<void> {
  await page.waitForSelector(".panel:not([hidden])[data-line=open]", { timeout: 90_000 });
  await prompt("the first prompt", 60_000);
}

/** The last line that is not empty ends in a prompt, and stays that way. */
async function prompt(what: string, ms: number): Promise<void> {
  let since = 0;
  let last = "";
  await until(
    what,
    async () => {
      const text = (await lines(page)).filter((l) => l !== "");
      const now = text.join("\n");
      if (!/[$#]$/.test(text.at(-1) ?? "") || now !== last) {
        last = now;
        since = performance.now();
        return false;
      }
      return performance.now() - since > 250;
    },
    ms,
  );
}

const done = () => page.locator("section.step[data-done=true]").count();

/** Where the step after this one begins, in the text. */
const next = (step: string) =>
  page.evaluate((id) => {
    const text = document.querySelector("article.text")!;
    const after = document.getElementById(id)!.nextElementSibling!;
    return Math.round(after.getBoundingClientRect().top + text.scrollTop);
  }, step);

describe("the lab, from end to end", { concurrency: 1 }, () => {
  test("the list of labs leads to it", async () => {
    await page.goto(base);
    await picture("01-home");
    await page.locator(`a[href="${new URL(lab).pathname}"]`).first().click();
    await page.waitForURL(lab);
    await ready();
    assert.equal(await page.locator(".connection").getAttribute("data-state"), "good");
    await picture("02-ready");
  });

  test("every step is ticked by its own commands, and nothing moves", async (t) => {
    const steps = await page.locator("section.step").evaluateAll((l) =>
      l.map((e) => ({ id: e.id, counts: (e as HTMLElement).dataset["done"] !== undefined })),
    );
    assert.ok(steps.length > 0);
    for (const [i, s] of steps.entries()) {
      const section = page.locator(`section.step[id="${s.id}"]`);
      await section.scrollIntoViewIfNeeded();
      const at = await next(s.id);
      const buttons = section.locator(".run-button");
      const n = await buttons.count();
      for (let k = 0; k < n; k++) {
        const b = buttons.nth(k);
        if (!(await b.isVisible()) || (await b.isDisabled())) {
          continue; // inside closed details, or once only
        }
        await b.scrollIntoViewIfNeeded();
        const scroll = await page.locator("article.text").evaluate((e) => e.scrollTop);
        const before = (await lines(page)).join("\n");
        await b.click();
        await until("the command to be typed", async () => (await lines(page)).join("\n") !== before, 10_000);
        await prompt(`command ${k + 1} of step ${s.id}`, commandTime);
        assert.equal(await page.locator("article.text").evaluate((e) => e.scrollTop), scroll, "the text keeps its place");
      }
      if (s.counts) {
        const started = performance.now();
        await until(`the ticks of step ${s.id}`, async () => (await section.getAttribute("data-done")) === "true", tickTime);
        t.diagnostic(`${s.id}: ticked ${Math.round(performance.now() - started)} ms after the last prompt was seen`);
      }
      assert.equal(await next(s.id), at, `the step after ${s.id} has moved`);
      if (i === Math.floor(steps.length / 2)) {
        await picture("03-half");
        await comesBack();
      }
    }
    await picture("04-done");
  });

  // A reload in the middle: ticks, scrollback and shell are where they were.
  async function comesBack(): Promise<void> {
    const ticks = await done();
    const text = (await lines(page)).filter((l) => l !== "");
    await page.reload();
    await ready();
    await until("ticks", async () => (await done()) === ticks);
    const again = (await lines(page)).filter((l) => l !== "");
    assert.equal(again.at(-1), text.at(-1), "the shell is where it was");
    assert.ok(again.includes(text.at(-2) ?? ""), "scrollback is there");
  }

  test("a second page of the same learner shows the same shell", async () => {
    const other = await ctx.newPage();
    await other.goto(lab);
    await other.waitForSelector(".panel:not([hidden])[data-line=open]", { timeout: 30_000 });
    const mark = `echo both-${Math.floor(Math.random() * 1e6)}`;
    await page.bringToFront();
    await page.locator(".xterm-screen").first().click();
    await page.keyboard.type(`${mark}\n`);
    await other.bringToFront(); // a page that nobody sees does not draw
    await until("the same output", async () => (await lines(other)).some((l) => l === mark.slice(5)), 20_000);
    await other.close();
    await page.bringToFront();
  });

  test("a second terminal", async () => {
    await page.locator("button.add").click();
    await page.locator("#add-menu .new-terminal").click();
    await page.waitForSelector("#panel-2[data-line=open]", { timeout: 20_000 });
    await prompt("its prompt", 20_000);
    await page.keyboard.type("tty\n");
    await until("a tty", async () => (await lines(page)).some((l) => l.startsWith("/dev/pts/")));
    await page.locator("#tab-1").click();
  });

  test("resizing reaches the shell, and Ctrl-C ends a flood", async () => {
    await page.setViewportSize({ width: 1200, height: 700 });
    await page.waitForTimeout(400);
    await page.locator(".xterm-screen").first().click();
    await page.keyboard.type("clear; echo size $(stty size)\n");
    await until("the size", async () => (await lines(page)).some((l) => /^size \d+ \d+$/.test(l)));
    const size = (await lines(page)).find((l) => /^size \d+ \d+$/.test(l))!.split(" ");
    assert.equal(Number(size[1]), (await lines(page)).length, "rows");
    await page.keyboard.type("yes\n");
    await until("a flood", async () => (await lines(page)).filter((l) => l === "y").length > 10);
    await page.keyboard.press("Control+C");
    await prompt("a prompt after Ctrl-C", 10_000);
    await page.setViewportSize({ width: 1440, height: 900 });
  });

  test("copy and paste", async () => {
    await page.locator(".copy-button").first().click();
    const text = await page.evaluate(() => navigator.clipboard.readText());
    assert.ok(text.length > 0);
    await page.evaluate(() => navigator.clipboard.writeText("echo pasted-$((40+2))"));
    await page.locator(".xterm-screen").first().click();
    await page.keyboard.press("Control+Shift+V");
    await page.keyboard.press("Enter");
    await until("what was pasted", async () => (await lines(page)).includes("pasted-42"));
  });

  test("by keyboard alone: into the text, run a command, out of the terminal", async () => {
    const run = page.locator(".run-button:not(:disabled)").first();
    await run.focus();
    await page.keyboard.press("Enter");
    await until("focus", async () => (await page.evaluate(() => document.activeElement?.className)) === "xterm-helper-textarea");
    await prompt("the command's end", commandTime);
    await page.keyboard.press("F6");
    assert.ok(await page.evaluate(() => document.querySelector("article.text")!.contains(document.activeElement)));
    await page.keyboard.press("F6");
    assert.equal(await page.evaluate(() => document.activeElement?.className), "xterm-helper-textarea");
  });

  test("the editor and the shell see the same files, and neither overwrites the other in silence", async () => {
    const line = (text: string) => async () => (await lines(page)).some((l) => l === text);
    const type = async (text: string) => {
      await page.locator("#tab-1").click();
      await page.locator(".xterm-screen").first().click();
      await page.keyboard.type(`${text}\n`);
    };
    await page.locator("#tab-files").click();
    await page.waitForSelector(".tree-row");
    await page.locator(".new-file-button").click();
    await page.locator(".new-file input").fill("~/from-the-editor.sh");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".cm-content");
    await page.keyboard.type("echo typed-$((40+2))");
    await until("saved", async () => (await page.locator(".editor-said").textContent()) === "Saved");
    await picture("07-editor");
    await type("clear; bash ~/from-the-editor.sh");
    await until("its output", line("typed-42"));
    await type("echo 'echo from the shell' > ~/from-the-editor.sh; echo written-$((1+1))");
    await until("written", line("written-2"));
    await page.waitForTimeout(1100); // the editor does not look more than once in a second
    await page.locator("#tab-files").click();
    await until("the shell's text", async () => (await page.locator(".cm-content").textContent())?.includes("from the shell") === true);
    await type("echo 'echo once more' > ~/from-the-editor.sh; echo written-$((2+2))");
    await until("written", line("written-4"));
    await page.locator("#tab-files").click();
    await page.locator(".cm-content").click();
    await page.keyboard.type("# mine\n");
    await page.keyboard.press("Control+s");
    await until("saved, or asked", async () => /Saved|Not saved/.test((await page.locator(".editor-said").textContent()) ?? ""));
    await page.locator("#tab-1").click();
  });

  for (const scheme of ["light", "dark"] as const) {
    for (const [width, height] of [[1440, 900], [1024, 768], [390, 844]] as const) {
      test(`${scheme}, ${width}×${height}: nothing is cut off`, async () => {
        await page.emulateMedia({ colorScheme: scheme });
        await page.setViewportSize({ width, height });
        await page.waitForTimeout(300);
        const over = await page.evaluate(() =>
          ["html", "body", "article.text", "header.bar", "section.terminals"]
            .map((s) => [s, document.querySelector(s)!] as const)
            .filter(([, e]) => e.scrollWidth > e.clientWidth)
            .map(([s, e]) => `${s} ${e.scrollWidth} > ${e.clientWidth}`),
        );
        assert.deepEqual(over, []);
        await picture(`10-lesson-${scheme}-${width}`);
        const tab = await ctx.newPage();
        await tab.emulateMedia({ colorScheme: scheme });
        await tab.setViewportSize({ width, height });
        await tab.goto(base);
        assert.ok(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
        await picture(`11-home-${scheme}-${width}`, tab);
        await tab.close();
      });
    }
  }

  test("the theme is chosen and kept", async () => {
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.locator("button.theme").click();
    await page.locator("button.theme").click();
    await page.reload();
    assert.equal(await page.evaluate(() => document.documentElement.dataset["theme"]), "dark");
    await ready();
    await page.locator("button.theme").click();
  });

  test("the finish page sums up", async () => {
    await page.waitForSelector(".finish.all-done");
    await page.locator(".finish-link").click();
    await page.waitForURL(/\/finish$/);
    assert.equal(await page.locator(".recap-step:has(.tick):not(.done)").count(), 0);
    await picture("05-finish");
  });

  test("the page can be read without scripts, and starts nothing then", async () => {
    const plain = await browser.newContext({ javaScriptEnabled: false });
    const p = await plain.newPage();
    await p.goto(lab);
    assert.ok((await p.locator("section.step").count()) > 0);
    assert.deepEqual(await plain.cookies(), []);
    await picture("06-without-scripts", p);
    await plain.close();
  });

  test("the whole page weighs less than 250 kB over the wire", async (t) => {
    const fresh = await browser.newContext();
    const p = await fresh.newPage();
    const client = await fresh.newCDPSession(p);
    await client.send("Network.enable");
    let bytes = 0;
    client.on("Network.loadingFinished", (e) => (bytes += e.encodedDataLength));
    await p.goto(lab, { waitUntil: "load" });
    await p.waitForTimeout(500);
    t.diagnostic(`${Math.round(bytes / 1000)} kB`);
    assert.ok(bytes < 250_000, `${bytes} bytes`);
    await fresh.close();
  });

  test("no page complained", () => {
    // That a file changed meanwhile is told by a status, which a browser notes.
    assert.deepEqual(complaints.filter((c) => !c.includes("409 (Conflict)")), []);
  });
});
