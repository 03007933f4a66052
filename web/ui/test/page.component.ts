// The lesson page in a real browser, against a server in memory whose
// terminals are protocol peers.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { launch, lines, until, watch } from "./browser";
import { Fixture } from "./fixture";
import type { Terminal } from "./peer";

let browser: Browser;
let ctx: BrowserContext;
let page: Page;
let f: Fixture;
let base: string;
let term: Terminal;
let complaints: string[];

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser.close();
});

beforeEach(async () => {
  f = new Fixture();
  base = await f.listen();
  term = f.peer.terminal("1");
  term.attached = 0;
  ctx = await browser.newContext({ viewport: { width: 1280, height: 800 }, permissions: ["clipboard-read", "clipboard-write"] });
  page = await ctx.newPage();
  complaints = [];
  watch(page, complaints);
});

afterEach(async () => {
  await ctx.close();
  f.stop();
});

async function open(): Promise<void> {
  await page.goto(base);
  await page.waitForSelector(".panel:not([hidden])[data-line=open]");
}

const typed = () => Buffer.from(term.typed).toString();
const button = (command: string) => page.locator(`[data-command="${command}"] .run-button`);
const announced = () => page.locator("#announcements").textContent();
const notices = () => page.locator(".notice p").allTextContents();
const said = (what: string, text: string) => until(what, async () => (await announced())?.includes(text) === true);

describe("the lesson page", () => {
  test("comes to life within its policy and without a complaint", async () => {
    term.print("$ ");
    await open();
    await until("a prompt", async () => (await lines(page))[0] === "$");
    assert.equal(await page.locator(".connection").getAttribute("data-state"), "good");
    assert.equal(await page.locator("article .tools button:disabled, .help button:disabled").count(), 0);
    assert.deepEqual(complaints, []);
    assert.ok(f.requests.includes("POST /api/labs/fixture/session"));
  });

  test("every control has a name and is 24 pixels high and wide at least", async () => {
    await open();
    const bad = await page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement>("button, [role=tab], a.button, a.home, [role=separator], input")]
        .filter((e) => e.offsetParent !== null && getComputedStyle(e).visibility === "visible")
        .map((e) => ({ e, box: e.getBoundingClientRect(), name: (e.getAttribute("aria-label") ?? e.textContent ?? "").trim() }))
        .filter(({ e, box, name }) => name === "" || (e.getAttribute("role") !== "separator" && (box.width < 24 || box.height < 24)))
        .map(({ e, box, name }) => `${e.className} "${name}" ${box.width}×${box.height}`),
    );
    assert.deepEqual(bad, []);
  });

  for (const [width, height] of [[1440, 900], [1024, 768], [390, 844]] as const) {
    test(`fits ${width}×${height}`, async () => {
      await page.setViewportSize({ width, height });
      term.print("$ ");
      await open();
      const over = await page.evaluate(() =>
        ["html", "body", "article.text", "section.terminals", "header.bar"]
          .map((s) => [s, document.querySelector(s)!] as const)
          .filter(([, e]) => e.scrollWidth > e.clientWidth)
          .map(([s]) => s),
      );
      assert.deepEqual(over, []);
      const box = await page.locator(".screen").boundingBox();
      assert.ok(box && box.height > 200 && box.y + box.height <= height);
    });
  }
});

