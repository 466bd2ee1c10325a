// Cases 33-47 in Node, whose sockets are always non-blocking and registered in epoll.
"use strict";
const net = require("net");
const dgram = require("dgram");
const fs = require("fs");
const http = require("http");
const { fork } = require("child_process");

/** The lines that come, one a call; what is left at the end, then "". */
function reader(socket) {
  let text = "";
  let ended = false;
  let wake = () => {};
  let failure;
  socket.on("data", (piece) => ((text += piece), wake()));
  socket.on("end", () => ((ended = true), wake()));
  socket.on("error", (error) => ((failure = error), wake()));
  return async () => {
    const late = Date.now() + 5000;
    while (!text.includes("\n") && !ended && !failure && Date.now() < late) {
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, 200);
      });
    }
    const at = text.indexOf("\n") + 1 || text.length;
    const line = text.slice(0, at);
    text = text.slice(at);
    return line || (failure && `[${failure.code}]`) || (ended ? "[end]" : "[nothing comes]");
  };
}

const dial = (options) =>
  new Promise((resolve, reject) => {
    const socket = net.connect({ ...options, allowHalfOpen: true }, () => resolve(socket));
    socket.once("error", reject);
  });

async function talk(p, socket, what) {
  const line = reader(socket);
  const [token, peer, port] = (await line()).split(" ");
  p.saw(`${what}: greeting`, [token, peer]);
  if (socket.remoteAddress) p.saw(`${what}: own`, [socket.localAddress, socket.localPort === Number(port), socket.remoteAddress]);
  socket.write("over and back\n");
  p.saw(`${what}: echo`, await line());
  socket.end();
  p.saw(`${what}: end`, [await line(), await line()]);
  socket.destroy();
}

const to = (p, port, host = p.args.host) => ({ host, port: Number(p.args[port]) });

const listen = (server, options) =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options, () => resolve(server));
  });

const close = (server) => new Promise((resolve) => server.close(resolve));

