// What a file is written in, by its name: highlighting and indentation.

import { json } from "@codemirror/lang-json";
import { yaml } from "@codemirror/lang-yaml";
import { StreamLanguage, type StreamParser } from "@codemirror/language";
import { css } from "@codemirror/legacy-modes/mode/css";
import { dockerFile } from "@codemirror/legacy-modes/mode/dockerfile";
import { go } from "@codemirror/legacy-modes/mode/go";
import { javascript, typescript } from "@codemirror/legacy-modes/mode/javascript";
import { nginx } from "@codemirror/legacy-modes/mode/nginx";
import { properties } from "@codemirror/legacy-modes/mode/properties";
import { python } from "@codemirror/legacy-modes/mode/python";
import { shell } from "@codemirror/legacy-modes/mode/shell";
import { toml } from "@codemirror/legacy-modes/mode/toml";
import { html } from "@codemirror/legacy-modes/mode/xml";
import type { Extension } from "@codemirror/state";

export interface Language {
  name: string;
  /** Columns of one level; 0 indents by tabs. */
  indent: number;
  support: () => Extension;
}

const old = <S>(p: StreamParser<S>) => () => StreamLanguage.define(p);

/** Headings, fences, code, quotes, lists, emphasis and links: enough to find one's way in a README. */
const markdown: StreamParser<{ fence: string }> = {
  name: "markdown",
  startState: () => ({ fence: "" }),
  token(s, state) {
    if (s.sol()) {
      const fence = s.match(/^\s*(`{3,}|~{3,})/) as RegExpMatchArray | null;
      if (fence) {
        const mark = fence[1]!;
        if (state.fence === "") {
          state.fence = mark;
        } else if (mark[0] === state.fence[0] && mark.length >= state.fence.length && s.match(/^\s*$/, false)) {
          state.fence = "";
        }
        s.skipToEnd();
        return "meta";
      }
      if (state.fence === "") {
        if (s.match(/^#{1,6}\s/)) {
          s.skipToEnd();
          return "heading";
        }
        if (s.match(/^\s*>/)) {
          return "comment";
        }
        if (s.match(/^\s*([-*+]|\d+[.)])\s/)) {
          return "keyword";
        }
      }
    }
    if (state.fence !== "") {
      s.skipToEnd();
      return "string";
    }
    if (s.match(/^(`+)[^`]+\1/)) {
      return "string";
    }
    if (s.match(/^(\*\*|__)[^*_]+\1/)) {
      return "strong";
    }
    if (s.match(/^(\*|_)[^*_\s][^*_]*\1/)) {
      return "emphasis";
    }
    if (s.match(/^!?\[[^\]]*\]\([^)]*\)/)) {
      return "link";
    }
    s.next();
    s.eatWhile(/[\w\s,.;]/);
    return null;
  },
};

const languages: [Language, RegExp][] = [
  [{ name: "YAML", indent: 2, support: yaml }, /\.ya?ml$/i],
  [{ name: "Dockerfile", indent: 4, support: old(dockerFile) }, /(^|[./])(docker|container)file([.-][^/]*)?$/i],
  [{ name: "JSON", indent: 2, support: json }, /\.(json|jsonc|webmanifest)$/i],
  [{ name: "TypeScript", indent: 2, support: old(typescript) }, /\.[cm]?tsx?$/i],
  [{ name: "JavaScript", indent: 2, support: old(javascript) }, /\.[cm]?jsx?$/i],
  [{ name: "Python", indent: 4, support: old(python) }, /\.pyi?$/i],
  [{ name: "Go", indent: 0, support: old(go) }, /\.go$/i],
  [{ name: "Shell", indent: 2, support: old(shell) }, /(\.(sh|bash|zsh|ksh)|\/\.?(bashrc|bash_profile|profile|bash_aliases))$/i],
  [{ name: "Markdown", indent: 2, support: old(markdown) }, /\.(md|markdown)$/i],
  [{ name: "HTML", indent: 2, support: old(html) }, /\.(html?|xhtml|svg|xml)$/i],
  [{ name: "CSS", indent: 2, support: old(css) }, /\.css$/i],
  [{ name: "TOML", indent: 2, support: old(toml) }, /\.toml$/i],
  [{ name: "nginx", indent: 4, support: old(nginx) }, /nginx[^/]*\.conf$|\/nginx\/.*\.conf$/i],
  [{ name: "Settings", indent: 2, support: old(properties) }, /(\.(ini|conf|cfg|env|properties|service)|\/\.env)$/i],
];

const plain: Language = { name: "Text", indent: 4, support: () => [] };
const makefile: Language = { name: "Makefile", indent: 0, support: () => [] };

/** The language of a file: by its name, or by what its first line says. */
export function languageOf(path: string, text: string): Language {
  if (/(^|\/)(gnu)?makefile$|\.mk$/i.test(path)) {
    return makefile;
  }
  const found = languages.find(([, name]) => name.test(path))?.[0];
  if (found) {
    return found;
  }
  const first = /^#!.*\b(sh|bash|dash|zsh|python3?|node)\b/.exec(text.slice(0, 200))?.[1];
  const named = first?.startsWith("python") ? "Python" : first === "node" ? "JavaScript" : first ? "Shell" : "";
  return languages.find(([l]) => l.name === named)?.[0] ?? plain;
}
