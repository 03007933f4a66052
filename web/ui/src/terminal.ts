// A Screen is one terminal as the learner sees it: an element and callbacks.
// It knows nothing of the network.

import { FitAddon } from "@xterm/addon-fit";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal, type ITheme } from "@xterm/xterm";
import { copy } from "./clipboard";
import { maxSize, type Size } from "./protocol";

export interface ScreenEvents {
  /** Typed, pasted, or an answer that the terminal gives a program. */
  input(bytes: Uint8Array): void;
  /** The screen now has room for this many characters. */
  resize(size: Size): void;
  /** Output up to this offset is drawn. */
  drawn(offset: number): void;
  /** A sentence for the learner. */
  notice(text: string): void;
}

export interface Look {
  fontSize: number;
  screenReader: boolean;
}

/** More than this is not pasted: it belongs in a file. */
export const maxPaste = 1 << 20;

const utf8 = new TextEncoder();

const colours = [
  "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white",
  "brightBlack", "brightRed", "brightGreen", "brightYellow",
  "brightBlue", "brightMagenta", "brightCyan", "brightWhite",
] as const;

/** The terminal's colours, as the style sheet has them now. */
export function theme(): ITheme {
  const css = getComputedStyle(document.documentElement);
  const get = (name: string) => css.getPropertyValue(`--term-${name}`).trim();
  const t: ITheme = {
    background: get("bg"),
    foreground: get("fg"),
    cursor: get("cursor"),
    cursorAccent: get("bg"),
    selectionBackground: get("selection"),
  };
  colours.forEach((name, i) => (t[name] = get(String(i))));
  return t;
}

export class Screen {
  readonly element: HTMLElement;
  readonly #term: Terminal;
  readonly #fit = new FitAddon();
  readonly #observer: ResizeObserver;
  #frame = 0;
  #following = false; // the size changes because another viewer wished so
  #mute = true; // output is a replay: programs that asked have had their answers

