// The probe in Node: `probe.js NAME=VALUE... CASE...` does each case and prints what it saw, one line of JSON each.
"use strict";
const fs = require("fs");
const path = require("path");

const words = process.argv.slice(2);
const args = Object.fromEntries(words.filter((word) => word.includes("=")).map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]));
let seen = {};

const text = (value) => (typeof value === "string" ? value : value instanceof Buffer ? value.toString("latin1") : JSON.stringify(value));

const probe = {
  args,
  dir: (name) => (name === undefined ? args.dir : `${args.dir}/${name}`),
  near: (name) => `${args.local}/${name}`,
  saw(key, value) {
    seen[key] = text(value);
  },
  /** Notes what the action gives ("ok" for nothing), or the code of its error. */
  async does(key, action) {
    try {
      const got = await action();
      seen[key] = got === undefined ? "ok" : text(got);
      return got;
    } catch (error) {
      seen[key] = error.code || String(error);
      return undefined;
    }
  },
  sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
  /** A promise's value, or an error with code TIMEOUT after some seconds. */
  within(seconds, promise) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(Object.assign(new Error("late"), { code: "TIMEOUT" })), seconds * 1000);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  },
};

async function main() {
  const cases = {};
  for (const group of ["files", "sockets", "names", "processes"]) {
    const file = path.join(__dirname, `${group}.js`);
    if (fs.existsSync(file)) Object.assign(cases, require(file));
  }
  for (const word of words.filter((each) => !each.includes("="))) {
    seen = {};
    try {
      await cases[word](probe);
    } catch (error) {
      seen.raised = error.code || String(error);
    }
    fs.writeSync(1, JSON.stringify({ case: Number(word), ...seen }) + "\n");
  }
  process.exit(0);
}

main();
