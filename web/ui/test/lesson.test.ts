// Small rules of the lesson page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { caret } from "../src/keys";
import { languageOf } from "../src/language";
import { lessonData, splitTerminal, terminalTitle } from "../src/page";
import { previewAddress, previewDoor, previewName } from "../src/preview";
import { answerLook } from "../src/steps";

test("caret notation, as the server reads it", () => {
  const hex = (s: string) => Buffer.from(caret(s)).toString("hex");
  assert.deepEqual(
    ["^C", "^c", "^[", "^?", "^^", "^@", "q", "^X^C", ":wq^M", "^", "a^", "^1", "^é", "^~"].map(hex),
    ["03", "03", "1b", "7f", "1e", "00", "71", "1803", "3a77710d", "5e", "615e", "5e31", "5ec3a9", "5e7e"],
  );
});

test("terminals of several machines have names of their own", () => {
  assert.deepEqual(splitTerminal("1@2"), { inside: "1", host: 2 });
  assert.deepEqual(splitTerminal("1@1"), { inside: "1@1", host: 1 });
  assert.deepEqual(
    [["1", 1], ["server", 1], ["1", 2], ["1@2", 2], ["2@2", 2], ["db@2", 2]].map(([n, h]) => terminalTitle(n as string, h as number)),
    ["Terminal 1", "server", "host01", "host02", "host02: 2", "host02: db"],
  );
});

test("the address of a preview", () => {
  const at = "http://PORT-abc.preview.localhost:8080";
  assert.equal(previewAddress(at, { port: 80, host: 1, path: "" }), "http://80-abc.preview.localhost:8080/");
  assert.equal(previewAddress(at, { port: 80, host: 2, path: "/x?y=1#z" }), "http://80-2-abc.preview.localhost:8080/x?y=1#z");
  assert.equal(previewAddress(at, { port: 80, host: 1, path: "x" }), "http://80-abc.preview.localhost:8080/x");
  // A path can never become part of the name.
  assert.equal(new URL(previewAddress(at, { port: 80, host: 1, path: "@evil.example/" })).host, "80-abc.preview.localhost:8080");
  assert.equal(previewDoor("http://a/?b=c&d"), "/preview?to=http%3A%2F%2Fa%2F%3Fb%3Dc%26d");
  assert.equal(previewName({ port: 80, host: 2 }), "=port-2-80");
});

test("a question is done or not, and has nothing to see in a sandbox", () => {
  assert.deepEqual(answerLook(undefined).status, "pending");
  const c = { passed: false, now: { check: "a/1", status: "failed" as const, seen: "x", at: "" } };
  assert.deepEqual([answerLook(c).status, answerLook(c).line], ["pending", ""]);
  assert.equal(answerLook({ ...c, passed: true }).status, "passed");
});

test("what a file is written in", () => {
  const name = (path: string, text = "") => languageOf(path, text).name;
  assert.deepEqual(
    ["/a/compose.yml", "/a/Dockerfile", "/a/Dockerfile.dev", "/a/api.dockerfile", "/a/x.json", "/a/x.tsx", "/a/x.mjs", "/a/x.py", "/a/main.go", "/a/run.sh", "/root/.bashrc", "/a/README.md", "/a/i.html", "/a/s.css", "/a/Makefile", "/etc/nginx/conf.d/a.conf", "/a/notes"].map((p) => name(p)),
    ["YAML", "Dockerfile", "Dockerfile", "Dockerfile", "JSON", "TypeScript", "JavaScript", "Python", "Go", "Shell", "Shell", "Markdown", "HTML", "CSS", "Makefile", "nginx", "Text"],
  );
  assert.equal(name("/a/run", "#!/usr/bin/env python3\n"), "Python");
  assert.equal(name("/a/run", "#!/bin/bash -e\n"), "Shell");
});

test("a page without data has its usual values", () => {
  const none = { querySelector: () => null } as unknown as ParentNode;
  assert.deepEqual([lessonData(none).home, lessonData(none).hosts, lessonData(none).layout], ["/root", 1, "terminal"]);
  const broken = { querySelector: () => ({ textContent: "{" }) } as unknown as ParentNode;
  assert.deepEqual(lessonData(broken).tabs, []);
});
