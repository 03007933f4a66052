// Every pair of colours that meet on a page is held to WCAG 2.2 AA: 4.5 to 1
// for text, 3 to 1 for what marks a control or a state.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

const css = readFileSync(join(import.meta.dirname, "../css/tokens.css"), "utf8");

function block(selector: string): Map<string, string> {
  const at = css.indexOf(`${selector} {`);
  assert.ok(at >= 0, `no ${selector}`);
  const body = css.slice(at, css.indexOf("}", at));
  return new Map([...body.matchAll(/--([a-z0-9-]+):\s*(#[0-9a-f]{6});/g)].map((m) => [m[1]!, m[2]!]));
}

function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((i) => {
    const c = parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: string, b: string): number {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p) as [number, number];
  return (x + 0.05) / (y + 0.05);
}

const text: [string, string][] = [
  ...["bg", "panel", "raised", "code-bg"].flatMap((b): [string, string][] =>
    ["text", "muted", "accent", "ok", "warn", "bad"].map((f) => [f, b]),
  ),
  ...["accent-soft", "warn-soft", "bad-soft"].map((b): [string, string] => ["text", b]),
  ["accent", "accent-soft"],
  ["bad", "bad-soft"],
  ["accent-text", "accent"],
  ["bad-text", "bad"],
  ["term-fg", "term-bg"],
  ["muted", "term-bg"],
  ["term-fg", "term-selection"],
  ["term-bg", "term-cursor"],
  // In the lesson, and in the editor, where a line may be the one in hand or differ.
  ...["code-bg", "term-bg", "panel"].flatMap((b): [string, string][] =>
    ["keyword", "string", "number", "name", "comment"].map((c) => [`code-${c}`, b]),
  ),
  ["accent", "term-bg"],
  ["text", "term-bg"],
  ["text", "term-selection"],
  // The two ends of the 16 colours are backgrounds more often than text.
  ...Array.from({ length: 15 }, (_, i): [string, string] => [`term-${i + 1}`, "term-bg"]),
];

const marks: [string, string][] = [
  ...["bg", "panel", "raised"].flatMap((b): [string, string][] => ["line-strong", "accent", "ok"].map((f) => [f, b])),
  ["ok-text", "ok"],
  ["term-cursor", "term-bg"],
  ["line-strong", "term-bg"],
];

const light = block(":root");
const themes = { light, dark: new Map([...light, ...block(':root[data-theme="dark"]')]) };

for (const [name, theme] of Object.entries(themes)) {
  describe(`${name} theme`, () => {
    for (const [least, pairs] of [[4.5, text], [3, marks]] as const) {
      test(`${pairs.length} pairs reach ${least}`, () => {
        const low: string[] = [];
        for (const [f, b] of pairs) {
          const [x, y] = [theme.get(f), theme.get(b)];
          assert.ok(x && y, `${f} or ${b} is no colour of the theme`);
          const c = contrast(x, y);
          if (c < least) {
            low.push(`${f} ${x} on ${b} ${y}: ${c.toFixed(2)}`);
          }
        }
        assert.deepEqual(low, []);
      });
    }
  });
}

test("the dark theme is the same by choice and by the system", () => {
  assert.deepEqual(block(':root:not([data-theme="light"])'), block(':root[data-theme="dark"]'));
});
