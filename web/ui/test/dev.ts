// Serves the fixture page, for looking at it: PAGE is JSON of PageOptions.

import { Fixture, type PageOptions } from "./fixture";

const f = new Fixture();
const options = process.env["PAGE"];
if (options) {
  f.enrich(JSON.parse(options) as PageOptions);
}
f.labs = ["Containers", "Images", "", "Kubernetes"].flatMap((course, k) =>
  Array.from({ length: 4 }, (_, i) => ({ course, title: `${course || "A lab"} ${i + 1}`, ...(k === 3 ? { cannot: "It needs Kubernetes." } : {}) })),
);
f.put("/root/site/index.html", "<!doctype html>\n<title>Hello</title>\n<h1>Hello from a container</h1>\n");
f.put("/root/site/style.css", "h1 {\n  color: teal;\n}\n");
f.put("/root/Dockerfile", "# A small server\nFROM nginx:1.27\nCOPY site /usr/share/nginx/html\nEXPOSE 80\n");
f.put("/root/compose.yaml", "services:\n  web:\n    build: .\n    ports:\n      - 8080:80\n");
f.put("/root/.bashrc", "alias ll='ls -l'\n");
f.put("/etc/hosts", "127.0.0.1 localhost\n");
const term = f.peer.terminal("1");
term.print("\x1b[?2004h$ ");
term.onInput = (b) => term.print(Buffer.from(b).toString().replaceAll("\r", "\r\n$ "));
term.onCommand = (b) => term.print(`${Buffer.from(b).toString().trimEnd()}\r\n$ `);
console.log(await f.listen(Number(process.env["PORT"] ?? 8090)));