describe("click to run", () => {
  test("types the line, focuses the terminal and leaves the text where it is", async () => {
    await page.setViewportSize({ width: 1280, height: 420 });
    await open();
    await page.locator("article.text").evaluate((e) => (e.scrollTop = 60));
    await button("one/1").click();
    await until("the command", () => term.ran.length === 1);
    assert.deepEqual(term.ran, ["echo one\r"]);
    assert.equal(await page.locator("article.text").evaluate((e) => e.scrollTop), 60);
    assert.equal(await page.evaluate(() => document.activeElement?.className), "xterm-helper-textarea");
    await said("sent", "Sent to the terminal.");
  });

  test("pastes several lines as one where the shell allows it", async () => {
    await open();
    await button("one/2").click();
    await until("the command", () => term.ran.length === 1);
    term.print("\x1b[?2004h$ ");
    await until("a prompt", async () => (await lines(page))[0]?.includes("$") === true);
    await page.waitForTimeout(450); // longer than a double click
    await button("one/2").click();
    await until("the command", () => term.ran.length === 2);
    assert.deepEqual(term.ran, ["for i in 1 2\rdo echo $i\rdone\r", "\x1b[200~for i in 1 2\rdo echo $i\rdone\x1b[201~\r"]);
  });

  test("opens the terminal that the block names", async () => {
    await open();
    const second = f.peer.terminal("2");
    second.print("$ ");
    await button("one/3").click();
    await until("the command", () => second.ran.length === 1);
    assert.deepEqual([term.ran, second.ran], [[], ["echo other\r"]]);
    assert.equal(await page.locator("[role=tab][aria-selected=true]").textContent(), "Terminal 2");
  });

  test("interrupts first when the block says so, and runs once what is to run once", async () => {
    await open();
    await button("two/1").click();
    await until("the command", () => term.ran.length === 2);
    assert.deepEqual(term.ran, ["\x03", "echo two\r"]);
    await button("two/2").click();
    await until("the command", () => term.ran.length === 3);
    await until("spent", () => button("two/2").isDisabled());
  });

  test("a double click is one click, and each click has its own id", async () => {
    await open();
    await button("one/1").dblclick();
    await page.waitForTimeout(500);
    await button("one/1").click();
    await until("the commands", () => term.ran.length === 2);
    assert.equal(new Set(term.ids).size, 2);
  });

  test("runs nothing while there is no connection, and says so", async () => {
    await open();
    f.peer.down = true;
    f.peer.drop();
    await page.waitForSelector(".panel[data-line=waiting], .panel[data-line=connecting]");
    await button("one/1").click();
    await until("a notice", async () => (await notices()).some((n) => n.includes("nothing was run")));
    f.peer.down = false;
    await page.waitForSelector(".panel[data-line=open]", { timeout: 15_000 });
    await page.waitForTimeout(200);
    assert.deepEqual(term.ran, []);
  });

  test("copies", async () => {
    await open();
    await page.locator('[data-command="one/2"] .copy-button').click();
    await said("copied", "Copied.");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "for i in 1 2\ndo echo $i\ndone");
  });
});

