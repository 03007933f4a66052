import assert from "node:assert/strict";
import { test } from "node:test";
import { words } from "../src/time";

test("time left in words", () => {
  const cases: [number, string][] = [
    [-5, "0 s"],
    [999, "0 s"],
    [40_000, "40 s"],
    [59_999, "59 s"],
    [60_000, "1 min"],
    [599_000, "9 min"],
    [3_600_000, "1 h"],
    [4_800_000, "1 h 20 min"],
    [7_199_000, "1 h 59 min"],
  ];
  for (const [ms, want] of cases) {
    assert.equal(words(ms), want);
  }
});
