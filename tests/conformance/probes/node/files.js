// Cases 1-32 in Node, by the calls that block, by callbacks and by promises alike.
"use strict";
const fs = require("fs");
const { execFileSync, spawnSync } = require("child_process");
const { constants } = fs;

const read = (name) => fs.readFileSync(name, "utf8").trimEnd();
const climbing = (name) => `../../../../../../../..${name}`;

module.exports = {
  async 1(p) {
    const fd = fs.openSync(p.dir("file"), "r");
    const buffer = Buffer.alloc(200);
    p.saw("content", buffer.subarray(0, fs.readSync(fd, buffer)));
    await p.does("close", () => fs.closeSync(fd));
    await p.does("close again", () => fs.closeSync(fd));
    await p.does("callback", () => new Promise((done, fail) => fs.readFile(p.dir("file"), "utf8", (error, text) => (error ? fail(error) : done(text)))));
    await p.does("promise", () => fs.promises.readFile(p.dir("file"), "utf8"));
    await p.does("stream", async () => {
      let all = "";
      for await (const piece of fs.createReadStream(p.dir("file"), "utf8")) all += piece;
      return all;
    });
  },
  async 5(p) {
    await p.does("one", () => read(p.dir("sub/../file")));
    await p.does("two", () => read(p.dir("sub/deep/../../file")));
    await p.does("slashes", () => read(p.dir("./sub//deep/./leaf")));
    await p.does("through none", () => read(p.dir("none/../file")));
  },
  async 6(p) {
    const there = p.dir(climbing(p.near("near")));
    await p.does("content", () => read(there));
    await p.does("stat", () => fs.statSync(there).size);
    await p.does("access", () => fs.accessSync(there, constants.R_OK));
    await p.does("none", () => read(p.dir(climbing("/none-of-that-name"))));
  },
  async 7(p) {
    await p.does("content", () => read(p.dir("link")));
    await p.does("text", () => fs.readlinkSync(p.dir("link")));
    await p.does("no link", () => fs.readlinkSync(p.dir("file")));
    p.saw("lstat", fs.lstatSync(p.dir("link")).isSymbolicLink());
    await p.does("below a link", () => read(p.dir("dirlink/deep/leaf")));
    await p.does("not followed", () => fs.openSync(p.dir("link"), constants.O_RDONLY | constants.O_NOFOLLOW));
  },
  async 8(p) {
    await p.does("in the volume", () => read(p.dir("abslink")));
    await p.does("out of it", () => read(p.dir("outlink")));
    await p.does("dangling", () => read(p.dir("dangling")));
  },
  async 9(p) {
    const found = new Set();
    const end = Date.now() + 5000;
    while (Date.now() < end && found.size < 2) {
      found.add(await fs.promises.readFile(p.dir("config/version"), "utf8"));
      await p.sleep(5);
    }
    p.saw("seen", [...found].sort());
    await p.does("stable", () => read(p.dir("config/stable")));
  },
  async 10(p) {
    await p.does("readdir", () => fs.readdirSync(p.dir("tree"), { withFileTypes: true }).map((entry) => [entry.name, entry.isDirectory()]).sort());
    await p.does("recursive", () => fs.readdirSync(p.dir("tree"), { recursive: true }).sort());
    await p.does("opendir", async () => {
      let count = 0;
      for await (const entry of await fs.promises.opendir(p.dir("tree"))) count += entry.name.length;
      return count;
    });
    await p.does("realpath", () => fs.realpathSync(p.dir("dirlink/../link")));
    await p.does("realpath natively", () => fs.realpathSync.native(p.dir("dirlink/../link")));
    const made = fs.mkdtempSync(p.near("made-"));
    await p.does("rmdir", () => fs.rmdirSync(made));
  },
  async 11(p) {
    const [first, second] = [0, 1].map(() => fs.openSync(p.dir("file"), "r"));
    const piece = (fd) => {
      const buffer = Buffer.alloc(3);
      fs.readSync(fd, buffer);
      return buffer.toString();
    };
    p.saw("read", [piece(first), piece(second), piece(first)]);
    fs.closeSync(first);
    fs.closeSync(second);
  },
  async 12(p) {
    const fd = fs.openSync(p.dir("file"), "r");
    const [one, two] = [Buffer.alloc(4), Buffer.alloc(4)];
    p.saw("readv", [fs.readvSync(fd, [one, two]), one.toString(), two.toString()]);
    p.saw("preadv", [fs.readvSync(fd, [one, two], 2), one.toString(), two.toString()]);
    p.saw("pread", [fs.readSync(fd, one, 0, 4, 1), one.toString()]);
    p.saw("beyond", fs.readSync(fd, one, 0, 4, 1 << 20));
    fs.closeSync(fd);
  },
  async 14(p) {
    for (const name of ["file", "sub", "big"]) {
      const fd = fs.openSync(p.dir(name), "r");
      const [byPath, byFd] = [fs.statSync(p.dir(name)), fs.fstatSync(fd)];
      fs.closeSync(fd);
      p.saw(name, [byPath.ino === byFd.ino, byPath.dev === byFd.dev, byPath.mode.toString(8), byPath.size, byPath.nlink, Math.floor(byPath.mtimeMs / 1000)]);
    }
  },
  async 15(p) {
    const copy = p.near(`copy-${p.args.name}`);
    const commands = [["cp", "-r", p.dir("tree"), copy], ["diff", "-r", p.dir("tree"), copy], ["ls", "-lgo", "--time-style=+", p.dir("tree")],
      ["tar", "-C", p.dir(), "-cf", "/dev/null", "tree"], ["find", p.dir("tree"), "-name", "*.txt", "-size", "-2"]];
    for (const [command, ...rest] of commands) {
      const done = spawnSync(command, rest, { encoding: "utf8" });
      p.saw(command, [done.status, done.stdout.split("\n").sort(), done.stderr]);
    }
    fs.rmSync(copy, { recursive: true, force: true });
    await p.does("cp of its own", () => fs.cpSync(p.dir("tree"), copy, { recursive: true }));
    await p.does("copied", () => fs.readdirSync(copy, { recursive: true }).sort());
    fs.rmSync(copy, { recursive: true, force: true });
  },
  async 17(p) {
    const first = fs.readdirSync(p.dir("many")).sort();
    const second = (await fs.promises.readdir(p.dir("many"))).sort();
    p.saw("entries", [first.length, new Set(first).size, first[0], first[first.length - 1], String(first) === String(second)]);
  },
  async 18(p) {
    await p.does("ENOENT", () => fs.openSync(p.dir("none"), "r"));
    await p.does("ENOTDIR", () => fs.openSync(p.dir("file/x"), "r"));
    await p.does("EISDIR", () => fs.openSync(p.dir("sub"), "r+"));
    await p.does("EISDIR on read", () => read(p.dir("sub")));
    await p.does("ELOOP", () => fs.openSync(p.dir("loop"), "r"));
    await p.does("ENAMETOOLONG", () => fs.openSync(p.dir("x".repeat(299)), "r"));
    await p.does("EACCES", () => read(p.dir("closed")));
    await p.does("access", () => fs.accessSync(p.dir("file"), constants.X_OK));
    p.saw("exists", [fs.existsSync(p.dir("file")), fs.existsSync(p.dir("none"))]);
  },
  async 19(p) {
    const name = `${p.args.ro}/banner.txt`;
    await p.does("write", () => fs.writeFileSync(name, "x"));
    await p.does("append", () => fs.appendFileSync(name, "x"));
    await p.does("new", () => fs.writeFileSync(`${p.args.ro}/new`, "x"));
    await p.does("unlink", () => fs.unlinkSync(name));
    await p.does("mkdir", () => fs.mkdirSync(`${p.args.ro}/new`));
    await p.does("rename", () => fs.renameSync(name, `${p.args.ro}/other`));
    await p.does("promise", () => fs.promises.writeFile(name, "x"));
    await p.does("content", () => read(name));
  },
  async 20(p) {
    const name = p.dir(`w-${p.args.name}`);
    const before = process.umask(0o027);
    await p.does("new", () => fs.writeFileSync(name, "first line\n", { flag: "wx" }));
    await p.does("again", () => fs.writeFileSync(name, "x", { flag: "wx" }));
    await p.does("append", () => fs.appendFileSync(name, "second\n"));
    await p.does("both", () => read(name));
    await p.does("mode and size", () => [fs.statSync(name).mode.toString(8), fs.statSync(name).size]);
    await p.does("truncate", () => fs.truncateSync(name, 3));
    await p.does("cut", () => read(name));
    await p.does("promise", () => fs.promises.writeFile(name, "by promise"));
    await p.does("then", () => read(name));
    await p.does("unlink", () => fs.unlinkSync(name));
    await p.does("gone", () => read(name));
    process.umask(before);
  },
  async 21(p) {
    await p.does("rename to there", () => fs.renameSync(p.near("near"), p.dir(`near-${p.args.name}`)));
    await p.does("rename from there", () => fs.renameSync(p.dir("file"), p.near("taken")));
    await p.does("link from there", () => fs.linkSync(p.dir("file"), p.near("taken")));
    await p.does("near", () => read(p.near("near")));
  },
  async 22(p) {
    const folder = p.dir(`d-${p.args.name}`);
    await p.does("mkdir", () => fs.mkdirSync(folder, { mode: 0o750 }));
    await p.does("new", () => fs.writeFileSync(`${folder}/one`, "x"));
    await p.does("link", () => fs.linkSync(`${folder}/one`, `${folder}/two`));
    await p.does("symlink", () => fs.symlinkSync("one", `${folder}/three`));
    await p.does("text", () => fs.readlinkSync(`${folder}/three`));
    await p.does("chmod", () => fs.chmodSync(`${folder}/one`, 0o600));
    await p.does("utimes", () => fs.utimesSync(`${folder}/one`, 1000000000, 1234567890));
    await p.does("stat", () => [fs.statSync(`${folder}/one`).mode.toString(8), fs.statSync(`${folder}/one`).nlink, fs.statSync(`${folder}/one`).mtimeMs]);
    await p.does("rename", () => fs.renameSync(`${folder}/one`, `${folder}/four`));
    await p.does("rmdir of a full one", () => fs.rmdirSync(folder));
    await p.does("rm", () => fs.rmSync(folder, { recursive: true }));
    await p.does("rmdir again", () => fs.rmdirSync(folder));
  },
  async 23(p) {
    const name = p.near(`sent-${p.args.name}`);
    await p.does("copyFile", () => fs.copyFileSync(p.dir("block"), name));
    await p.does("start", () => read(name).slice(0, 40));
    await p.does("size", () => fs.statSync(name).size);
    fs.rmSync(name, { force: true });
  },
  async 25(p) {
    const fd = fs.openSync(p.dir("big"), "r");
    const buffer = Buffer.alloc(32);
    p.saw("size", fs.fstatSync(fd).size);
    p.saw("far in", [fs.readSync(fd, buffer, 0, 32, 4 * 2 ** 30 + 123), buffer.toString("latin1").replaceAll("\0", "")]);
    p.saw("a hole", [fs.readSync(fd, buffer, 0, 8, 3 * 2 ** 30), buffer.subarray(0, 8).every((byte) => byte === 0)]);
    fs.closeSync(fd);
  },
  async 26(p) {
    await p.does("size", () => fs.statSync(p.args.sizeless).size);
    await p.does("content", () => read(p.args.sizeless));
  },
  async 27(p) {
    const back = process.cwd();
    await p.does("chdir", () => process.chdir(p.dir("sub")));
    await p.does("cwd", () => process.cwd());
    await p.does("below", () => read("deep/leaf"));
    await p.does("above", () => read("../file"));
    await p.does("child", () => execFileSync("cat", ["deep/leaf"], { encoding: "utf8", stdio: "pipe" }));
    await p.does("child's folder", () => execFileSync("cat", ["leaf"], { encoding: "utf8", stdio: "pipe", cwd: p.dir("sub/deep") }));
    await p.does("to none", () => process.chdir(p.dir("none")));
    process.chdir(back);
    await p.does("near", () => read(p.near("near")));
  },
  async 28(p) {
    await p.does("O_DIRECTORY", () => fs.openSync(p.dir("file"), constants.O_RDONLY | constants.O_DIRECTORY));
    const fd = fs.openSync(p.dir("file"), constants.O_RDONLY);
    p.saw("close on exec", (parseInt(/flags:\s+(\d+)/.exec(read(`/proc/self/fdinfo/${fd}`))[1], 8) & 0o2000000) !== 0);
    fs.closeSync(fd);
  },
  async 30(p) {
    const told = (folder, act) =>
      new Promise((done) => {
        const watcher = fs.watch(folder, () => finish(true));
        const timer = setTimeout(() => finish(false), 2000);
        const finish = (value) => {
          clearTimeout(timer);
          watcher.close();
          done(value);
        };
        act();
      });
    await p.does("told", () => told(p.dir("config"), () => {}));
    const name = p.near(`watched-${p.args.name}`);
    await p.does("told of near", () => told(p.args.local, () => fs.writeFileSync(name, "x")));
    fs.rmSync(name, { force: true });
  },
  async 32(p) {
    const fd = fs.openSync(p.dir("file"), "r");
    await p.does("link", () => fs.readlinkSync(`/proc/self/fd/${fd}`));
    await p.does("reopened", () => read(`/proc/self/fd/${fd}`));
    p.saw("the same", fs.statSync(`/proc/self/fd/${fd}`).ino === fs.fstatSync(fd).ino);
    fs.closeSync(fd);
  },
};
