import assert from "node:assert/strict";
import { test } from "node:test";
import { clickId } from "../src/blocks";
import type { CheckState, Result } from "../src/session";
import { look } from "../src/steps";

const state = (passed: boolean, now: Partial<Result>): CheckState => ({
  passed,
  now: { check: "s/1", at: "2026-11-22T00:00:00Z", status: "failed", ...now },
});

test("a check says nothing before the learner acted", () => {
  assert.equal(look(undefined, false).status, "pending");
  const l = look(state(false, { status: "failed", expected: "an image", seen: "none" }), false);
  assert.deepEqual([l.status, l.line], ["pending", ""]);
});

test("a check that does not hold yet says what was expected and seen", () => {
  const l = look(state(false, { expected: "an image", seen: "none" }), true);
  assert.equal(l.status, "failed");
  assert.equal(l.line, "Not yet. Seen: none");
  assert.deepEqual([l.expected, l.seen], ["an image", "none"]);
  assert.equal(look(state(false, { expected: "an image" }), true).line, "Not yet. Expected: an image");
  assert.equal(look(state(false, {}), true).line, "Not yet.");
});

test("a check that could not be made is no failure, and says why at once", () => {
  const l = look(state(false, { status: "unknown", reason: "the engine does not answer" }), false);
  assert.deepEqual([l.status, l.line], ["unknown", "Could not be checked: the engine does not answer"]);
  assert.notEqual(l.label, look(state(false, {}), true).label);
});

test("a passed check stays passed, with what is true now beside it", () => {
  assert.deepEqual(look(state(true, { status: "passed" }), true).line, "");
  const l = look(state(true, { status: "failed", seen: "no such image" }), false);
  assert.deepEqual([l.status, l.line], ["passed", "Was done. Right now: no such image"]);
  assert.deepEqual(look(state(true, { status: "unknown", reason: "x" }), true).status, "passed");
});

test("every click has an id of its own, which fits a frame", () => {
  const ids = new Set(Array.from({ length: 1000 }, () => clickId("pull/1")));
  assert.equal(ids.size, 1000);
  assert.ok(clickId("x".repeat(500)).length <= 255);
});
