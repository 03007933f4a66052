// The editor and previews, in a real browser.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { until } from "./browser";
import type { PageOptions } from "./fixture";
import { Stage } from "./stage";

const s = new Stage();

async function files(o: PageOptions = {}): Promise<void> {
  s.f.put("/root/Dockerfile", "FROM nginx\n");
  s.f.put("/root/site/index.html", "<h1>Hello</h1>\n");
  s.f.put("/root/site/deep/a.txt", "a\n");
  s.f.put("/root/.profile", "export A=1\n");
  s.f.put("/etc/hosts", "127.0.0.1 localhost\n");
  await s.open(o);
}

const row = (path: string) => s.page.locator(`.tree-row[title="${path}"]`);
const rows = () => s.page.locator(".tree-row").allTextContents();
const said = () => s.page.locator(".editor-said").textContent();
const content = () => s.page.evaluate(() => [...document.querySelectorAll(".cm-content .cm-line")].map((l) => l.textContent).join("\n"));
const disk = (path: string) => s.f.files.get(path)?.text;

async function open(path: string): Promise<void> {
  await row(path).click();
  await s.page.waitForSelector(".cm-content");
  await until(path, async () => (await s.page.locator('.editor-tab [aria-selected="true"]').getAttribute("title")) === path);
}

async function tree(o: PageOptions = {}): Promise<void> {
  await files(o);
  await s.page.locator("#tab-files").click();
  await row("/root/Dockerfile").waitFor();
}

