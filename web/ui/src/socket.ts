// A Line is a terminal's connection: a WebSocket that comes back by itself and
// goes on at the byte where it broke off. It knows the offset of the next byte
// it wants, so nothing is lost or drawn twice. Keystrokes are sent once or not
// at all; a click's command may be sent again after a break, with the same id,
// because the terminal runs an id at most once.

import { close, decode, encode, maxInput, type Frame, type Size } from "./protocol";

export type LineState =
  | { kind: "connecting" }
  | { kind: "open" }
  | { kind: "stalled" } // connected, but nothing comes back
  | { kind: "waiting"; until: number; busy: boolean } // broken; tries again then (Date.now() ms)
  | { kind: "closed"; code: number }; // 4404, 4410, or ended by us

export interface Listener {
  state(s: LineState): void;
  /** Output follows from offset. jumped: what is on the screen does not lead up to it. */
  start(offset: number, size: Size, jumped: boolean): void;
  output(bytes: Uint8Array, offset: number): void;
  resize(size: Size): void;
  exit(status: number): void;
  role(mayType: boolean): void;
  /** A round trip took this many milliseconds. */
  latency(ms: number): void;
  /** The line broke while input was on its way; nobody knows if it arrived. */
  unsure(): void;
}

export interface LineOptions {
  /** Address to connect to for output from this offset. */
  url(from: number, size: Size): string;
  size: Size;
  WebSocket?: typeof WebSocket;
  /** Milliseconds to wait before attempt n (from 0). */
  backoff?: (attempt: number) => number;
  /** Milliseconds: between pings, until silence counts as stalled, as dead. */
  ping?: number;
  stalled?: number;
  dead?: number;
}

/** How long a click's command is worth sending again after a break. */
const commandLife = 10_000;

function jitter(attempt: number): number {
  return Math.min(8000, 250 * 2 ** attempt) * (0.5 + Math.random() / 2);
}

export class Line {
  /** Offset of the next byte wanted; -1 before anything came. */
  next = -1;
  state: LineState = { kind: "connecting" };

  #ws: WebSocket | null = null;
  #size: Size;
  #started = false; // the first frame came
  #attempt = 0;
  #opened = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #pulse: ReturnType<typeof setTimeout> | undefined;
  #asked = 0; // when the unanswered ping was sent, 0 when none is
  #ping = 0; // its number
  #typed = false; // input was sent since the last frame came
  #heard = 0;
  #commands: { id: string; bytes: Uint8Array; at: number }[] = [];

  constructor(private readonly o: LineOptions, private readonly on: Listener) {
    this.#size = o.size;
    this.#connect();
  }

  /** Sends typed or pasted bytes now, or gives false: they are never kept. */
  input(bytes: Uint8Array): boolean {
    if (this.state.kind !== "open") {
      return false;
    }
    for (let i = 0; i < bytes.length; i += maxInput) {
      this.#send({ kind: "input", bytes: bytes.subarray(i, i + maxInput) });
    }
    this.#typed = true;
    this.#ask(1000);
    return true;
  }

  /** Sends a click's command now, or gives false. */
  command(id: string, bytes: Uint8Array): boolean {
    if (this.state.kind !== "open") {
      return false;
    }
    this.#commands.push({ id, bytes, at: performance.now() });
    this.#send({ kind: "command", id, bytes });
    this.#ask(1000);
    return true;
  }

  resize(size: Size): void {
    this.#size = size;
    if (this.#started) {
      this.#send({ kind: "resize", size });
    }
  }

  ack(offset: number): void {
    if (this.#started) {
      this.#send({ kind: "ack", offset });
    }
  }

  /** Something suggests that the network changed: look at once. */
  wake(): void {
    if (this.state.kind === "waiting") {
      this.#attempt = 0;
      this.#connect();
    } else if (this.#started) {
      this.#asked = 0;
      this.#ask(0);
    }
  }

  /** Breaks the connection as a bad network would; it comes back. */
  drop(): void {
    this.#broken(1006);
  }

  close(): void {
    this.#detach();
    this.#set({ kind: "closed", code: 1000 });
  }

