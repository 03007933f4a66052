import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { close, decode, encode, kind, maxFrame, maxInput, type Frame } from "../src/protocol";

interface Vector {
  name: string;
  kind: string;
  hex: string;
  malformed?: boolean;
  data?: string;
  id?: string;
  offset?: number;
  rows?: number;
  cols?: number;
  status?: number;
  role?: string;
}

const vectors = JSON.parse(readFileSync(join(import.meta.dirname, "../../../labs/testdata/frames.json"), "utf8")) as Vector[];
const bytes = (hex = "") => new Uint8Array(Buffer.from(hex, "hex"));

function frame(v: Vector): Frame {
  const size = { rows: v.rows ?? 0, cols: v.cols ?? 0 };
  const offset = v.offset ?? 0;
  switch (v.kind) {
    case "i":
      return { kind: "input", bytes: bytes(v.data) };
    case "c":
      return { kind: "command", id: v.id ?? "", bytes: bytes(v.data) };
    case "r":
      return { kind: "resize", size };
    case "a":
      return { kind: "ack", offset };
    case "s":
      return { kind: "start", offset, size };
    case "o":
      return { kind: "output", offset, bytes: bytes(v.data) };
    case "x":
      return { kind: "exit", status: v.status ?? 0 };
    case "n":
      return { kind: "role", mayType: v.role === "w" };
    case "p":
      return { kind: "ping", payload: bytes(v.data) };
  }
  throw new Error(`no kind ${v.kind}`);
}

describe("golden vectors", () => {
  for (const v of vectors) {
    test(v.name, () => {
      if (v.malformed) {
        assert.throws(() => decode(bytes(v.hex)));
        return;
      }
      const want = frame(v);
      assert.equal(Buffer.from(encode(want)).toString("hex"), v.hex);
      const got = decode(bytes(v.hex));
      assert.deepEqual(JSON.parse(plain(got)), JSON.parse(plain(want)));
    });
  }

  test("hold every kind", () => {
    const kinds = Object.values(kind).map((k) => String.fromCharCode(k));
    assert.deepEqual(kinds.filter((k) => !vectors.some((v) => v.kind === k && !v.malformed)), []);
  });
});

function plain(f: Frame | null): string {
  return JSON.stringify(f, (_, v: unknown) => (v instanceof Uint8Array ? Buffer.from(v).toString("hex") : v));
}

test("a kind that is not known is left alone, an empty or huge message is not", () => {
  assert.equal(decode(bytes("7a00")), null);
  assert.throws(() => decode(new Uint8Array(0)));
  assert.throws(() => decode(new Uint8Array(maxFrame + 1)));
});

test("constants are those of labs/terminal.go", () => {
  const go = readFileSync(join(import.meta.dirname, "../../../labs/terminal.go"), "utf8");
  const number = (name: string) => Function(`return ${new RegExp(`${name}\\s+= ([0-9<]+(?: << [0-9]+)?)`).exec(go)![1]}`)() as number;
  assert.equal(maxInput, number("MaxInput"));
  assert.equal(maxFrame, number("MaxFrame"));
  assert.deepEqual(close, { notFound: number("CloseNotFound"), ended: number("CloseEnded"), busy: number("CloseBusy") });
});
