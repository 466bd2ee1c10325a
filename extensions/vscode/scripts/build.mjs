// Bundles the extension into dist/, or with --tests the unit tests into out/test/ with a stand-in for VS Code's API.
import { build } from "esbuild";
import { readdirSync, rmSync } from "node:fs";

const common = { bundle: true, platform: "node", target: "node18", format: "cjs", sourcemap: true, logLevel: "warning" };
if (process.argv.includes("--tests")) {
    rmSync("out", { recursive: true, force: true });
    const files = readdirSync("test").filter((name) => name.endsWith(".test.ts"));
    await build({ ...common, entryPoints: files.map((name) => `test/${name}`), outdir: "out/test", alias: { vscode: "./test/vscode.ts" } });
} else {
    rmSync("dist", { recursive: true, force: true });
    // Two bundles: the language client is read when the daemon is first asked.
    await build({ ...common, minify: true, entryPoints: ["src/extension.ts", "src/daemon.ts"], outdir: "dist", external: ["vscode", "./daemon.js"] });
}
