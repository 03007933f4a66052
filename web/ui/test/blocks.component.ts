// Commands within lines, keys, questions, labs that can only be read, and the
// list of labs, in a real browser.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { until } from "./browser";
import { Stage } from "./stage";

const s = new Stage();

describe("code within a line", () => {
  test("runs by its sign and by itself, types without Enter, presses keys", async () => {
    await s.open();
    await s.sound();
    await s.button("one/1").click();
    await until("the command", () => s.term.ran.length === 1);
    await s.page.locator('[data-command="one/2"] code').click();
    await until("the command", () => s.term.ran.length === 2);
    await s.button("one/3").click();
    await until("keys", () => s.term.ran.length === 3);
    await s.button("one/4").click();
    await until("typed", () => s.term.ran.length === 4);
    await s.button("one/6").click();
    await until("keys", () => s.term.ran.length === 5);
    assert.deepEqual(s.term.ran, ["docker run -d -p 8080:80 nginx\r", "curl -s localhost:8080 | head -n 3\r", "\x03", "docker ", "\x18\x03"]);
    assert.deepEqual(s.complaints, []);
  });

  test("says by its name what it does, and works by keyboard", async () => {
    await s.open();
    assert.deepEqual(
      await Promise.all(["one/1", "one/3", "one/4"].map((c) => s.button(c).getAttribute("aria-label"))),
      ["Run: docker run -d -p 8080:80 nginx", "Press: ^C", "Type: docker "],
    );
    await s.button("one/1").focus();
    await s.page.keyboard.press("Enter");
    await until("the command", () => s.term.ran.length === 1);
  });

  test("does not run while it is selected, copies what is to be copied, and moves nothing", async () => {
    await s.open();
    const before = await s.boxes("#one > p, #one .block, #one .code");
    const code = s.page.locator('[data-command="one/2"] code');
    const box = (await code.boundingBox())!;
    await s.page.mouse.move(box.x + 4, box.y + box.height / 2);
    await s.page.mouse.down();
    await s.page.mouse.move(box.x + 80, box.y + box.height / 2, { steps: 4 });
    await s.page.mouse.up();
    await s.page.locator(".code.copy code").click();
    await s.said("Copied.");
    assert.equal(await s.page.evaluate(() => navigator.clipboard.readText()), "nginx:1.27");
    await s.button("one/1").click();
    await until("the command", () => s.term.ran.length === 1);
    assert.deepEqual(s.term.ran, ["docker run -d -p 8080:80 nginx\r"]);
    assert.deepEqual(await s.boxes("#one > p, #one .block, #one .code"), before);
  });

  test("goes to a terminal of another machine", async () => {
    await s.open({ data: { hosts: 2 } });
    assert.deepEqual(await s.page.locator(".tabs [role=tab]").allTextContents(), ["host01", "host02", "Files"]);
    const second = s.f.peer.terminal("1@2");
    second.print("$ ");
    await s.button("one/7").click();
    await until("the command", () => second.ran.length === 1);
    assert.equal(await s.page.locator("[role=tab][aria-selected=true]").textContent(), "host02");
    await s.page.locator("button.add").click();
    await s.page.locator("#add-menu .new-terminal").nth(1).click();
    await until("another", async () => (await s.page.locator(".tabs [role=tab]").allTextContents()).join() === "host01,host02,host02: 2,Files");
  });

  test("terminals are there from the start, with the titles of the lesson", async () => {
    await s.open({ data: { terminals: [{ name: "1", title: "Work" }, { name: "logs", title: "Logs" }] } });
    assert.deepEqual(await s.page.locator(".tabs [role=tab]").allTextContents(), ["Work", "Logs", "Files"]);
  });
});

