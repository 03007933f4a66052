// Looks at previews in Chromium: as a tab, in a frame of the lesson page, and
// from pages that have no business there. Its argument is JSON from
// preview_browser_test.go; it prints what is wrong, one line each.

import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../ui/package.json", import.meta.url))("playwright-core");
const { main, evil, preview, other, token, thirdParty } = JSON.parse(process.argv[2]);

const wrong = (text) => console.log(text);
const same = (what, got, want) => got === want || wrong(`${what}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP evil.test 127.0.0.1",
    ...(thirdParty ? [] : ["--test-third-party-cookie-phaseout"]),
  ],
});

async function learner() {
  const context = await browser.newContext();
  await context.addCookies([{ name: "berth", value: token, url: main, httpOnly: true, sameSite: "Lax" }]);
  return context;
}

/** The frame of a page, when it shows a text. */
async function shown(page, select, text) {
  const body = page.frameLocator(select).locator("body");
  await body.getByText(text).waitFor({ timeout: 10_000 }).catch(() => {});
  return (await body.innerText({ timeout: 1_000 }).catch((e) => String(e.message).split("\n")[0])).trim();
}

const talk = async () => {
  const all = [];
  all.push(await fetch("/data").then((r) => r.text(), String));
  all.push(await fetch("/data", { method: "POST", body: "x" }).then((r) => r.text(), String));
  all.push(
    await new Promise((done) => {
      const ws = new WebSocket("/socket");
      ws.onopen = () => ws.send("hello");
      ws.onmessage = (e) => done(e.data);
      ws.onerror = () => done("no WebSocket");
    }),
  );
  all.push(document.cookie);
  all.push(await navigator.serviceWorker.register("/worker.js").then(() => "a service worker", () => "none"));
  return all.join(" | ");
};
const talked = "GET data | POST data | HELLO | own=1 | none";

try {
  // A tab.
  let context = await learner();
  let page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (e) => complaints.push(e.message));
  await page.goto(preview + "/secret?x=1#part");
  same("a tab", await page.innerText("body"), "the secret");
  same("address of the tab", page.url(), preview + "/secret?x=1#part");
  same("what its page can do", await page.evaluate(talk), talked);
  await page.reload();
  same("the tab again", await page.innerText("body"), "the secret");

  // What the page cannot do, in the browser of a learner.
  const reached = await page.evaluate(async (main) => {
    const can = [];
    const tried = async (what, f) => {
      try {
        if (await f()) can.push(what);
      } catch {
        // it could not
      }
    };
    await tried("read", async () => (await fetch(main + "/", { credentials: "include" })).ok);
    await tried("change", async () => (await fetch(main + "/api/labs/images/session", { method: "POST", headers: { "X-Berth": "1" }, credentials: "include" })).ok);
    await tried("change by form", async () => (await fetch(main + "/api/labs/images/session", { method: "POST", mode: "no-cors", credentials: "include" })).status !== 0);
    await tried("frame", async () => {
      const frame = document.createElement("iframe");
      frame.src = main + "/labs/images";
      document.body.append(frame);
      await new Promise((done) => (frame.onload = done));
      return frame.contentWindow.length > 0 || frame.contentDocument;
    });
    for (const domain of ["localhost", ".localhost", "preview.localhost"]) {
      document.cookie = `berth=tossed; path=/; domain=${domain}`;
    }
    document.cookie = "berth-preview=tossed; path=/; domain=preview.localhost";
    return can.join(", ");
  }, main);
  same("what its page can do to the server", reached, "");
  same("the learner's cookies", (await context.cookies(main)).map((c) => `${c.name}=${c.value}`).join(), `berth=${token}`);
  await page.goto(preview + "/secret");
  same("the tab with tossed cookies", await page.innerText("body"), "the secret");
  const popup = await Promise.all([context.waitForEvent("page"), page.evaluate((main) => void (window.popup = open(main + "/labs/images")), main)]);
  await popup[0].waitForLoadState();
  same("a window of the server that a preview opened", await page.evaluate(() => window.popup.closed), true);

  // From a page of another site.
  const others = await context.newPage();
  await others.goto(evil + "/");
  const got = await others.evaluate(async (preview) => {
    const frame = document.createElement("iframe");
    frame.src = preview + "/secret?from=frame";
    document.body.append(frame);
    await new Promise((done) => (frame.onload = done));
    const image = new Image();
    image.src = preview + "/secret?from=image";
    await new Promise((done) => (image.onerror = image.onload = done));
    const text = await fetch(preview + "/secret?from=fetch", { credentials: "include" }).then((r) => r.text(), () => "");
    await fetch(preview + "/secret?from=post", { method: "POST", mode: "no-cors", credentials: "include" }).catch(() => {});
    const ws = await new Promise((done) => {
      const ws = new WebSocket(preview.replace("http", "ws") + "/socket?from=socket");
      ws.onopen = () => done("open");
      ws.onerror = () => done("");
    });
    return text + ws;
  }, preview);
  same("what another site gets", got, "");
  await context.close();

  // A frame of the lesson page, in a browser that was never there.
  context = await learner();
  page = await context.newPage();
  await page.goto(main + "/labs/images");
  const put = (id, address) =>
    page.evaluate(
      ([id, address]) => {
        const frame = document.createElement("iframe");
        frame.id = id;
        frame.src = address;
        document.body.append(frame);
      },
      [id, address],
    );
  const way = (address) => "/preview?to=" + encodeURIComponent(address);
  await put("one", way(preview + "/secret"));
  same("a frame", await shown(page, "#one", "the secret"), "the secret");
  const frame = () => page.frames().find((f) => f.url().startsWith(preview));
  same("what its page can do in a frame", await frame()?.evaluate(talk), talked);
  await frame()?.evaluate(() => location.reload());
  same("the frame again", await shown(page, "#one", "the secret"), "the secret");
  await frame()?.evaluate(() => (location.href = "/secret?next=1"));
  same("the frame's next page", await shown(page, "#one", "the secret"), "the secret");
  same("the parent that the frame sees", await frame()?.evaluate(() => { try { return parent.document.title } catch { return "" } }), "");
  await put("two", way(other + "/"));
  await page.frameLocator("#two").getByText("Nothing listens on port").waitFor({ timeout: 10_000 }).catch(() => wrong("a frame of a port without a program does not say so"));
  await page.request.get(evil.replace("evil.test", "127.0.0.1") + "/start");
  same("the frame when the program has started", await shown(page, "#two", "started"), "started");
  await put("three", way("http://80-" + "0".repeat(32) + ".preview." + new URL(main).host));
  same("a frame of nothing", (await shown(page, "#three", "no such preview")).includes("no such preview"), true);
  await put("four", evil + "/");
  await put("five", main + "/labs/images");
  await new Promise((done) => setTimeout(done, 500));
  for (const id of ["four", "five"]) {
    same(`a frame of what may not be in one (${id})`, /evil page|Pull/.test(await page.frameLocator("#" + id).locator("body").innerText({ timeout: 1_000 }).catch(() => "")), false);
  }
  // Straight to the preview, as a link in a frame would.
  await put("six", preview + "/secret?six");
  same("a frame by the preview's own address", await shown(page, "#six", "the secret"), "the secret");
  if (complaints.length > 0) wrong("complaints: " + complaints.join("; "));
} catch (e) {
  wrong(`${e.stack}`);
} finally {
  await browser.close();
}
