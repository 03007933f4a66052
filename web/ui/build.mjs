// Builds ../dist/app.js and ../dist/app.css, and says what they weigh.

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
const css = { ...options, entryPoints: { app: "css/app.css" } };

if (process.argv.includes("--watch")) {
  for (const o of [options, css]) {
    await (await context({ ...o, minify: false, logLevel: "info" })).watch();
  }
} else {
  await Promise.all([build(options), build(css)]);
  let total = 0;
  const parts = ["app.js", "app.css"].map((name) => {
    const b = readFileSync(new URL(`../dist/${name}`, import.meta.url));
    const z = gzipSync(b, { level: 9 }).length;
    total += z;
    return `${name} ${kb(b.length)} (${kb(z)} gzipped)`;
  });
  console.log(`${parts.join(", ")}; together ${kb(total)} over the wire, limit ${kb(limit)} with the page`);
  if (total > limit - 40_000) {
    console.error("The bundle leaves less than 40 kB for the page.");
    process.exit(1);
  }
}

function kb(n) {
  return `${(n / 1000).toFixed(1)} kB`;
}
