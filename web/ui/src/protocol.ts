// The terminal protocol, as labs/terminal.go defines it: a frame is one kind
// byte and a payload, numbers are big-endian, one frame is one binary
// WebSocket message. The golden vectors in labs/testdata/frames.json hold for
// both sides.

export const kind = {
  input: 0x69, // i: bytes typed or pasted, never resent
  command: 0x63, // c: input from a click, with an id, at most once
  resize: 0x72, // r: rows, columns
  ack: 0x61, // a: offset drawn
  start: 0x73, // s: offset of the first byte that follows, rows, columns
  output: 0x6f, // o: offset, bytes
  exit: 0x78, // x: status of the shell
  role: 0x6e, // n: 'w' may type, 'r' may only read
  ping: 0x70, // p: answered with the same payload
} as const;

/** Payload bytes of one input frame. */
export const maxInput = 64 << 10;
/** Bytes of any frame, the kind included. */
export const maxFrame = 128 << 10;
/** Rows or columns that a terminal may have, from 1. */
export const maxSize = 1000;
/** Bytes of output that a terminal keeps. */
export const ringSize = 1 << 20;

/** WebSocket close codes with a meaning of ours. */
export const close = { notFound: 4404, ended: 4410, busy: 4429 } as const;

export interface Size {
  rows: number;
  cols: number;
}

export type Frame =
  | { kind: "input"; bytes: Uint8Array }
  | { kind: "command"; id: string; bytes: Uint8Array }
  | { kind: "resize"; size: Size }
  | { kind: "ack"; offset: number }
  | { kind: "start"; offset: number; size: Size }
  | { kind: "output"; offset: number; bytes: Uint8Array }
  | { kind: "exit"; status: number }
  | { kind: "role"; mayType: boolean }
  | { kind: "ping"; payload: Uint8Array };

const utf8 = new TextEncoder();

function frame(first: number, payload: number): [Uint8Array<ArrayBuffer>, DataView] {
  const b = new Uint8Array(1 + payload);
  b[0] = first;
  return [b, new DataView(b.buffer, 1)];
}

/** Encodes a frame as one WebSocket message. */
export function encode(f: Frame): Uint8Array<ArrayBuffer> {
  switch (f.kind) {
    case "input": {
      const [b] = frame(kind.input, f.bytes.length);
      b.set(f.bytes, 1);
      return b;
    }
    case "command": {
      const id = utf8.encode(f.id).subarray(0, 255);
      const [b, v] = frame(kind.command, 1 + id.length + f.bytes.length);
      v.setUint8(0, id.length);
      b.set(id, 2);
      b.set(f.bytes, 2 + id.length);
      return b;
    }
    case "resize": {
      const [b, v] = frame(kind.resize, 4);
      putSize(v, 0, f.size);
      return b;
    }
    case "ack": {
      const [b, v] = frame(kind.ack, 8);
      v.setBigUint64(0, BigInt(f.offset));
      return b;
    }
    case "start": {
      const [b, v] = frame(kind.start, 12);
      v.setBigUint64(0, BigInt(f.offset));
      putSize(v, 8, f.size);
      return b;
    }
    case "output": {
      const [b, v] = frame(kind.output, 8 + f.bytes.length);
      v.setBigUint64(0, BigInt(f.offset));
      b.set(f.bytes, 9);
      return b;
    }
    case "exit": {
      const [b, v] = frame(kind.exit, 4);
      v.setInt32(0, f.status);
      return b;
    }
    case "role": {
      const [b, v] = frame(kind.role, 1);
      v.setUint8(0, f.mayType ? 0x77 : 0x72);
      return b;
    }
    case "ping": {
      const [b] = frame(kind.ping, f.payload.length);
      b.set(f.payload, 1);
      return b;
    }
  }
}

/**
 * Decodes one WebSocket message. The bytes of the frame share its buffer.
 * Throws on a message that is no frame; gives null for a kind that this page
 * does not know, which a newer server may send.
 */
export function decode(message: ArrayBuffer | Uint8Array): Frame | null {
  const b = message instanceof Uint8Array ? message : new Uint8Array(message);
  if (b.length === 0 || b.length > maxFrame) {
    throw new Error(`terminal frame of ${b.length} bytes`);
  }
  const p = b.subarray(1);
  const v = new DataView(p.buffer, p.byteOffset, p.byteLength);
  const want = (ok: boolean) => {
    if (!ok) {
      throw new Error(`terminal frame ${String.fromCharCode(b[0]!)} of ${p.length} bytes`);
    }
  };
  switch (b[0]) {
    case kind.input:
      return { kind: "input", bytes: p };
    case kind.command: {
      want(p.length >= 1 && p.length >= 1 + p[0]!);
      const n = 1 + p[0]!;
      return { kind: "command", id: new TextDecoder().decode(p.subarray(1, n)), bytes: p.subarray(n) };
    }
    case kind.resize: {
      want(p.length === 4);
      const size = getSize(v, 0);
      want(size.rows >= 1 && size.cols >= 1 && size.rows <= maxSize && size.cols <= maxSize);
      return { kind: "resize", size };
    }
    case kind.ack:
      want(p.length === 8);
      return { kind: "ack", offset: Number(v.getBigUint64(0)) };
    case kind.start:
      want(p.length === 12);
      return { kind: "start", offset: Number(v.getBigUint64(0)), size: getSize(v, 8) };
    case kind.output:
      want(p.length >= 8);
      return { kind: "output", offset: Number(v.getBigUint64(0)), bytes: p.subarray(8) };
    case kind.exit:
      want(p.length === 4);
      return { kind: "exit", status: v.getInt32(0) };
    case kind.role:
      want(p.length === 1);
      return { kind: "role", mayType: p[0] === 0x77 };
    case kind.ping:
      return { kind: "ping", payload: p };
  }
  return null;
}

function putSize(v: DataView, at: number, s: Size): void {
  v.setUint16(at, s.rows);
  v.setUint16(at + 2, s.cols);
}

function getSize(v: DataView, at: number): Size {
  return { rows: v.getUint16(at), cols: v.getUint16(at + 2) };
}