  #set(s: LineState): void {
    this.state = s;
    this.on.state(s);
  }

  #send(f: Frame): void {
    if (this.#ws?.readyState === 1) {
      this.#ws.send(encode(f));
    }
  }

  #connect(): void {
    this.#detach();
    if (this.state.kind !== "connecting") {
      this.#set({ kind: "connecting" });
    }
    const WS = this.o.WebSocket ?? WebSocket;
    const ws = new WS(this.o.url(this.next, this.#size));
    this.#ws = ws;
    ws.binaryType = "arraybuffer";
    ws.onmessage = (e) => {
      try {
        this.#frame(e.data as ArrayBuffer);
      } catch {
        this.#broken(1002);
      }
    };
    ws.onclose = (e) => this.#broken(e.code);
    ws.onerror = () => {}; // a close follows
    this.#pulse = setTimeout(() => this.#broken(1006), this.o.dead ?? 10_000);
  }

  #detach(): void {
    clearTimeout(this.#retry);
    clearTimeout(this.#pulse);
    const ws = this.#ws;
    this.#ws = null;
    this.#started = false;
    this.#asked = 0;
    if (ws) {
      ws.onmessage = ws.onclose = null;
      ws.close();
    }
  }

  #broken(code: number): void {
    if (this.state.kind === "closed") {
      return;
    }
    if (this.#typed) {
      this.#typed = false;
      this.on.unsure();
    }
    if (this.#opened > 0 && performance.now() - this.#opened > 5000) {
      this.#attempt = 0;
    }
    this.#opened = 0;
    this.#detach();
    if (code === close.notFound || code === close.ended) {
      this.#set({ kind: "closed", code });
      return;
    }
    if (code === close.busy) {
      this.#attempt = Math.max(this.#attempt, 4);
    }
    const wait = (this.o.backoff ?? jitter)(this.#attempt++);
    this.#retry = setTimeout(() => this.#connect(), wait);
    this.#set({ kind: "waiting", until: Date.now() + wait, busy: code === close.busy });
  }

  #frame(message: ArrayBuffer): void {
    const f = decode(message);
    this.#heard = performance.now();
    this.#typed = false;
    if (this.state.kind === "stalled") {
      this.#set({ kind: "open" });
    }
    if (!f) {
      return;
    }
    if (f.kind === "start") {
      this.#start(f.offset, f.size);
      return;
    }
    if (f.kind === "ping") {
      if (this.#asked && new DataView(f.payload.slice().buffer).getUint32(0) === this.#ping) {
        this.on.latency(this.#heard - this.#asked);
        this.#asked = 0;
      }
      return;
    }
    if (!this.#started) {
      throw new Error(`terminal frame ${f.kind} before the start`);
    }
    switch (f.kind) {
      case "output": {
        if (f.offset > this.next) {
          throw new Error(`terminal output at ${f.offset}, wanted ${this.next}`);
        }
        const bytes = f.bytes.subarray(this.next - f.offset);
        if (bytes.length > 0) {
          const at = this.next;
          this.next += bytes.length;
          this.on.output(bytes, at);
        }
        return;
      }
      case "resize":
        return this.on.resize(f.size);
      case "exit":
        return this.on.exit(f.status);
      case "role":
        return this.on.role(f.mayType);
    }
  }

  #start(offset: number, size: Size): void {
    const first = this.next < 0;
    const again = offset < this.next; // another terminal's life: ids are forgotten
    const jumped = !first && offset !== this.next;
    this.next = offset;
    this.#started = true;
    this.#opened = performance.now();
    clearTimeout(this.#pulse);
    this.on.start(offset, size, jumped);
    this.#set({ kind: "open" });
    if (size.rows !== this.#size.rows || size.cols !== this.#size.cols) {
      this.#send({ kind: "resize", size: this.#size });
    }
    this.#commands = this.#commands.filter((c) => !again && this.#opened - c.at < commandLife);
    for (const c of this.#commands) {
      this.#send({ kind: "command", id: c.id, bytes: c.bytes });
    }
    this.#ask(0);
  }

  // Asks whether the line is alive, unless something came within quiet ms or a
  // question is open, and looks again later.
  #ask(quiet: number): void {
    const now = performance.now();
    this.#commands = this.#commands.filter((c) => now - c.at < commandLife);
    if (!this.#asked && now - this.#heard >= quiet) {
      this.#asked = now;
      const payload = new Uint8Array(4);
      new DataView(payload.buffer).setUint32(0, ++this.#ping);
      this.#send({ kind: "ping", payload });
    }
    const every = this.o.ping ?? 5000;
    clearTimeout(this.#pulse);
    const due = performance.now();
    const wait = this.#asked ? Math.min(1000, (this.o.stalled ?? 3000) / 2) : every;
    this.#pulse = setTimeout(() => {
      // A sleeping tab or machine wakes up late: ask afresh.
      if (performance.now() - due > wait + 5000) {
        this.#asked = 0;
      }
      this.#watch();
    }, wait);
  }

  #watch(): void {
    const silent = this.#asked ? performance.now() - Math.max(this.#asked, this.#heard) : 0;
    if (silent > (this.o.dead ?? 10_000)) {
      this.#broken(1006);
      return;
    }
    if (silent > (this.o.stalled ?? 3000) && this.state.kind === "open") {
      this.#set({ kind: "stalled" });
    }
    this.#ask(0);
  }
}
