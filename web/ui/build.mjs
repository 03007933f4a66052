// Builds ../dist/app.js and ../dist/app.css, which every page loads, and
// ../dist/editor.js, which is loaded when the editor is opened. Says what they
// weigh.

import { build, context } from "esbuild";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const limit = 250_000; // bytes over the wire, the lesson page included

const options = {
  entryPoints: { app: "src/app.ts" },
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022", "chrome111", "firefox115", "safari16.4"],
  outdir: "../dist",
  legalComments: "none",
  logLevel: "warning",
};
const editor = { ...options, entryPoints: { editor: "src/editor.ts" }, format: "esm" };
const css = { ...options, entryPoints: { app: "css/app.css" } };

if (process.argv.includes("--watch")) {
  for (const o of [options, editor, css]) {
    await (await context({ ...o, minify: false, logLevel: "info" })).watch();
  }
} else {
  await Promise.all([build(options), build(editor), build(css)]);
  let total = 0;
  const weigh = (name) => {
    const b = readFileSync(new URL(`../dist/${name}`, import.meta.url));
    return [b.length, gzipSync(b, { level: 9 }).length];
  };
  const say = (name) => `${name} ${kb(weigh(name)[0])} (${kb(weigh(name)[1])} gzipped)`;
  const parts = ["app.js", "app.css"].map((name) => {
    total += weigh(name)[1];
    return say(name);
  });
  console.log(`${parts.join(", ")}; together ${kb(total)} over the wire, limit ${kb(limit)} with the page`);
  console.log(`${say("editor.js")}, loaded when the editor is opened`);
  if (total > limit - 40_000) {
    console.error("The bundle leaves less than 40 kB for the page.");
    process.exit(1);
  }
}

function kb(n) {
  return `${(n / 1000).toFixed(1)} kB`;
}
