// The other end of the terminal protocol, for tests: numbered output, a ring,
// a window of unacknowledged bytes, command ids that run at most once. Tests
// break its connections as a bad network would.

import { createHash } from "node:crypto";
import type { Server } from "node:http";
import { WebSocketServer, type WebSocket as Socket } from "ws";
import { close, decode, encode, ringSize, type Frame, type Size } from "../src/protocol";

export class Terminal {
  output = Buffer.alloc(0); // all of it, from offset base
  base = 0;
  size: Size = { rows: 24, cols: 80 };
  typed: number[] = []; // bytes that arrived, in order
  ran: string[] = []; // commands that ran
  ids: string[] = []; // ids that arrived, dropped ones too
  sizes: Size[] = [];
  window = 128 << 10;
  /** Largest number of bytes that were ever unacknowledged. */
  widest = 0;
  /** Bytes of a frame, at most. */
  chunk = 16 << 10;
  /** Answers to pings are held back while this is set. */
  mute = false;
  refuse = 0; // close code for new viewers
  readonly viewers = new Set<Viewer>();
  onInput: ((bytes: Uint8Array) => void) | null = null;
  onCommand: ((bytes: Uint8Array) => void) | null = null;
  attached = 0;

  get end(): number {
    return this.base + this.output.length;
  }

  print(b: Uint8Array | string): void {
    this.output = Buffer.concat([this.output, typeof b === "string" ? Buffer.from(b) : b]);
    const over = this.output.length - ringSize;
    if (over > 0) {
      this.output = this.output.subarray(over);
      this.base += over;
    }
    this.viewers.forEach((v) => v.pump());
  }

  /** The shell and its terminal are new: offsets begin at 0 again. */
  reborn(): void {
    this.output = Buffer.alloc(0);
    this.base = 0;
    this.ids = [];
  }

  attach(ws: Socket, from: number): void {
    if (this.refuse) {
      ws.close(this.refuse);
      return;
    }
    this.attached++;
    const v = new Viewer(this, ws, from);
    this.viewers.add(v);
    ws.on("close", () => this.viewers.delete(v));
  }

  /** Breaks every connection without a word. */
  drop(): void {
    this.viewers.forEach((v) => v.ws.terminate());
  }
}

class Viewer {
  next: number;
  acked: number;

  constructor(private readonly term: Terminal, readonly ws: Socket, from: number) {
    const known = from >= 0 && from >= term.base && from <= term.end;
    this.next = known ? from : term.base;
    this.acked = this.next;
    this.send({ kind: "start", offset: this.next, size: term.size });
    this.send({ kind: "role", mayType: true });
    ws.on("message", (m: Buffer) => this.frame(decode(m)!));
    this.pump();
  }

  send(f: Frame): void {
    if (this.ws.readyState === 1) {
      this.ws.send(encode(f));
    }
  }

  pump(): void {
    const t = this.term;
    while (this.next < t.end && this.next - this.acked < t.window && this.ws.readyState === 1) {
      this.next = Math.max(this.next, t.base);
      const n = Math.min(t.chunk, t.end - this.next, t.window - (this.next - this.acked));
      const at = this.next - t.base;
      this.send({ kind: "output", offset: this.next, bytes: t.output.subarray(at, at + n) });
      this.next += n;
      t.widest = Math.max(t.widest, this.next - this.acked);
    }
  }

  private frame(f: Frame): void {
    const t = this.term;
    switch (f.kind) {
      case "input":
        t.typed.push(...f.bytes);
        t.onInput?.(f.bytes);
        break;
      case "command":
        if (!t.ids.includes(f.id)) {
          t.ran.push(Buffer.from(f.bytes).toString());
          t.onCommand?.(f.bytes);
        }
        t.ids.push(f.id);
        break;
      case "resize":
        t.size = f.size;
        t.sizes.push(f.size);
        t.viewers.forEach((v) => v.send({ kind: "resize", size: f.size }));
        break;
      case "ack":
        this.acked = Math.max(this.acked, f.offset);
        this.pump();
        break;
      case "ping":
        if (!t.mute) {
          this.send(f);
        }
        break;
    }
  }
}

/** Serves terminals at …/terminals/NAME of an HTTP server. */
export class Peer {
  readonly terminals = new Map<string, Terminal>();
  /** New connections are refused before they are made. */
  down = false;
  readonly #wss = new WebSocketServer({ noServer: true });

  constructor(server: Server) {
    server.on("upgrade", (req, socket, head) => {
      const u = new URL(req.url ?? "/", "http://peer");
      const name = /\/terminals\/([a-z0-9-]{1,16}(@[2-9])?)$/.exec(decodeURIComponent(u.pathname))?.[1];
      if (this.down || !name) {
        socket.destroy();
        return;
      }
      this.#wss.handleUpgrade(req, socket, head, (ws) => {
        const t = this.terminal(name);
        if (t.attached === 0) {
          t.size = { rows: Number(u.searchParams.get("rows")), cols: Number(u.searchParams.get("cols")) };
        }
        t.attach(ws, Number(u.searchParams.get("from")));
      });
    });
  }

  terminal(name: string): Terminal {
    let t = this.terminals.get(name);
    if (!t) {
      this.terminals.set(name, (t = new Terminal()));
    }
    return t;
  }

  drop(): void {
    this.terminals.forEach((t) => t.drop());
  }

  closeAll(code: number = close.ended): void {
    this.terminals.forEach((t) => t.viewers.forEach((v) => v.ws.close(code)));
  }

  stop(): void {
    this.drop();
    this.#wss.close();
  }
}

/** Bytes that look like a terminal's and never repeat. */
export function noise(length: number, seed: number): Buffer {
  const out = Buffer.alloc(length);
  let at = 0;
  for (let i = 0; at < length; i++) {
    const line = `${seed}.${i} ${createHash("sha1").update(`${seed}/${i}`).digest("hex")} äöü 試験 🚢\r\n`;
    at += Buffer.from(line).copy(out, at);
  }
  return out;
}
