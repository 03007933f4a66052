// Compiles the tests of a kind and runs them with node's test runner:
//   node test/run.mjs unit|component|e2e [name…]
//   node test/run.mjs dev        serves the fixture page until interrupted
// ONLY=REGEXP picks tests by their names.

import { build } from "esbuild";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const [kind = "unit", ...names] = process.argv.slice(2);
const suffix = { unit: ".test.ts", component: ".component.ts", e2e: ".e2e.ts", dev: "dev.ts" }[kind];
if (!suffix) {
  console.error(`${kind} is no kind of test; there are unit, component and e2e`);
  process.exit(2);
}
const files = readdirSync(here)
  .filter((f) => (kind === "dev" ? f === suffix : f.endsWith(suffix)))
  .filter((f) => names.length === 0 || names.some((n) => f.startsWith(n)));
const out = mkdtempSync(join(here, "..", "node_modules", ".tests-")); // where packages are found
try {
  await build({
    entryPoints: files.map((f) => join(here, f)),
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    packages: "external",
    logLevel: "warning",
    define: { "import.meta.dirname": JSON.stringify(here) },
  });
  const built = files.map((f) => join(out, basename(f, ".ts") + ".mjs"));
  const args = kind === "dev" ? built : ["--test", "--test-concurrency=1", "--test-reporter=spec", ...(process.env["ONLY"] ? ["--test-name-pattern", process.env["ONLY"]] : []), ...built];
  const child = spawn(process.execPath, ["--enable-source-maps", ...args], {
    stdio: "inherit",
    cwd: join(here, ".."),
  });
  for (const s of ["SIGINT", "SIGTERM"]) {
    process.on(s, () => child.kill(s));
  }
  process.exitCode = await new Promise((done) => child.on("exit", (code) => done(code ?? 1)));
} finally {
  rmSync(out, { recursive: true, force: true });
}
