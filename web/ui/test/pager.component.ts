// Paged lessons and watch mode, in a real browser.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { until } from "./browser";
import { Stage } from "./stage";

const s = new Stage();
const intro = "<p>What this is about.</p>";
const next = () => s.page.locator(".next-button");
const word = () => s.page.locator(".next-button > span:not(.kept)").textContent();
const part = () => s.page.evaluate(() => document.body.dataset["page"]);
const arrivals = () => s.f.requests.filter((r) => r.includes("/arrivals/")).map((r) => r.replace(/.*arrivals\//, ""));

describe("a paged lesson", () => {
  test("shows one part at a time, and tells the server where the learner is", async () => {
    await s.open({ paged: true, intro });
    assert.equal(await part(), "intro");
    assert.equal(await s.page.locator(".step:visible").count(), 0);
    assert.equal(await word(), "Start");
    await s.sound();
    await next().click();
    await until("step one", async () => (await part()) === "one");
    assert.equal(await s.page.locator(".step:visible").count(), 1);
    assert.equal(await s.page.evaluate(() => document.activeElement?.id), "one-title");
    await s.said("Step 1 of 3: Run commands in a line of text");
    await until("arrivals", () => arrivals().length === 2);
    await s.page.locator(".back-button").click();
    await until("back", async () => (await part()) === "intro");
    await next().click();
    assert.deepEqual(arrivals(), ["intro", "one"]); // once each
    await s.sound();
    assert.deepEqual(s.complaints, []);
  });

  test("Next looks, says what is missing without a jump, and goes on when asked again", async () => {
    await s.open({ paged: true, intro }, "#one");
    const before = await s.boxes(".pager, .pager button, #one > *");
    await next().click();
    await until("asked", async () => (await word()) === "Go on anyway");
    assert.equal(await part(), "one");
    assert.equal(await s.page.locator(".pager-said").textContent(), "Not done yet: nginx answers, and 1 more");
    assert.equal(s.f.requests.filter((r) => r.includes("/checks/one/1")).length, 1);
    assert.deepEqual(await s.boxes(".pager, .pager button, #one > *"), before);
    await next().click();
    await until("on", async () => (await part()) === "two");
  });

  test("Next goes on at once when the checks hold by now", async () => {
    await s.open({ paged: true, intro }, "#one");
    s.f.state.checks!["one/1"] = { passed: true, now: { check: "one/1", status: "passed", at: "" } };
    s.f.result("one/2", "passed");
    s.f.state.steps!["one"] = { done: false };
    await next().click();
    await until("on", async () => (await part()) === "two");
  });

  test("ticks stand in the list of parts", async () => {
    await s.open({ paged: true, intro });
    const link = s.page.locator('.parts a[href="#one"]');
    assert.equal(await link.getAttribute("aria-label"), "1: Run commands in a line of text, not done yet");
    s.f.result("one/1", "passed");
    s.f.result("one/2", "passed");
    await until("a tick", async () => (await link.getAttribute("data-done")) === "true");
    assert.equal(await link.getAttribute("aria-label"), "1: Run commands in a line of text, done");
    await link.click();
    assert.equal(await link.getAttribute("aria-current"), "step");
    assert.equal(await word(), "Continue");
  });

  test("addresses, the browser's back button and links into other parts work", async () => {
    await s.open({ paged: true, intro, data: {} }, "#two");
    assert.equal(await part(), "two");
    await s.page.locator('.parts a[href="#three"]').click();
    await s.page.goBack();
    await until("back", async () => (await part()) === "two");
    await s.page.goForward();
    await until("forward", async () => (await part()) === "three");
    await s.page.evaluate(() => {
      document.querySelector("#one details")!.id = "note-one";
      location.hash = "#note-one";
    });
    await until("the part that holds it", async () => (await part()) === "one");
    await s.page.evaluate(() => (location.hash = "#%E0%A4%A")); // broken
    await until("the first", async () => (await part()) === "intro");
    await s.page.locator('.parts a[href="#two"]').click();
    await s.page.goto("about:blank");
    await s.page.goto(s.base);
    await until("where the learner was", async () => (await part()) === "two");
    assert.deepEqual(s.complaints, []);
  });

  test("by keyboard alone", async () => {
    await s.open({ paged: true, intro });
    await s.page.locator('.parts a[aria-current]').focus();
    await s.page.keyboard.press("ArrowRight");
    await s.page.keyboard.press("End");
    await s.page.keyboard.press("Enter");
    await until("the last", async () => (await part()) === "three");
    assert.equal(await word(), "Finish");
    await s.page.keyboard.press("F6");
    assert.equal(await s.page.evaluate(() => document.activeElement?.className), "xterm-helper-textarea");
    await s.page.keyboard.press("F6");
    assert.equal(await s.page.evaluate(() => document.querySelector("article")!.contains(document.activeElement)), true);
    await next().focus();
    await s.page.keyboard.press("Enter");
    await s.page.waitForURL(/\/finish$/);
    await until("arrived", () => arrivals().includes("finish"));
  });

  test("without an introduction it begins with the first step, and the server hears of both", async () => {
    await s.open({ paged: true, intro: "" });
    assert.equal(await part(), "one");
    await until("arrivals", () => arrivals().join() === "intro,one");
  });

  test("starting over begins at the first part, and everything there happens again", async () => {
    await s.open({ paged: true, intro }, "#two");
    await until("arrivals", () => arrivals().length === 1);
    s.f.requests.length = 0;
    await s.page.locator(".menu-button").click();
    await s.page.locator(".menu .over").click();
    await s.page.locator("dialog .danger").click();
    await until("a new session", () => s.f.state.session === "s2");
    await until("arrived", () => s.f.requests.includes("POST /api/sessions/s2/arrivals/intro"));
    assert.equal(await part(), "intro");
    assert.deepEqual(arrivals(), ["intro"]);
  });

  test("arrivals wait until the session is ready", async () => {
    s.f.state = s.f.fresh("starting");
    s.f.enrich({ paged: true, intro });
    await s.page.goto(s.base);
    await s.page.waitForSelector(".phase[data-kind=starting]");
    assert.deepEqual(arrivals(), []);
    s.f.set({ phase: "ready" });
    await until("arrived", () => arrivals().join() === "intro");
  });

  for (const [width, height] of [[1440, 900], [1024, 768], [390, 844]] as const) {
    test(`fits ${width}×${height}`, async () => {
      await s.page.setViewportSize({ width, height });
      await s.open({ paged: true, intro, data: { hosts: 2, tabs: [{ title: "Shop", port: 8080 }, { title: "Docs", url: "https://example.org/" }] } }, "#three");
      await s.sound();
      await s.page.locator("#three").evaluate((e) => (e.scrollTop = 100));
      assert.equal(await s.page.locator("#three").evaluate((e) => e.scrollTop), 100);
      const b = (await s.page.locator(".pager").boundingBox())!;
      assert.ok(b.y + b.height <= height);
    });
  }
});

describe("watch mode", () => {
  const text = (id: string) => s.page.locator(`#${id}`).textContent();
  const change = (id: string, from: string, to: string) => {
    s.f.steps = s.f.steps.map(([i, html]) => [i, i === id ? html.replace(from, to) : html]);
  };

  test("an edit is on the page within 300 ms, and the rest stays as it is", async () => {
    await s.open({ watch: true });
    s.f.result("one/1", "passed");
    await s.page.waitForSelector('[data-check="one/1"][data-status=passed]');
    await s.page.locator("#one summary").click();
    await s.page.locator("#two .hint-button").click();
    await s.page.waitForSelector("#two .help-item");
    await s.page.locator("#two").evaluate((e) => e.scrollIntoView());
    const scroll = await s.page.locator("article.text").evaluate((e) => e.scrollTop);
    const top = await s.page.locator("#two").evaluate((e) => e.getBoundingClientRect().top);
    const near = (x: number) => Math.abs(x - top) < 1;
    const attached = s.term.attached;
    change("one", "Start a server", "<b>Now start a server, and wait until it is there; that may take a while, so have a look around meanwhile, and come back when you have seen enough.</b>");
    const began = performance.now();
    s.f.edit();
    await s.page.waitForSelector("#one b");
    const took = performance.now() - began;
    assert.ok(took < 300, `${took} ms`);
    assert.ok(near(await s.page.locator("#two").evaluate((e) => e.getBoundingClientRect().top)));
    assert.ok((await s.page.locator("article.text").evaluate((e) => e.scrollTop)) >= scroll);
    assert.equal(await s.page.locator("#one details").evaluate((e) => (e as HTMLDetailsElement).open), true);
    assert.equal(await s.page.locator('[data-check="one/1"]').getAttribute("data-status"), "passed");
    assert.equal(await s.page.locator("#two .help-item").count(), 1); // its text did not change
    assert.equal(s.term.attached, attached);
    await s.button("one/1").click(); // and it is alive
    await until("the command", () => s.term.ran.length === 1);
    assert.deepEqual(s.complaints, []);
  });

  test("steps come and go, and the title changes", async () => {
    await s.open({ watch: true });
    s.f.title = "Another title";
    const [one, two, three] = s.f.steps;
    s.f.steps = [two!, ["new", one![1].replaceAll('"one', '"new').replace("Run commands", "A new step")], three!];
    s.f.edit();
    await s.page.waitForSelector("#new");
    assert.deepEqual(await s.page.locator("article .step").evaluateAll((l) => l.map((e) => e.id)), ["two", "new", "three"]);
    assert.equal(await s.page.title(), "Another title");
    assert.equal(await s.page.locator(".bar h1").textContent(), "Another title");
    s.f.result("two/1", "passed");
    await s.page.waitForSelector('[data-check="two/1"][data-status=passed]');
  });

  test("a mistake is shown at its line, and the old text stays", async () => {
    await s.open({ watch: true });
    const before = await text("one");
    s.f.edit([{ file: "lab.md", line: 12, what: 'unknown key "imgae"', hint: 'Did you mean <"image">?' }, { file: "course.yaml", line: 0, what: "odd", warn: true }]);
    await s.page.waitForSelector(".mistakes");
    assert.deepEqual(await s.page.locator(".mistake").allTextContents(), ['lab.md:12unknown key "imgae"Did you mean <"image">?', "course.yamlodd"]);
    assert.equal(await text("one"), before);
    s.f.edit([]);
    await s.page.waitForSelector(".mistakes", { state: "detached" });
  });

  test("works in a paged lesson: the part in view stays in view", async () => {
    await s.open({ watch: true, paged: true, intro }, "#three");
    await s.page.locator("#three").evaluate((e) => (e.scrollTop = 120));
    change("three", "This step asks", "Now this step asks");
    change("two", "Answer two questions", "Answer some questions");
    s.f.edit();
    await until("new text", async () => (await text("three"))!.includes("Now this step"));
    assert.equal(await part(), "three");
    assert.equal(await s.page.locator("#three").evaluate((e) => e.scrollTop), 120);
    assert.equal(await s.page.locator(".step:visible").count(), 1);
    assert.match((await s.page.locator('.parts a[href="#two"]').getAttribute("aria-label")) ?? "", /Answer some questions/);
    s.f.steps = s.f.steps.filter(([id]) => id !== "three");
    s.f.edit();
    await until("the first part", async () => (await part()) === "intro");
    assert.deepEqual(s.complaints, []);
  });

  test("what was edited while the server was away is caught up with", async () => {
    await s.open({ watch: true });
    change("one", "Start a server", "Begin with a server");
    s.f.cut();
    await until("new text", async () => (await text("one"))!.includes("Begin with"));
  });
});