  constructor(parent: HTMLElement, name: string, describedBy: string, look: Look, private readonly on: ScreenEvents) {
    const css = getComputedStyle(document.documentElement);
    this.element = document.createElement("div");
    this.element.className = "term";
    parent.append(this.element);

    this.#term = new Terminal({
      allowProposedApi: true, // for the Unicode addon
      cursorBlink: false,
      cursorInactiveStyle: "outline",
      fontFamily: css.getPropertyValue("--mono").trim(),
      fontSize: look.fontSize,
      lineHeight: 1.2,
      macOptionIsMeta: true,
      minimumContrastRatio: 4.5,
      screenReaderMode: look.screenReader,
      scrollback: 10_000,
      theme: theme(),
    });
    this.#term.loadAddon(this.#fit);
    this.#term.loadAddon(new Unicode11Addon());
    this.#term.unicode.activeVersion = "11";
    this.#term.loadAddon(new WebLinksAddon((_, uri) => window.open(uri, "_blank", "noopener")));
    this.#muteable();
    this.#term.open(this.element);
    this.#term.textarea?.setAttribute("aria-label", /terminal/i.test(name) ? name : `Terminal ${name}`);
    this.#term.textarea?.setAttribute("aria-describedby", describedBy);

    this.#term.onData((s) => on.input(utf8.encode(s)));
    this.#term.onBinary((s) => on.input(Uint8Array.from(s, (c) => c.charCodeAt(0))));
    this.#term.onResize(({ rows, cols }) => this.#following || on.resize({ rows, cols }));
    this.#term.attachCustomKeyEventHandler((e) => this.#key(e));
    // Before xterm's own listener: it would paste any amount.
    this.element.addEventListener("paste", (e) => this.#paste(e), { capture: true });

    this.#observer = new ResizeObserver(() => this.fit());
    this.#observer.observe(this.element);
    this.#measure();
  }

  get size(): Size {
    return { rows: this.#term.rows, cols: this.#term.cols };
  }

  /** Draws output. drawn is called with end when it has been. */
  write(bytes: Uint8Array, end: number): void {
    this.#term.write(bytes, () => this.on.drawn(end));
  }

  /** What is written from here on is a replay (true) or happens now (false). */
  replay(on: boolean): void {
    this.#term.write("", () => (this.#mute = on));
  }

  /** Forgets everything drawn so far. */
  clear(): void {
    this.#term.write("\x1bc");
  }

  /** Draws a line of ours, between the terminal's own. */
  say(text: string): void {
    this.#term.write(`\r\n\x1b[2m${text}\x1b[0m\r\n`);
  }

  /** The terminal now has this size, because another viewer wished so. */
  resized(size: Size): void {
    if (size.rows !== this.#term.rows || size.cols !== this.#term.cols) {
      this.#following = true;
      this.#term.resize(size.cols, size.rows);
      this.#following = false;
    }
  }

  focus(): void {
    this.#term.textarea?.focus({ preventScroll: true });
  }

  get focused(): boolean {
    return document.activeElement === this.#term.textarea;
  }

  paste(text: string): void {
    this.#term.paste(text);
  }

  /**
   * The bytes that type code here, and Enter behind it if it is to run: several
   * lines go in as one paste where the shell allows it.
   */
  keys(code: string, enter: boolean): Uint8Array {
    const text = code.replace(/\r?\n/g, "\r");
    const paste = text.includes("\r") && this.#term.modes.bracketedPasteMode;
    this.#term.scrollToBottom();
    return utf8.encode((paste ? `\x1b[200~${text}\x1b[201~` : text) + (enter ? "\r" : ""));
  }

  look(l: Look): void {
    this.#term.options.fontSize = l.fontSize;
    this.#term.options.screenReaderMode = l.screenReader;
    this.fit();
  }

  theme(): void {
    this.#term.options.theme = theme();
  }

  /** Fits the terminal to its element, soon. */
  fit(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#measure());
  }

  dispose(): void {
    cancelAnimationFrame(this.#frame);
    this.#observer.disconnect();
    this.#term.dispose();
    this.element.remove();
  }

  #measure(): void {
    const room = this.element.offsetWidth > 0 && this.element.offsetHeight > 0 ? this.#fit.proposeDimensions() : undefined;
    if (room && room.cols > 0 && room.rows > 0) {
      this.#term.resize(Math.min(room.cols, maxSize), Math.min(room.rows, maxSize));
    }
  }

  #key(e: KeyboardEvent): boolean {
    if (e.ctrlKey && e.shiftKey && !e.altKey && !e.metaKey) {
      if (e.code === "KeyC") {
        e.preventDefault();
        if (e.type === "keydown" && this.#term.hasSelection()) {
          void copy(this.#term.getSelection()).then((done) => {
            if (!done) {
              this.on.notice("The browser did not allow copying. Use the menu of the right mouse button.");
            }
          });
        }
        return false;
      }
      if (e.code === "KeyV") {
        return false; // the browser pastes
      }
    }
    return true;
  }

  #paste(e: ClipboardEvent): void {
    const text = e.clipboardData?.getData("text/plain") ?? "";
    if (text.length > maxPaste) {
      e.preventDefault();
      e.stopImmediatePropagation();
      this.on.notice("That is more than 1 MB, too much to paste into a terminal. Nothing was pasted.");
    }
  }

  // Programs ask the terminal what it is, where the cursor stands, which
  // colours it has. When old output is drawn again, or nobody looks at this
  // page, the answer would arrive in the shell as stray keystrokes.
  #muteable(): void {
    const hold = () => this.#mute || document.visibilityState === "hidden";
    const parser = this.#term.parser;
    for (const id of [
      { final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" },
      { final: "n" }, { prefix: "?", final: "n" },
      { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" },
      { final: "t" }, { prefix: ">", final: "q" },
    ]) {
      parser.registerCsiHandler(id, hold);
    }
    parser.registerDcsHandler({ intermediates: "$", final: "q" }, hold);
    for (const osc of [4, 10, 11, 12]) {
      parser.registerOscHandler(osc, (data) => data.endsWith("?") && hold());
    }
  }
}