describe("questions", () => {
  const quiz = (id: string) => s.page.locator(`form.quiz[data-quiz="${id}"]`);

  test("are answered, and nothing moves", async () => {
    await s.open();
    const q = quiz("one/2");
    const before = await s.boxes("#one :not(.quiz-said), #two");
    await q.locator(".quiz-button").click();
    await until("a word", async () => (await q.locator(".quiz-said").textContent()) === "Pick an answer first.");
    await q.locator("label").nth(0).click();
    await q.locator(".quiz-button").click();
    await until("a word", async () => (await q.locator(".quiz-said").textContent()) === "Not right. Try again.");
    assert.equal(await s.page.locator('[data-check="one/2"]').getAttribute("data-status"), "pending");
    assert.equal(await s.page.locator('[data-check="one/2"] .why').isVisible(), false);
    await q.locator("label").nth(1).click();
    assert.equal(await q.locator(".quiz-said").textContent(), "");
    await q.locator(".quiz-button").focus();
    await s.page.keyboard.press("Enter");
    await until("a tick", async () => (await s.page.locator('[data-check="one/2"]').getAttribute("data-status")) === "passed");
    assert.equal(await q.locator(".quiz-said").textContent(), "Right");
    assert.deepEqual(await s.boxes("#one :not(.quiz-said), #two"), before);
    assert.deepEqual(s.f.bodies, [{ picked: [0] }, { picked: [1] }]);
  });

  test("of several choices and of text count for the step, and stay answered", async () => {
    await s.open();
    await quiz("two/1").locator("label").nth(0).click();
    await quiz("two/1").locator("label").nth(2).click();
    await quiz("two/1").locator(".quiz-button").click();
    await quiz("two/2").locator("input").fill("docker ps");
    await s.page.keyboard.press("Enter");
    await s.page.waitForSelector("#two[data-done=true]");
    assert.deepEqual(s.f.bodies, [{ picked: [0, 2] }, { text: "docker ps" }]);
    await s.page.reload();
    await until("answered", async () => (await quiz("two/2").locator(".quiz-said").textContent()) === "Right");
    assert.ok(await quiz("two/2").locator(".quiz-button").isDisabled());
  });

  test("are left out by the Check button, which is not there without another check", async () => {
    await s.open();
    assert.equal(await s.page.locator("#two .check-button").isVisible(), false);
    await s.page.locator("#one .check-button").click();
    await s.said("0 of 1 checks hold.");
    assert.deepEqual(
      s.f.requests.filter((r) => r.includes("/checks/")).map((r) => r.replace(/.*checks/, "")),
      ["/one/1"],
    );
  });

  test("are read as a group with their question", async () => {
    await s.open();
    assert.equal(await s.page.getByRole("group", { name: "Which port does it publish?" }).getByRole("radio").count(), 3);
    assert.equal(await s.page.getByRole("group", { name: "Which of these are images?" }).getByRole("checkbox").count(), 3);
    assert.equal(await s.page.getByRole("textbox", { name: "Your answer" }).count(), 1);
  });
});

describe("a lab that can only be read", () => {
  test("says why, opens nothing, and lets its commands be copied", async () => {
    await s.open({ cannot: 'It needs <b>Kubernetes</b> & "more".' });
    assert.match((await s.page.locator(".phase").textContent()) ?? "", /can be read here, but not run.*It needs <b>Kubernetes<\/b> & "more"\./);
    await s.page.locator('[data-command="one/2"] code').click();
    await s.said("Copied.");
    assert.equal(await s.page.evaluate(() => navigator.clipboard.readText()), "curl -s localhost:8080 | head -n 3");
    assert.equal(await s.page.locator(".run-button:visible, .write-button:visible, .help:visible, .quiz-button:visible").count(), 0);
    assert.deepEqual(s.f.requests, []);
    assert.deepEqual(s.complaints, []);
    await s.sound();
  });

  test("can be paged, too", async () => {
    await s.open({ cannot: "It needs more memory.", paged: true });
    await s.page.locator(".next-button").click();
    await s.page.locator(".next-button").click();
    assert.equal(await s.page.locator("#two").isVisible(), true);
    assert.deepEqual(s.f.requests, []);
  });
});

describe("the list of labs", () => {
  test("is grouped by course, and can be filtered", async () => {
    s.f.labs = ["Containers", "Images", ""].flatMap((course) => Array.from({ length: 5 }, (_, i) => ({ course, title: `${course || "Größe"} ${i}`, cannot: i === 4 ? "It needs Kubernetes." : "" })));
    await s.page.goto(`${s.base}/labs`);
    const shown = () => s.page.locator(".lab:visible").count();
    const count = s.page.locator(".filter-count");
    await until("all", async () => (await count.textContent()) === "15 labs");
    assert.deepEqual(await s.page.locator(".course-title").allTextContents(), ["Containers", "Images"]);
    assert.equal(await s.page.locator(".read-only").count(), 3);
    await s.page.keyboard.press("/");
    await s.page.keyboard.type("images 2");
    await until("one", async () => (await count.textContent()) === "1 of 15 labs");
    assert.equal(await shown(), 1);
    assert.equal(await s.page.locator(".course:visible").count(), 1);
    await s.page.locator(".filter input").fill("kubernetes read only");
    await until("none", async () => (await shown()) === 0);
    await s.page.locator(".filter input").fill("read only");
    await until("three", async () => (await shown()) === 3);
    await s.page.keyboard.press("Escape");
    await until("all", async () => (await shown()) === 15);
    assert.deepEqual(s.complaints, []);
  });
});