describe("the editor", () => {
  test("is loaded when it is first opened", async () => {
    const loaded: string[] = [];
    s.page.on("request", (r) => loaded.push(new URL(r.url()).pathname));
    await files();
    assert.ok(!loaded.includes("/editor.js"));
    await s.page.locator("#tab-files").click();
    await row("/root/Dockerfile").waitFor();
    assert.equal(loaded.filter((p) => p === "/editor.js").length, 1);
    await open("/root/Dockerfile");
    await s.sound();
    assert.deepEqual(s.complaints, []);
  });

  test("saves a moment after the last key, and at once with Ctrl-S", async () => {
    await tree();
    await open("/root/Dockerfile");
    await s.page.keyboard.press("Control+End");
    await s.page.keyboard.type("EXPOSE 80");
    await until("edited", async () => (await said()) === "Edited");
    assert.equal(await s.page.locator('.editor-tab[data-unsaved="true"]').count(), 1);
    await until("saved", () => disk("/root/Dockerfile") === "FROM nginx\nEXPOSE 80");
    await until("a word", async () => (await said()) === "Saved");
    await s.page.keyboard.type("80");
    await s.page.keyboard.press("Control+s");
    await until("saved", () => disk("/root/Dockerfile") === "FROM nginx\nEXPOSE 8080", 700);
    await s.said("Saved.");
    assert.equal(s.f.requests.filter((r) => r.startsWith("PUT")).length, 2);
    assert.deepEqual(s.complaints, []);
  });

  test("a file that was changed on disk meanwhile is never overwritten without a word", async () => {
    await tree();
    await open("/root/Dockerfile");
    await s.page.keyboard.type("# mine\n");
    s.f.put("/root/Dockerfile", "FROM alpine\n");
    await s.page.waitForSelector(".editor-question:not([hidden])");
    assert.equal(disk("/root/Dockerfile"), "FROM alpine\n");
    await s.sound();
    await s.page.getByRole("button", { name: "Show the difference" }).click();
    await s.page.waitForSelector(".cm-deletedChunk");
    assert.match((await s.page.locator(".cm-deletedChunk").textContent()) ?? "", /FROM alpine/);
    await s.page.getByRole("button", { name: "Hide the difference" }).click();
    await s.page.waitForSelector(".cm-deletedChunk", { state: "detached" });
    await s.page.getByRole("button", { name: "Overwrite it" }).click();
    await until("overwritten", () => disk("/root/Dockerfile") === "# mine\nFROM nginx\n");
    await s.page.waitForSelector(".editor-question", { state: "hidden" });
    await s.page.locator(".cm-content").focus();
    await s.page.keyboard.press("Control+End");
    await s.page.keyboard.type("# more");
    s.f.put("/root/Dockerfile", "FROM debian\n");
    await s.page.getByRole("button", { name: "Take the one on disk" }).click();
    await until("theirs", async () => (await content()) === "FROM debian\n");
    assert.equal(await said(), "Saved");
    await s.page.locator(".cm-content").focus();
    await s.page.keyboard.press("Control+End");
    await s.page.keyboard.type("RUN x");
    await until("saved", () => disk("/root/Dockerfile") === "FROM debian\nRUN x");
    s.f.files.delete("/root/Dockerfile");
    await s.page.keyboard.type("y");
    await s.page.getByRole("button", { name: "Write it again" }).click();
    await until("written again", () => disk("/root/Dockerfile") === "FROM debian\nRUN xy");
  });

  test("keeps what was typed while the server is away, says so, and tries again", async () => {
    await tree();
    await open("/root/Dockerfile");
    s.f.filesDown = true;
    await s.page.keyboard.type("# kept\n");
    await until("a word", async () => (await said())?.startsWith("Not saved:") === true, 5000);
    await s.said("Not saved. The server cannot be reached.");
    await s.page.keyboard.type("# and more\n");
    s.f.filesDown = false;
    await until("saved", () => disk("/root/Dockerfile") === "# kept\n# and more\nFROM nginx\n", 8000);
    await until("a word", async () => (await said()) === "Saved");
  });

  test("takes over what changed on disk when nothing was typed, and keeps its place", async () => {
    await tree();
    s.f.put("/root/long.txt", Array.from({ length: 300 }, (_, i) => `line ${i}`).join("\n"));
    await s.page.locator(".refresh-button").click();
    await row("/root/long.txt").waitFor();
    await open("/root/long.txt");
    await s.page.keyboard.press("Control+End");
    const scroll = () => s.page.locator(".cm-scroller").evaluate((e) => e.scrollTop);
    await until("scrolled", async () => (await scroll()) > 1000);
    const at = await scroll();
    await s.page.locator("#tab-1").click();
    s.f.put("/root/long.txt", s.f.files.get("/root/long.txt")!.text.replace("line 299", "the last line"));
    await s.page.waitForTimeout(1100); // it does not look more than once in a second
    await s.page.locator("#tab-files").click();
    await until("new text", async () => (await content()).endsWith("the last line"));
    assert.ok(Math.abs((await scroll()) - at) < 30);
    s.f.put("/root/long.txt", s.f.files.get("/root/long.txt")!.text.replace("the last line", "by focus"));
    await s.page.waitForTimeout(1100);
    await s.page.evaluate(() => dispatchEvent(new Event("focus")));
    await until("new text", async () => (await content()).endsWith("by focus"));
    assert.equal(s.f.requests.filter((r) => r.startsWith("PUT")).length, 0);
  });

  test("keeps every byte: CR LF, mixed ends of lines, no end of the last line", async () => {
    await tree();
    for (const [name, text] of [["crlf.txt", "a\r\nb\r\n"], ["mixed.txt", "a\r\nb\nc"], ["bare.txt", "x"]] as const) {
      s.f.put(`/root/${name}`, text);
      await s.page.locator(".refresh-button").click();
      await row(`/root/${name}`).waitFor();
      await open(`/root/${name}`);
      await s.page.keyboard.press("Control+Home");
      await s.page.keyboard.type("1");
      await s.page.keyboard.press("Control+s");
      await until(name, () => disk(`/root/${name}`) === `1${text}`);
    }
  });

  test("the tree: folders on demand, hidden files, by keyboard", async () => {
    await tree();
    assert.deepEqual(await rows(), ["~", "site", "Dockerfile", "/"]);
    await s.page.locator(".dots-button").click();
    await row("/root/.profile").waitFor();
    await s.page.locator(".dots-button").click();
    await row("/root/.profile").waitFor({ state: "detached" });
    await row("/root").focus();
    await s.page.keyboard.press("ArrowDown");
    await s.page.keyboard.press("ArrowRight");
    await row("/root/site/deep").waitFor();
    await s.page.keyboard.press("ArrowRight");
    await s.page.keyboard.press("ArrowDown");
    await s.page.keyboard.press("Enter");
    await until("open", async () => (await content()) === "<h1>Hello</h1>\n");
    await until("focus", () => s.page.evaluate(() => document.activeElement?.classList.contains("cm-content") === true));
    await row("/root/site/index.html").focus();
    await s.page.keyboard.press("ArrowLeft");
    await s.page.keyboard.press("ArrowLeft");
    await row("/root/site/deep").waitFor({ state: "detached" });
    await s.page.keyboard.press("d");
    assert.equal(await s.page.evaluate(() => document.activeElement?.textContent), "Dockerfile");
    s.f.put("/root/added", "");
    await s.page.locator(".refresh-button").click();
    await row("/root/added").waitFor();
  });

  test("Escape, then Tab leaves the text; Tab alone indents", async () => {
    await tree();
    await open("/root/Dockerfile");
    await s.page.keyboard.press("Tab");
    assert.match(await content(), /^    FROM/);
    await s.page.keyboard.press("Escape");
    await s.page.keyboard.press("Tab");
    assert.equal(await s.page.evaluate(() => document.activeElement?.classList.contains("cm-content")), false);
    await s.page.locator(".cm-content").focus();
    await s.page.keyboard.press("Escape");
    await s.page.keyboard.press("Shift+Tab");
    assert.equal(await s.page.evaluate(() => document.activeElement?.classList.contains("cm-content")), false);
    await s.page.keyboard.press("F6");
    assert.equal(await s.page.evaluate(() => document.querySelector("article")!.contains(document.activeElement)), true);
    await s.page.keyboard.press("F6");
    assert.equal(await s.page.evaluate(() => document.activeElement?.classList.contains("cm-content")), true);
  });

  test("new files, several open files, closing them", async () => {
    await tree();
    await row("/root/site").click();
    await s.page.locator(".new-file-button").click();
    assert.equal(await s.page.locator(".new-file input").inputValue(), "~/site/");
    await s.page.keyboard.type("new.css");
    await s.page.keyboard.press("Enter");
    await until("made", () => disk("/root/site/new.css") === "");
    await row("/root/site/new.css").waitFor();
    await until("open", async () => (await s.page.locator(".editor-kind").textContent()) === "CSS");
    await s.page.keyboard.type("h1 {}");
    await open("/root/Dockerfile");
    assert.equal(await s.page.locator(".editor-tab").count(), 2);
    await until("saved though not in view", () => disk("/root/site/new.css") === "h1 {}");
    await s.page.locator(".editor-tab [role=tab]").nth(1).focus();
    await s.page.keyboard.press("ArrowLeft");
    assert.equal(await content(), "h1 {}");
    await s.page.keyboard.press("Delete");
    assert.equal(await s.page.locator(".editor-tab").count(), 1);
    await s.page.locator(".new-file-button").click();
    await s.page.locator(".new-file input").fill("~/Dockerfile");
    await s.page.keyboard.press("Enter");
    await s.noticed("There is a file of that name already.");
    assert.equal(disk("/root/Dockerfile"), "FROM nginx\n");
    s.f.filesDown = true;
    await s.page.locator(".cm-content").focus();
    await s.page.keyboard.type("x");
    await s.page.keyboard.press("Control+s");
    await until("not saved", async () => (await said())?.startsWith("Not saved") === true);
    await s.page.locator(".editor-tab [role=tab]").focus();
    await s.page.keyboard.press("Delete");
    await s.page.waitForSelector("dialog[open]");
    await s.page.keyboard.press("Escape");
    await s.page.waitForSelector("dialog", { state: "detached" });
    assert.equal(await s.page.locator(".editor-tab").count(), 1);
  });

  test("code that names a file opens it, also one that is not there yet, or a folder", async () => {
    await files();
    await s.page.locator(".code.open code").click();
    await until("open", async () => (await content()) === "<h1>Hello</h1>\n");
    assert.equal(await s.page.locator("#tab-files").getAttribute("aria-selected"), "true");
    s.f.files.delete("/root/site/index.html");
    await s.page.locator(".editor-tab [role=tab]").focus();
    await s.page.keyboard.press("Delete");
    await until("closed", async () => (await s.page.locator(".editor-tab").count()) === 0);
    await s.page.locator("#tab-1").click();
    await s.page.waitForTimeout(450); // two clicks within 400 ms count as one
    await s.page.locator(".code.open button").click();
    await until("a new file", async () => (await said()) === "New file");
    assert.equal(disk("/root/site/index.html"), undefined);
    await s.page.keyboard.type("<p>");
    await until("written", () => disk("/root/site/index.html") === "<p>");
  });

  test("stands above the terminal when the lesson says so; what a block writes opens there", async () => {
    await s.page.setViewportSize({ width: 1440, height: 900 });
    await files({ layout: "editor", data: { open: "~/Dockerfile" } });
    await until("open", async () => (await content()) === "FROM nginx\n");
    assert.deepEqual(await s.page.locator(".tabs [role=tab]").allTextContents(), ["Terminal 1"]);
    await s.sound();
    await s.page.locator(".write-button").click();
    await until("open", async () => (await content()) === "<h1>Hello</h1>");
    const divider = s.page.locator(".divider.rows");
    await divider.focus();
    const before = (await s.page.locator(".files-pane").boundingBox())!.height;
    await s.page.keyboard.press("ArrowUp");
    assert.ok((await s.page.locator(".files-pane").boundingBox())!.height < before);
    await s.page.locator("article.text").focus();
    const focused = () => s.page.evaluate(() => document.activeElement?.className.split(" ")[0]);
    await s.page.keyboard.press("F6");
    assert.equal(await focused(), "cm-content");
    await s.page.keyboard.press("F6");
    assert.equal(await focused(), "xterm-helper-textarea");
    await s.page.keyboard.press("Shift+F6");
    assert.equal(await focused(), "cm-content");
    await s.page.setViewportSize({ width: 390, height: 844 }); // no room: a tab
    await until("a tab", async () => (await s.page.locator(".tabs [role=tab]").allTextContents()).join() === "Terminal 1,Files");
    await s.page.locator("#tab-files").click();
    await until("the same file", async () => (await content()) === "<h1>Hello</h1>");
    await s.sound();
    await s.page.setViewportSize({ width: 1440, height: 900 });
    await until("above again", async () => (await s.page.locator(".files-pane .cm-content").count()) === 1);
    assert.deepEqual(s.complaints, []);
  });

  test("follows the colours, light and dark", async () => {
    await s.page.emulateMedia({ colorScheme: "light" });
    await tree();
    await open("/root/Dockerfile");
    const colour = () => s.page.evaluate(() => getComputedStyle(document.querySelector(".cm-editor")!).backgroundColor);
    const light = await colour();
    await s.page.emulateMedia({ colorScheme: "dark" });
    await until("dark", async () => (await colour()) !== light);
  });

  test("the text stays when the session ends, and a new session begins with its own files", async () => {
    await tree();
    await open("/root/Dockerfile");
    s.f.set({ phase: "ended", reason: "It was long enough." });
    await s.page.waitForSelector(".phase[data-kind=ended]");
    assert.equal(await content(), "FROM nginx\n");
    s.f.put("/root/Dockerfile", "FROM scratch\n");
    await s.page.locator(".phase .button").click();
    await s.page.waitForSelector(".phase", { state: "hidden" });
    await until("a fresh editor", async () => (await s.page.locator(".editor-tab").count()) === 0);
  });
});