module.exports = {
  async 33(p) {
    await p.does("connect", async () => talk(p, await dial(to(p, "echo")), "tcp"));
  },
  async 34(p) {
    const all = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const socket = await dial(to(p, "echo"));
        const [token, peer, port] = (await reader(socket)()).split(" ");
        const same = socket.localPort === Number(port);
        socket.destroy();
        return `${token} ${peer} ${same}`;
      }),
    );
    p.saw("all", [all.length, [...new Set(all)]]);
  },
  async 35(p) {
    await p.does("refused", async () => void (await dial(to(p, "refused"))));
    await p.does("unreachable", async () => void (await dial({ host: p.args.unreachable, port: 9 })));
  },
  async 36(p) {
    const socket = await dial(to(p, "echo"));
    p.saw("names", [socket.address().address, socket.remoteAddress, socket.remotePort === Number(p.args.echo), socket.remoteFamily]);
    socket.destroy();
  },
  async 37(p) {
    await p.does("IPv6", async () => talk(p, await dial(to(p, "echo", p.args.host6)), "IPv6"));
    await p.does("mapped", async () => talk(p, await dial(to(p, "echo", `::ffff:${p.args.host}`)), "mapped"));
  },
  async 38(p) {
    for (const path of [p.near(`own-${process.pid}`), `\0own-${process.pid}`]) {
      const server = await listen(net.createServer((socket) => socket.end("message")), { path });
      await p.does(`own ${JSON.stringify(path[0])}`, async () => {
        const socket = await dial({ path });
        const said = await reader(socket)();
        socket.destroy();
        return said;
      });
      await close(server);
    }
    await p.does("far", async () => talk(p, await dial({ path: p.args.unix }), "far"));
    p.saw("left", fs.existsSync(p.near(`own-${process.pid}`)));
  },
  async 39(p) {
    for (const [kind, host] of [["udp4", p.args.host], ["udp6", p.args.host6]]) {
      const loose = dgram.createSocket(kind);
      const came = new Promise((resolve) => loose.once("message", (text, from) => resolve([text.toString(), from.address, from.port === Number(p.args.udp)])));
      loose.send("two", Number(p.args.udp), host);
      await p.does(kind, () => p.within(4, came));
      loose.close();
    }
    const connected = dgram.createSocket("udp4");
    await new Promise((resolve) => connected.connect(Number(p.args.udp), p.args.host, resolve));
    const came = new Promise((resolve) => connected.once("message", (text, from) => resolve([text.toString(), from.address])));
    connected.send("one");
    await p.does("connected", () => p.within(4, came));
    p.saw("peer", connected.remoteAddress().address);
    connected.close();
  },
  async 41(p) {
    await p.does("low", async () => {
      const server = await listen(net.createServer(), { host: "0.0.0.0", port: 80 });
      const told = server.address();
      await close(server);
      return told;
    });
    const any = await listen(net.createServer(), { host: "127.0.0.1", port: 0 });
    p.saw("any", any.address().port > 0);
    await p.does("the same once more", async () => void (await listen(net.createServer(), any.address())));
    await close(any);
    const two = [await listen(net.createServer(), { host: "0.0.0.0", port: Number(p.args.serve) }), await listen(net.createServer(), { port: Number(p.args.second) })];
    p.saw("two", two.map((server) => server.address().address));
    await Promise.all(two.map(close));
    await p.does("an address of nobody", async () => void (await listen(net.createServer(), { host: "192.0.2.77", port: 0 })));
  },
  async 42(p) {
    const met = [];
    const server = net.createServer(async (socket) => {
      const port = Number((await reader(socket)()).split(" ")[1]);
      if (port) met.push([socket.remoteAddress, socket.remotePort === port, socket.localAddress, socket.localPort === Number(p.args.serve)]);
      socket.end("bye\n");
    });
    await listen(server, { host: "0.0.0.0", port: Number(p.args.serve) });
    for (const end = Date.now() + 8000; met.length < 3 && Date.now() < end; ) await p.sleep(10);
    p.saw("met", met.slice(0, 3));
    await close(server);
    const heard = [];
    const web = http.createServer((request, answer) => answer.end());
    web.on("connection", (socket) => heard.push(socket.remoteAddress));
    web.on("clientError", (_, socket) => socket.destroy());
    await listen(web, { host: "0.0.0.0", port: Number(p.args.serve) });
    for (const end = Date.now() + 8000; !heard.length && Date.now() < end; ) await p.sleep(10);
    p.saw("by http", heard[0]);
    web.closeAllConnections();
    await close(web);
  },
  async 43(p) {
    // As `cluster` does it: the listener goes to a child over the channel between them.
    const server = await listen(net.createServer(), { host: "0.0.0.0", port: Number(p.args.serve), pauseOnConnect: true });
    const child = fork(__filename, ["child"], { execArgv: [] });
    const said = new Promise((resolve) => child.once("message", resolve));
    child.send("listener", server);
    await close(server);
    await p.does("the child met", () => p.within(9, said));
    child.kill();
  },
  async 44(p) {
    await p.does("listen", async () => {
      const server = await listen(net.createServer((socket) => socket.end("to myself\n")), { host: "0.0.0.0", port: 80 });
      for (const host of ["127.0.0.1", p.args.own]) {
        await p.does(host, async () => {
          const socket = await dial({ host, port: 80 });
          const said = [await reader(socket)(), socket.remoteAddress, socket.remotePort];
          socket.destroy();
          return said;
        });
      }
      await close(server);
    });
  },
  async 45(p) {
    const socket = await dial(to(p, "reset"));
    const line = reader(socket);
    socket.write("x");
    p.saw("before", await line());
    // Node takes a reset for an end where it meets it while it writes.
    p.saw("over", ["[end]", "[ECONNRESET]"].includes(await line()));
    socket.destroy();
    await talk(p, await dial({ ...to(p, "echo"), keepAlive: true, noDelay: true }), "then");
  },
};

if (require.main === module) {
  process.once("message", (_, server) => {
    server.on("connection", async (socket) => {
      const line = await reader(socket)();
      socket.end("bye\n");
      if (line.startsWith("hello")) process.send([socket.remoteAddress, socket.remotePort === Number(line.split(" ")[1])], () => process.exit(0));
    });
  });
}
