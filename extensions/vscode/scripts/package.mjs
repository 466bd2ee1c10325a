// Makes the VSIX: node scripts/package.mjs MIRRORD-IDE OUT.vsix. The program travels inside, so that one file installed
// is the whole product and works offline.
import { createVSIX } from "@vscode/vsce";
import { chmodSync, copyFileSync, mkdirSync, rmSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { resolve } from "node:path";

const [binary, out] = process.argv.slice(2);
if (!binary || !out) {
    throw new Error("usage: node scripts/package.mjs MIRRORD-IDE OUT.vsix");
}
execFileSync(process.execPath, ["scripts/build.mjs"], { stdio: "inherit" });
rmSync("bin", { recursive: true, force: true });
mkdirSync("bin");
copyFileSync(binary, "bin/mirrord-ide");
chmodSync("bin/mirrord-ide", 0o755);
const target = `${process.platform}-${process.arch}`;
await createVSIX({ packagePath: resolve(out), target, dependencies: false, allowMissingRepository: true, skipLicense: true, useYarn: false });
