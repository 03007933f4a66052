// Caret notation, as labs/setup.go reads it: ^C is the byte 3, ^? is 127.

/** The bytes of keys in caret notation. */
export function caret(s: string): Uint8Array {
  const from = new TextEncoder().encode(s);
  const out: number[] = [];
  for (let i = 0; i < from.length; i++) {
    const c = from[i]!;
    const k = from[i + 1];
    if (c !== 0x5e || k === undefined) {
      out.push(c);
      continue;
    }
    i++;
    const big = k & ~0x20;
    if (k === 0x3f) {
      out.push(127);
    } else if (k >= 0x40 && k <= 0x5f) {
      out.push(k - 0x40);
    } else if (big >= 0x41 && big <= 0x5a) {
      out.push(big - 0x40);
    } else {
      out.push(c, k);
    }
  }
  return Uint8Array.from(out);
}
