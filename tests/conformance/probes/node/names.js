// Cases 50-58 in Node: `dns.lookup` is the C library's, the rest is c-ares.
"use strict";
const dns = require("dns").promises;
const os = require("os");

const lookup = async (name, family = 0) => (await dns.lookup(name, { all: true, family })).map((each) => each.address).sort();

module.exports = {
  async 50(p) {
    await p.does("any family", () => lookup(p.args.known));
    await p.does("IPv4", () => lookup(p.args.known, 4));
  },
  async 52(p) {
    await p.does("A", async () => (await dns.resolve4(p.args.known)).sort());
    await p.does("AAAA", () => dns.resolve6(p.args.known6));
    await p.does("none", () => dns.resolve4(p.args.known6));
    await p.does("unknown", () => dns.resolve4(p.args.unknown));
    await p.does("too many for one datagram", async () => (await dns.resolve4(p.args.crowd)).sort());
    await p.does("reverse", () => dns.reverse(p.args.reverse));
  },
  async 54(p) {
    await p.does("short", () => lookup(p.args.short, 4));
    await p.does("with one dot", () => lookup(p.args["one-dot"], 4));
  },
  async 55(p) {
    await p.does("unknown", () => lookup(p.args.unknown));
    await p.does("only IPv6", () => lookup(p.args.known6));
    await p.does("no IPv4", () => lookup(p.args.known6, 4));
    await p.does("too many for one datagram", () => lookup(p.args.crowd, 4));
  },
  async 56(p) {
    await p.does("in hosts", () => lookup(p.args["in-hosts"], 4));
    p.saw("hostname", os.hostname());
    await p.does("own", () => lookup(os.hostname(), 4));
  },
  async 58(p) {
    await p.does("name", () => dns.lookupService(p.args.reverse, 80).then((found) => found.hostname));
  },
};
