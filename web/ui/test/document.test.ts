import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Document, type DocumentHost, type DocumentState } from "../src/document";

/** A file on a disk that others write to as well. */
class Disk implements DocumentHost {
  version = 1;
  content = "one";
  gone = false;
  now = "one"; // what the editor holds
  states: DocumentState[] = [];
  writes: string[] = [];
  fails: { status?: number; message: string }[] = [];
  hold: Promise<void> | null = null;
  #waiting: { kind: string; go: () => void }[] = [];

  async read() {
    return { path: "/f", text: this.content, version: String(this.version) };
  }

  async write(text: string, was: string) {
    const hold = this.hold;
    if (hold) {
      await hold;
    }
    const fail = this.fails.shift();
    if (fail) {
      throw fail;
    }
    if (this.gone ? was !== "" : was !== String(this.version)) {
      throw { status: 409, message: "changed", version: this.gone ? "" : String(this.version) };
    }
    this.gone = false;
    this.content = text;
    this.writes.push(text);
    return { version: String(++this.version) };
  }

  other(text: string): void {
    this.content = text;
    this.version++;
  }

  text(): string {
    return this.now;
  }

  state(s: DocumentState): void {
    this.states.push(s);
    this.#waiting = this.#waiting.filter((w) => w.kind !== s.kind || (w.go(), false));
  }

  until(kind: DocumentState["kind"]): Promise<void> {
    return new Promise((go, no) => {
      const timer = setTimeout(() => no(new Error(`never ${kind}: ${JSON.stringify(this.states)}`)), 3000);
      this.#waiting.push({
        kind,
        go: () => {
          clearTimeout(timer);
          go();
        },
      });
    });
  }
}

const open = (d: Disk) => new Document(String(d.version), d, { pause: 20, again: 30 });

describe("a document", () => {
  test("is saved a moment after the last key, once", async () => {
    const d = new Disk();
    const doc = open(d);
    for (const t of ["t", "tw", "two"]) {
      d.now = t;
      doc.edited();
    }
    await d.until("saved");
    assert.deepEqual(d.writes, ["two"]);
  });

  test("is saved again when it was edited while it was saved", async () => {
    const d = new Disk();
    let go = () => {};
    d.hold = new Promise((r) => (go = r));
    const doc = open(d);
    d.now = "a";
    doc.edited();
    const saving = doc.save();
    d.now = "b";
    doc.edited();
    d.hold = null;
    go();
    await saving;
    assert.equal(doc.unsaved, true);
    await d.until("saved");
    assert.equal(d.content, "b");
  });

  test("never overwrites what somebody else wrote", async () => {
    const d = new Disk();
    const doc = open(d);
    d.other("theirs");
    d.now = "mine";
    doc.edited();
    await doc.save();
    assert.deepEqual(doc.state, { kind: "changed", gone: false });
    doc.edited(); // typing on does not, either
    await doc.save();
    assert.equal(d.content, "theirs");
    await doc.overwrite();
    assert.equal(d.content, "mine");
    assert.equal(doc.unsaved, false);
  });

  test("asks again when it changed once more before it was overwritten", async () => {
    const d = new Disk();
    const doc = open(d);
    d.other("theirs");
    d.now = "mine";
    doc.edited();
    await doc.save();
    d.other("theirs, too");
    await doc.overwrite();
    assert.deepEqual([doc.state.kind, d.content], ["changed", "theirs, too"]);
    assert.equal(await doc.takeDisk(), "theirs, too");
    d.now = "mine after all";
    doc.edited();
    await doc.save();
    assert.equal(d.content, "mine after all");
  });

  test("says that it was deleted, and can be written again", async () => {
    const d = new Disk();
    const doc = open(d);
    d.gone = true;
    d.now = "mine";
    doc.edited();
    await doc.save();
    assert.deepEqual(doc.state, { kind: "changed", gone: true });
    await doc.overwrite();
    assert.deepEqual([d.gone, d.content], [false, "mine"]);
  });

  test("keeps the text while the server cannot be reached, and tries again", async () => {
    const d = new Disk();
    const doc = open(d);
    d.fails = [{ message: "away" }, { status: 503, message: "busy" }];
    d.now = "mine";
    doc.edited();
    await d.until("waiting");
    assert.equal(doc.unsaved, true);
    d.now = "mine, and more";
    doc.edited();
    await d.until("saved");
    assert.deepEqual(d.writes, ["mine, and more"]);
  });

  test("says why it was refused, and does not try that again by itself", async () => {
    const d = new Disk();
    const doc = open(d);
    d.fails = [{ status: 400, message: "Too large." }];
    doc.edited();
    await doc.save();
    assert.deepEqual(doc.state, { kind: "refused", why: "Too large." });
    await new Promise((r) => setTimeout(r, 80));
    assert.deepEqual(d.writes, []);
    doc.edited();
    await d.until("saved");
  });

  test("takes over what is on disk only without edits", async () => {
    const d = new Disk();
    const doc = open(d);
    assert.equal(await doc.refresh(), null);
    d.other("theirs");
    assert.equal(await doc.refresh(), "theirs");
    assert.equal(await doc.refresh(), null);
    doc.edited();
    d.other("more");
    assert.equal(await doc.refresh(), null);
    doc.close();
  });
});