describe("previews", () => {
  const frame = () => s.page.frameLocator(".preview:not([hidden]) iframe");

  test("a link opens a tab on an origin of its own", async () => {
    await s.open();
    await s.page.locator("a.preview").click();
    await frame().locator("h1").waitFor();
    assert.equal(await frame().locator("h1").textContent(), "Port 8080");
    assert.equal(await frame().locator("#path").textContent(), "/hello");
    const iframe = s.page.locator(".preview iframe");
    assert.match((await iframe.getAttribute("src")) ?? "", /^\/preview\?to=http%3A%2F%2F8080-0123456789abcdef\.preview\.localhost%3A\d+%2Fhello$/);
    assert.equal(await iframe.getAttribute("sandbox"), "allow-scripts allow-forms allow-same-origin allow-popups allow-downloads");
    assert.equal(await s.page.locator("[role=tab][aria-selected=true]").textContent(), ":8080");
    await s.sound();
    assert.deepEqual(s.complaints, []);
  });

  test("with a key held the link is the browser's", async () => {
    await s.open();
    const [other] = await Promise.all([s.ctx.waitForEvent("page"), s.page.locator("a.preview").click({ modifiers: ["ControlOrMeta"] })]);
    await other.waitForLoadState();
    assert.match(other.url(), /^http:\/\/8080-0123456789abcdef\.preview\.localhost:\d+\/hello$/);
    assert.equal(await s.page.locator(".preview iframe").count(), 0);
  });

  test("a page in a preview cannot lead this page away, nor read it", async () => {
    await s.open();
    await s.page.locator("a.preview").click();
    await frame().locator("h1").waitFor();
    const inside = s.page.frames().find((x) => x.url().includes("preview.localhost"))!;
    const tried = await inside.evaluate(() => {
      const said: string[] = [];
      for (const f of [() => String(parent.document.title), () => (top!.location.href = "about:blank"), () => String(parent.localStorage.length)]) {
        try {
          said.push(f());
        } catch (e) {
          said.push((e as Error).name);
        }
      }
      return said;
    });
    await s.page.waitForTimeout(200);
    assert.equal(tried[0], "SecurityError");
    assert.equal(tried[2], "SecurityError");
    assert.equal(new URL(s.page.url()).origin, s.base);
  });

  test("tabs of the lesson, and a port that the learner types", async () => {
    await s.open({ data: { tabs: [{ title: "Shop", port: 3000, path: "/cart" }, { title: "Docs", url: "https://example.org/x" }, { title: "Bad", url: "javascript:alert(1)" }] } });
    assert.deepEqual(await s.page.locator(".tabs [role=tab]").allTextContents(), ["Terminal 1", "Files", "Shop"]);
    assert.deepEqual(await s.page.locator(".tab-link").evaluateAll((l) => l.map((a) => (a as HTMLAnchorElement).href)), ["https://example.org/x"]);
    assert.equal(s.f.requests.filter((r) => r.startsWith("preview")).length, 0); // not before it is looked at
    await s.page.locator(".tabs [role=tab]").nth(2).click();
    await until("the shop", () => s.f.requests.includes("preview 3000 /cart"));
    await s.page.locator("button.add").click();
    await s.page.locator("#new-port").fill("70000");
    await s.page.keyboard.press("Enter");
    assert.equal(await s.page.locator("#add-menu").isVisible(), true);
    await s.page.locator("#new-port").fill("9000");
    await s.page.keyboard.press("Enter");
    await until("the port", () => s.f.requests.includes("preview 9000 /"));
    await s.page.locator(".preview:not([hidden]) input").fill("api/health");
    await s.page.keyboard.press("Enter");
    await until("the path", () => s.f.requests.includes("preview 9000 /api/health"));
    const n = s.asked("preview 9000 /api/health");
    await s.page.locator(".preview:not([hidden]) .reload").click();
    await until("again", () => s.asked("preview 9000 /api/health") > n);
    assert.match((await s.page.locator(".preview:not([hidden]) .out").getAttribute("href")) ?? "", /^\/preview\?to=.*9000-.*%2Fapi%2Fhealth$/);
    await s.page.reload(); // what the learner opened is there again
    await s.page.waitForSelector(".panel[data-line=open], .preview:not([hidden])", { state: "attached" });
    await until("both", async () => (await s.page.locator(".tabs [role=tab]").allTextContents()).includes(":9000"));
    await s.page.locator('[data-name="=port-9000"]').click();
    await s.page.locator(".preview:not([hidden]) .shut").click();
    assert.ok(!(await s.page.locator(".tabs [role=tab]").allTextContents()).includes(":9000"));
    await s.page.reload();
    await s.page.waitForSelector(".panel[data-line=open]");
    assert.ok(!(await s.page.locator(".tabs [role=tab]").allTextContents()).includes(":9000"));
    assert.deepEqual(s.complaints, []);
  });

  test("another machine's port, and the end of the session", async () => {
    await s.open({ data: { hosts: 2, tabs: [{ title: "Second", port: 80, host: 2 }] } });
    await s.page.locator('[data-name="=port-2-80"]').click();
    await until("it", () => s.f.requests.includes("preview 80 /"));
    assert.match((await s.page.locator(".preview iframe").getAttribute("src")) ?? "", /80-2-0123/);
    s.f.set({ phase: "ended", reason: "Over." });
    await s.page.waitForSelector(".phase[data-kind=ended]");
    assert.equal(await s.page.locator(".preview iframe").getAttribute("src"), null);
    await s.page.locator(".phase .button").click();
    await until("there again", async () => (await s.page.locator(".preview iframe").getAttribute("src")) !== null || (await s.page.locator(".panel:not([hidden])").count()) === 1);
  });
});
