// Serves the fixture page, for looking at it.

import { Fixture } from "./fixture";

const f = new Fixture();
const term = f.peer.terminal("1");
term.print("\x1b[?2004h$ ");
term.onInput = (b) => term.print(Buffer.from(b).toString().replaceAll("\r", "\r\n$ "));
term.onCommand = (b) => term.print(`${Buffer.from(b).toString().trimEnd()}\r\n$ `);
console.log(await f.listen(Number(process.env["PORT"] ?? 8090)));
