// What this browser remembers: looks, and how far each terminal was drawn.
// Storage may be off or full; then nothing is remembered, and that is all.

const prefix = "berth.";

export function recall<T>(key: string, fallback: T): T {
  try {
    const s = localStorage.getItem(prefix + key);
    return s === null ? fallback : (JSON.parse(s) as T);
  } catch {
    return fallback;
  }
}

export function remember(key: string, value: unknown): void {
  try {
    localStorage.setItem(prefix + key, JSON.stringify(value));
  } catch {
    // Not remembered.
  }
}
