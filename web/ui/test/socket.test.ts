import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { WebSocket as Client } from "ws";
import { close, type Size } from "../src/protocol";
import { Line, type LineOptions, type LineState, type Listener } from "../src/socket";
import { noise, Peer, type Terminal } from "./peer";

let server: Server;
let peer: Peer;
let base: string;
let term: Terminal;
let n = 0;

before(async () => {
  server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  base = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/api/sessions/s/terminals/`;
  peer = new Peer(server);
});

after(() => {
  peer.stop();
  server.closeAllConnections();
  server.close();
});

beforeEach(() => {
  peer.down = false;
  n++;
  term = peer.terminal(`t${n}`);
});

const lines: Line[] = [];

afterEach(() => {
  lines.splice(0).forEach((l) => l.close());
});

class Seen implements Listener {
  bytes: Buffer[] = [];
  length = 0;
  hash = createHash("sha256");
  states: LineState[] = [];
  starts: { offset: number; jumped: boolean }[] = [];
  exits: number[] = [];
  trips: number[] = [];
  unsures = 0;
  keep = true;
  line!: Line;
  ack = true;

  state(s: LineState): void {
    this.states.push(s);
  }
  start(offset: number, _: Size, jumped: boolean): void {
    this.starts.push({ offset, jumped });
  }
  output(b: Uint8Array, offset: number): void {
    assert.equal(this.line.next, offset + b.length);
    this.length += b.length;
    this.hash.update(b);
    if (this.keep) {
      this.bytes.push(Buffer.from(b));
    }
    if (this.ack) {
      this.line.ack(offset + b.length);
    }
  }
  resize(): void {}
  exit(status: number): void {
    this.exits.push(status);
  }
  role(): void {}
  latency(ms: number): void {
    this.trips.push(ms);
  }
  unsure(): void {
    this.unsures++;
  }
  get text(): string {
    return Buffer.concat(this.bytes).toString();
  }
}

function open(o: Partial<LineOptions> = {}): Seen {
  const seen = new Seen();
  const name = `t${n}`;
  seen.line = new Line(
    {
      url: (from, s) => `${base}${name}?from=${from}&rows=${s.rows}&cols=${s.cols}`,
      size: { rows: 30, cols: 100 },
      WebSocket: Client as unknown as typeof WebSocket,
      backoff: () => 1,
      ...o,
    },
    seen,
  );
  lines.push(seen.line);
  return seen;
}

async function until(what: string, ok: () => boolean, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!ok()) {
    assert.ok(performance.now() < end, `${what}: not within ${ms} ms`);
    await new Promise((r) => setTimeout(r, 2));
  }
}

const is = (s: Seen, k: LineState["kind"]) => s.line.state.kind === k;
const bytes = (s: string) => new TextEncoder().encode(s);

describe("a line", () => {
  test("loses, doubles and reorders no byte through 1,000 breaks under output", async (t) => {
    const seen = open();
    seen.keep = false;
    const want = createHash("sha256");
    let sent = 0;
    let stop = false;
    // Output without end; frames of odd sizes, so that characters are cut.
    term.chunk = 1009;
    term.window = 64 << 10;
    const print = () => {
      // The ring must not overtake the viewer: what falls out of it is lost by design.
      if (term.end - seen.line.next < 512 << 10) {
        const b = noise(4099, sent);
        want.update(b);
        sent += b.length;
        term.print(b);
      }
      stop || setImmediate(print);
    };
    print();
    let breaks = 0;
    const end = Date.now() + 120_000;
    while (breaks < 1000) {
      assert.ok(Date.now() < end, `${breaks} breaks in two minutes`);
      const at = seen.length + 1 + ((breaks * 7919) % 6000);
      const connections = term.attached;
      await until(`output after break ${breaks}`, () => seen.length >= at);
      breaks++;
      if (breaks % 3 === 0) {
        seen.line.drop();
      } else if (breaks % 3 === 1) {
        term.drop();
      } else {
        term.viewers.forEach((v) => v.ws.close(1011));
      }
      await until(`connection ${breaks}`, () => term.attached > connections);
    }
    stop = true;
    await new Promise((r) => setImmediate(r));
    await until("the rest", () => seen.length === sent);
    assert.equal(seen.hash.digest("hex"), want.digest("hex"));
    assert.ok(seen.starts.every((s) => !s.jumped));
    assert.ok(term.widest <= term.window, `${term.widest} bytes were unacknowledged`);
    t.diagnostic(`${sent} bytes, ${term.attached} connections`);
  });

  test("gives characters cut by frames back whole", async () => {
    term.chunk = 1;
    const seen = open();
    term.print("größe 試験 🚢\r\n");
    await until("output", () => seen.length === term.end);
    assert.equal(seen.text, "größe 試験 🚢\r\n");
  });

  test("does not draw again what a server sends twice", async () => {
    const seen = open();
    await until("open", () => is(seen, "open"));
    term.print("abcdef");
    await until("output", () => seen.length === 6);
    term.viewers.forEach((v) => {
      v.send({ kind: "output", offset: 0, bytes: bytes("abcdef") });
      v.send({ kind: "output", offset: 3, bytes: bytes("defghi") });
    });
    await until("output", () => seen.length >= 9);
    assert.equal(seen.text, "abcdefghi");
  });

  test("asks again when output is missing", async () => {
    const seen = open();
    term.print("abc");
    await until("output", () => seen.length === 3);
    term.output = Buffer.from("abcdefghi");
    term.viewers.forEach((v) => v.send({ kind: "output", offset: 6, bytes: bytes("ghi") }));
    await until("output", () => seen.length === 9);
    assert.equal(seen.text, "abcdefghi");
    assert.equal(term.attached, 2);
  });

  test("says when output is no longer kept, and when the terminal is another", async () => {
    const seen = open();
    term.print("abc");
    await until("output", () => seen.length === 3);
    peer.down = true;
    term.drop();
    await until("broken", () => is(seen, "waiting"));
    term.print(noise(2 << 20, 1));
    peer.down = false;
    await until("open", () => seen.starts.length === 2);
    assert.equal(seen.starts[1]?.jumped, true);
    assert.equal(seen.starts[1]?.offset, term.base);
    await until("output", () => seen.line.next === term.end);
    term.reborn();
    term.print("x");
    term.drop();
    await until("open", () => seen.starts.length === 3);
    assert.deepEqual(seen.starts[2], { offset: 0, jumped: true });
  });

  test("never sends a keystroke twice, and none into a dead line", async () => {
    const seen = open();
    await until("open", () => is(seen, "open"));
    assert.equal(seen.line.input(bytes("a")), true);
    await until("typed", () => term.typed.length === 1);
    peer.down = true;
    term.drop();
    await until("broken", () => is(seen, "waiting") || is(seen, "connecting"));
    assert.equal(seen.line.input(bytes("b")), false);
    peer.down = false;
    await until("open", () => is(seen, "open"));
    assert.equal(seen.line.input(bytes("c")), true);
    await until("typed", () => term.typed.length === 2);
    assert.equal(Buffer.from(term.typed).toString(), "ac");
  });

  test("says that it is unsure when it breaks while keys are on their way", async () => {
    const seen = open();
    await until("open", () => is(seen, "open"));
    await until("a round trip", () => seen.trips.length > 0);
    term.mute = true;
    seen.line.input(bytes("a"));
    seen.line.drop();
    assert.equal(seen.unsures, 1);
  });

  test("runs a click's command once, however often the line breaks", async () => {
    const seen = open();
    await until("open", () => is(seen, "open"));
    assert.equal(seen.line.command("one", bytes("echo\r")), true);
    for (let i = 2; i < 12; i++) {
      seen.line.drop();
      await until("open", () => term.attached === i && is(seen, "open"));
    }
    await until("ids", () => term.ids.length >= 10);
    assert.deepEqual(term.ran, ["echo\r"]);
    assert.ok(term.ids.every((id) => id === "one"));
  });

  test("does not run a command in another terminal's life, nor one that was refused", async () => {
    const seen = open();
    await until("open", () => is(seen, "open"));
    term.print("abc");
    await until("output", () => seen.length === 3);
    seen.line.command("one", bytes("echo\r"));
    await until("ran", () => term.ran.length === 1);
    peer.down = true;
    term.drop();
    await until("broken", () => is(seen, "waiting") || is(seen, "connecting"));
    assert.equal(seen.line.command("two", bytes("rm\r")), false);
    term.reborn();
    peer.down = false;
    await until("open", () => is(seen, "open"));
    await until("a round trip", () => seen.trips.length > 1);
    assert.deepEqual(term.ran, ["echo\r"]);
    assert.deepEqual(term.ids, []);
  });

  test("cuts what is pasted into frames, in order", async () => {
    const seen = open();
    await until("open", () => is(seen, "open"));
    const big = noise(300_000, 3);
    let frames = 0;
    let got = Buffer.alloc(0);
    term.onInput = (b) => {
      frames++;
      got = Buffer.concat([got, b]);
    };
    seen.line.input(big);
    await until("typed", () => got.length === big.length);
    assert.ok(got.equals(big));
    assert.equal(frames, 5);
  });

  for (const code of [close.notFound, close.ended]) {
    test(`does not come back after ${code}`, async () => {
      const seen = open();
      await until("open", () => is(seen, "open"));
      term.viewers.forEach((v) => v.ws.close(code));
      await until("closed", () => is(seen, "closed"));
      assert.deepEqual(seen.line.state, { kind: "closed", code });
      await new Promise((r) => setTimeout(r, 30));
      assert.equal(term.attached, 1);
    });
  }

  test("comes back slowly when the server is busy", async () => {
    term.refuse = close.busy;
    const attempts: number[] = [];
    const seen = open({ backoff: (a) => (attempts.push(a), 1) });
    await until("refused", () => attempts.length > 0);
    assert.ok(attempts[0]! >= 4);
    assert.ok(seen.states.some((s) => s.kind === "waiting" && s.busy));
    term.refuse = 0;
    await until("open", () => is(seen, "open"));
  });

  test("notices that nothing comes back, takes no keys meanwhile, and reconnects", async () => {
    const seen = open({ ping: 20, stalled: 60, dead: 200 });
    await until("open", () => is(seen, "open"));
    await until("a round trip", () => seen.trips.length > 0);
    assert.ok(seen.trips[0]! < 1000);
    term.mute = true;
    await until("stalled", () => is(seen, "stalled"));
    assert.equal(seen.line.input(bytes("a")), false);
    term.print("x"); // anything that comes is a sign of life
    await until("open", () => is(seen, "open"));
    const before = term.attached;
    await until("reconnect", () => term.attached > before);
    term.mute = false;
    await until("open", () => is(seen, "open"));
  });

  test("tells its size when it comes and whenever it changes", async () => {
    term.attached = 1; // the terminal is there already, 24 by 80
    const seen = open();
    await until("resize", () => term.sizes.length === 1);
    seen.line.resize({ rows: 10, cols: 40 });
    await until("resize", () => term.sizes.length === 2);
    assert.deepEqual(term.sizes, [{ rows: 30, cols: 100 }, { rows: 10, cols: 40 }]);
    term.size = { rows: 1, cols: 1 };
    seen.line.drop();
    await until("resize", () => term.sizes.length === 3);
    assert.deepEqual(term.sizes[2], { rows: 10, cols: 40 });
  });

  test("stops at the window while nothing is drawn", async () => {
    const seen = open();
    seen.ack = false;
    term.print(noise(1 << 20, 9));
    await until("a window", () => seen.length === term.window);
    await new Promise((r) => setTimeout(r, 30));
    assert.equal(seen.length, term.window);
    seen.ack = true;
    seen.line.ack(seen.length);
    await until("all", () => seen.length === 1 << 20);
  });
});