describe("the terminal", () => {
  test("draws every line once and in order through breaks under output", async () => {
    await open();
    await page.keyboard.press("F6");
    let n = 0;
    const timer = setInterval(() => {
      for (let i = 0; i < 40; i++) {
        term.print(`${String(n++).padStart(6, "0")} größe 試験\r\n`);
      }
    }, 5);
    for (let i = 0; i < 5; i++) {
      await page.waitForTimeout(100);
      const before = term.attached;
      f.peer.drop();
      await until("a connection", () => term.attached > before, 20_000);
    }
    clearInterval(timer);
    term.print("end\r\n");
    await until("the end", async () => (await lines(page)).includes("end"), 20_000);
    const seen = new Set<number>();
    // Through the scrollback, from the end.
    for (let i = 0; i < 8; i++) {
      const rows = (await lines(page)).filter((l) => /^\d{6} /.test(l));
      const numbers = rows.map((l) => Number(l.slice(0, 6)));
      assert.ok(rows.every((l) => l.endsWith(" größe 試験")), rows.join("\n"));
      numbers.forEach((x, k) => assert.equal(x, numbers[0]! + k));
      numbers.forEach((x) => seen.add(x));
      await page.keyboard.press("Shift+PageUp");
      await page.waitForTimeout(100);
    }
    const all = [...seen].sort((a, b) => a - b);
    assert.equal(all.at(-1), n - 1);
    assert.ok(all.length > 50);
    all.forEach((x, k) => assert.equal(x, all[0]! + k));
  });

  test("acknowledges what it has drawn, so that a flood stays within the window", async () => {
    await open();
    const line = `${"x".repeat(78)}\r\n`;
    for (let i = 0; i < 8; i++) {
      term.print(line.repeat(6000)); // 480 kB
      const end = term.end;
      await until("acknowledged", () => [...term.viewers].every((v) => v.acked === end), 30_000);
    }
    assert.ok(term.widest <= term.window);
    term.print("end\r\n");
    await until("the end", async () => (await lines(page)).includes("end"));
  });

  test("keys go to the shell in order; nothing goes into a dead line, and the page says so", async () => {
    await open();
    await page.keyboard.press("F6");
    await page.keyboard.type("echo größe 試験");
    await page.keyboard.press("Enter");
    await until("typed", () => typed() === "echo größe 試験\r");
    f.peer.down = true;
    f.peer.drop();
    await page.waitForSelector(".panel[data-line=waiting], .panel[data-line=connecting]");
    await page.keyboard.type("lost");
    await until("a notice", async () => (await notices()).some((n) => n.includes("not sent")));
    assert.equal((await notices()).filter((n) => n.includes("not sent")).length, 1);
    await until("the status", async () => (await page.locator(".terminals .status").textContent())?.includes("not sent") === true);
    await until("the bar", async () => (await page.locator(".connection").getAttribute("data-state")) === "broken");
    f.peer.down = false;
    await page.waitForSelector(".panel[data-line=open]", { timeout: 15_000 });
    await page.keyboard.type("x");
    await until("typed", () => typed().endsWith("x"));
    assert.equal(typed(), "echo größe 試験\rx");
    await until("good again", async () => (await page.locator(".connection").getAttribute("data-state")) === "good");
  });

  test("after a reload the scrollback is there and old questions are not answered again", async () => {
    await open();
    await page.waitForTimeout(400); // what comes at once could be old
    term.print("first line\r\n\x1b[6n\x1b[c\x1b]11;?\x07");
    await until("answers", () => /\x1b\[2;1R\x1b\[\?1;2c\x1b\]11;rgb:/.test(typed()));
    await page.waitForTimeout(700); // the page remembers how far it has drawn
    term.typed = [];
    await page.reload();
    await page.waitForSelector(".panel[data-line=open]");
    await until("scrollback", async () => (await lines(page))[0] === "first line");
    await page.waitForTimeout(400);
    assert.equal(typed(), "");
    term.print("\x1b[6n");
    await until("a new answer", () => typed().length > 0);
    assert.equal(typed(), "\x1b[2;1R");
  });

  test("says when output was lost, and when the shell is another", async () => {
    await open();
    term.print("old\r\n");
    await until("old", async () => (await lines(page))[0] === "old");
    term.reborn();
    term.print("n\r\n");
    f.peer.drop();
    await until("new", async () => (await lines(page)).includes("n"));
    const l = await lines(page);
    assert.ok(!l.includes("old") && l.some((x) => x.includes("A new shell")), l.join("\n"));
  });

  test("F6 leads out and in again, and the shell does not see it", async () => {
    await open();
    await page.locator('[data-command="two/1"] .copy-button').focus();
    await page.keyboard.press("F6");
    assert.equal(await page.evaluate(() => document.activeElement?.className), "xterm-helper-textarea");
    assert.match((await page.locator("#terminal-help").textContent()) ?? "", /F6/);
    assert.equal(await page.locator(".xterm-helper-textarea").getAttribute("aria-describedby"), "terminal-help");
    await page.keyboard.press("Tab");
    await page.keyboard.press("F6");
    assert.equal(await page.evaluate(() => document.activeElement?.className), "copy-button");
    await page.waitForTimeout(100);
    assert.equal(typed(), "\t");
  });

  test("Ctrl-Shift-C copies the selection, Ctrl-Shift-V pastes, Ctrl-C interrupts", async () => {
    term.print("\x1b[?2004hwords to copy\r\n");
    await open();
    await until("output", async () => (await lines(page))[0] === "words to copy");
    const row = (await page.locator(".xterm-rows > div").first().boundingBox())!;
    await page.mouse.dblclick(row.x + 20, row.y + row.height / 2);
    await page.keyboard.press("Control+Shift+C");
    await until("copied", async () => (await page.evaluate(() => navigator.clipboard.readText())) === "words");
    assert.equal(typed(), "");
    await page.evaluate(() => navigator.clipboard.writeText("a\nb"));
    await page.keyboard.press("Control+Shift+V");
    await until("pasted", () => typed() === "\x1b[200~a\rb\x1b[201~");
    await page.keyboard.press("Control+C");
    await until("interrupted", () => typed().endsWith("\x03"));
  });

  test("refuses to paste more than a terminal should take", async () => {
    await open();
    await page.keyboard.press("F6");
    await page.evaluate(() => {
      const d = new DataTransfer();
      d.setData("text/plain", "x".repeat(10 << 20));
      document.activeElement!.dispatchEvent(new ClipboardEvent("paste", { clipboardData: d, bubbles: true, cancelable: true }));
    });
    await until("a notice", async () => (await notices()).some((n) => n.includes("too much to paste")));
    await page.waitForTimeout(100);
    assert.equal(typed(), "");
  });

  test("the right mouse button keeps the browser's menu", async () => {
    await open();
    await page.evaluate(() => {
      document.addEventListener("contextmenu", (e) => (document.title = String(e.defaultPrevented)));
    });
    await page.locator(".xterm-screen").click({ button: "right" });
    await until("a menu", async () => (await page.title()) === "false");
  });

  test("several terminals, by mouse and by keyboard, remembered", async () => {
    await open();
    await page.locator("button.add").click();
    await page.locator("#add-menu .new-terminal").click();
    await page.waitForSelector("#panel-2[data-line=open]");
    f.peer.terminal("2").print("two\r\n");
    await until("output", async () => (await lines(page))[0] === "two");
    await page.waitForTimeout(400); // from then on, what comes is news
    await page.locator("#tab-2").focus();
    await page.keyboard.press("ArrowLeft");
    assert.equal(await page.locator("#tab-1").getAttribute("aria-selected"), "true");
    f.peer.terminal("2").print("more\r\n");
    await page.waitForSelector("#tab-2[data-unread=true]");
    await page.keyboard.press("ArrowRight");
    await until("read", async () => (await page.locator("#tab-2").getAttribute("data-unread")) === null);
    await page.reload();
    await page.waitForSelector("#panel-2:not([hidden])[data-line=open]");
    await until("output", async () => (await lines(page))[1] === "more");
  });

  test("follows its room, and the size another viewer wished for", async () => {
    await open();
    await until("a size", () => term.size.cols > 40);
    const wide = term.size.cols;
    await page.setViewportSize({ width: 1000, height: 700 });
    await until("narrower", () => term.size.cols < wide);
    await page.waitForTimeout(1200); // what comes now is no answer to our own wish
    term.viewers.forEach((v) => v.send({ kind: "resize", size: { rows: 7, cols: 33 } }));
    await until("rows", async () => (await lines(page)).length === 7);
    await page.waitForTimeout(200);
    assert.notEqual(term.size.cols, 33); // it is not sent back
  });

  test("text size and screen reader mode are remembered", async () => {
    term.print("hello\r\n");
    await open();
    await page.locator(".menu-button").click();
    await page.locator(".menu .larger").click();
    await page.locator(".menu .reader").check();
    await page.keyboard.press("Escape");
    await page.waitForSelector(".xterm-accessibility");
    await page.reload();
    await page.waitForSelector(".xterm-accessibility");
    assert.equal(await page.locator(".menu .size").textContent(), "15");
  });

  test("the server's word that a session is no more ends the line", async () => {
    await open();
    f.state = f.fresh("ready");
    f.peer.closeAll(4404);
    await page.waitForSelector(".phase[data-kind=ended]");
    await page.locator(".phase .button").click();
    await page.waitForSelector(".panel[data-line=open]");
  });
});

describe("checks", () => {
  const boxes = () =>
    page.evaluate(() =>
      [...document.querySelectorAll("section.step, section.step h2, .check, .help, .finish, .bar > *")].map((e) => {
        const b = e.getBoundingClientRect();
        return [b.x, b.y, b.width, b.height].map(Math.round).join(" ");
      }),
    );

  test("nothing moves when ticks, reasons and refusals appear", async () => {
    await open();
    await button("one/1").click();
    await page.waitForTimeout(1700);
    const before = await boxes();
    const steps: (() => void)[] = [
      () => f.result("one/1", "failed", { expected: "a thing", seen: "a very long sentence that goes on and on, ".repeat(8) }),
      () => f.result("one/2", "unknown", { reason: "the engine did not answer" }),
      () => f.result("one/1", "passed"),
      () => f.result("one/2", "passed"),
      () => f.result("one/1", "failed", { seen: "nothing" }),
      () => f.result("two/1", "passed"),
    ];
    for (const s of steps) {
      s();
      await page.waitForTimeout(80);
      assert.deepEqual(await boxes(), before);
    }
    assert.equal(await page.locator(".progress").getAttribute("aria-valuenow"), "2");
    await page.waitForSelector(".finish.all-done");
  });

  test("are quiet until the learner acted, and then say what was expected and seen", async () => {
    await open();
    f.result("one/1", "failed", { expected: "an image", seen: "none" });
    f.result("two/1", "failed", { expected: "an image", seen: "none" });
    const li = page.locator('[data-check="one/1"]');
    await page.waitForTimeout(150);
    assert.equal(await li.getAttribute("data-status"), "pending");
    await button("one/1").click();
    await until("failed", async () => (await li.getAttribute("data-status")) === "failed");
    assert.equal(await page.locator('[data-check="two/1"]').getAttribute("data-status"), "pending");
    await li.locator(".why").click();
    assert.equal(await li.locator(".why").getAttribute("aria-expanded"), "true");
    assert.match((await li.locator(".why-text").textContent()) ?? "", /Expected.*An image.*Seen.*None/i);
  });

  test("the Check button asks now", async () => {
    await open();
    f.state.checks!["two/1"] = { passed: true, now: { check: "two/1", status: "passed", at: "" } };
    await page.locator("#two .check-button").click();
    await page.waitForSelector('[data-check="two/1"][data-status=passed]');
    await said("a count", "All checks of this step hold.");
    await page.locator("#one .check-button").click();
    await page.waitForSelector('[data-check="one/1"][data-status=failed]');
    await said("a count", "0 of 2 checks hold.");
  });

  test("tell a screen reader of a tick once, and not of old ones", async () => {
    f.result("two/1", "passed");
    await open();
    await page.waitForTimeout(300);
    assert.doesNotMatch((await announced().catch(() => "")) ?? "", /the third/);
    f.result("one/1", "passed");
    await said("a tick", "Done: the first.");
    f.result("one/2", "passed");
    await said("a step", "Step done: Step one.");
    f.result("one/2", "failed", { seen: "nothing" });
    f.result("one/2", "passed");
    await page.waitForTimeout(300);
    assert.match((await announced()) ?? "", /Step done/);
  });

  test("hints come one after the other, the solution's commands run", async () => {
    await open();
    const hint = page.locator("#one .hint-button");
    await hint.click();
    await until("a hint", async () => (await hint.textContent()) === "Another hint");
    await hint.click();
    await until("no more", async () => (await hint.textContent()) === "No more hints");
    assert.deepEqual(await page.locator("#one .help-item").allTextContents(), ["Hint 1hint 1", "Hint 2hint 2"]);
    await page.locator("#one .solution-button").click();
    await button("one/s1").click();
    await until("ran", () => term.ran.includes("echo solved\r"));
  });

  test("events that were missed are caught up with", async () => {
    await open();
    f.state.checks!["one/1"] = { passed: true, now: { check: "one/1", status: "passed", at: "" } };
    f.cut();
    await page.waitForSelector('[data-check="one/1"][data-status=passed]');
  });
});

describe("the session", () => {
  test("waiting, starting, ready, failed, ended: each is shown, and leads on", async () => {
    f.state = f.fresh("waiting");
    f.state.ahead = 3;
    await page.goto(base);
    await page.waitForSelector(".phase[data-kind=waiting]");
    assert.match((await page.locator(".phase").textContent()) ?? "", /3 ahead of you/);
    assert.ok(await button("one/1").isDisabled());
    f.set({ ahead: 0 });
    await until("next", async () => (await page.locator(".phase").textContent())?.includes("You are next") === true);
    f.set({ phase: "starting" });
    await page.waitForSelector(".phase[data-kind=starting]");
    f.set({ phase: "ready" });
    await page.waitForSelector(".panel[data-line=open]");
    assert.ok(await page.locator(".phase").isHidden());
    f.set({ phase: "ended", reason: "Nobody was here for an hour." });
    await page.waitForSelector(".phase[data-kind=ended]");
    assert.match((await page.locator(".phase").textContent()) ?? "", /Nobody was here for an hour\. Your progress is kept\./);
    assert.ok(await button("one/1").isDisabled());
    await page.locator(".phase .button").click();
    await page.waitForSelector(".panel[data-line=open]");
    f.set({ phase: "failed", reason: "No room on the disk." });
    await page.waitForSelector(".phase[data-kind=failed]");
    assert.match((await page.locator(".phase").textContent()) ?? "", /No room on the disk/);
    await page.locator(".phase .button").click();
    await page.waitForSelector(".panel[data-line=open]");
    assert.deepEqual(complaints, []);
  });

  test("starting over asks first", async () => {
    await open();
    const id = f.state.session;
    const over = async () => {
      await page.locator(".menu-button").click();
      await page.locator(".menu .over").click();
    };
    await over();
    await page.waitForSelector("dialog[open]");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog", { state: "detached" });
    assert.equal(f.state.session, id);
    await over();
    await page.locator("dialog .danger").click();
    await until("a new session", () => f.state.session !== id);
    await page.waitForSelector(".panel[data-line=open]");
  });

  test("time left, and more of it when little is left", async () => {
    await open();
    assert.match((await page.locator(".time").textContent()) ?? "", /(59 min|1 h) left/);
    assert.equal(await page.locator(".extend").isVisible(), false);
    f.set({ expires: new Date(Date.now() + 9 * 60_000).toISOString() });
    await page.locator(".extend").waitFor({ state: "visible" });
    await said("a warning", "left in this session");
    await page.locator(".extend").click();
    await until("extended", () => f.requests.some((r) => r.endsWith("/extend")));
    await page.locator(".extend").waitFor({ state: "hidden" });
  });

  test("a limit is told in words, once", async () => {
    await open();
    f.notice("disk", "Your disk is full.");
    f.notice("disk", "Your disk is full.");
    await until("a notice", async () => (await notices()).length > 0);
    await page.waitForTimeout(100);
    assert.deepEqual(await notices(), ["Your disk is full."]);
    await page.locator(".notice .shut").click();
    assert.deepEqual(await notices(), []);
  });
});

describe("looks", () => {
  test("colours: as the system, light, dark; the terminal follows", async () => {
    await page.emulateMedia({ colorScheme: "light" });
    await open();
    const colour = () => page.evaluate(() => getComputedStyle(document.querySelector(".xterm-rows")!).color);
    const choice = page.locator("button.theme");
    const first = await colour();
    await page.emulateMedia({ colorScheme: "dark" });
    await until("dark", async () => (await colour()) !== first);
    await choice.click();
    assert.equal(await page.evaluate(() => document.documentElement.dataset["theme"]), "light");
    await until("light", async () => (await colour()) === first);
    await choice.click();
    const cookies = await ctx.cookies();
    assert.equal(cookies.find((c) => c.name === "theme")?.value, "dark");
    await choice.click();
    assert.equal((await ctx.cookies()).find((c) => c.name === "theme"), undefined);
  });

  test("the divider moves by keyboard and by pointer, and is remembered", async () => {
    await open();
    const divider = page.locator(".divider");
    await divider.focus();
    await page.keyboard.press("ArrowRight");
    assert.equal(await divider.getAttribute("aria-valuenow"), "48");
    const b = (await divider.boundingBox())!;
    await page.mouse.move(b.x + 4, b.y + 300);
    await page.mouse.down();
    await page.mouse.move(b.x + 4 - 128, b.y + 300, { steps: 4 });
    await page.mouse.up();
    assert.equal(await divider.getAttribute("aria-valuenow"), "38");
    await page.reload();
    await page.waitForSelector(".panel[data-line=open]");
    assert.equal(await divider.getAttribute("aria-valuenow"), "38");
    await page.setViewportSize({ width: 600, height: 900 });
    await until("horizontal", async () => (await divider.getAttribute("aria-orientation")) === "horizontal");
  });
});
