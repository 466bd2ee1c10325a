// Cases 59 and 60 in Node.
"use strict";
const { execFile, execFileSync, execSync } = require("child_process");
const { Worker } = require("worker_threads");

module.exports = {
  async 59(p) {
    await p.does("execFileSync", () => execFileSync("cat", [p.dir("file")], { encoding: "utf8" }));
    await p.does("a chain", () => execSync(`exec sh -c 'exec cat ${p.dir("file")}'`, { encoding: "utf8" }));
    await p.does("execFile", () => new Promise((done, fail) => execFile("cat", [p.dir("file")], (error, said) => (error ? fail(error) : done(said)))));
    await p.does("worker", () => {
      const source = `require("worker_threads").parentPort.postMessage(require("fs").readFileSync(${JSON.stringify(p.dir("file"))}, "utf8"))`;
      return p.within(5, new Promise((done, fail) => new Worker(source, { eval: true }).once("message", done).once("error", fail)));
    });
  },
  async 60(p) {
    await p.does("no environment", () => execFileSync("/bin/cat", [p.dir("file")], { encoding: "utf8", env: {} }));
  },
};
