// Finds the daemon, or has one started: the only program that the extension itself starts.

import { execFile } from "node:child_process";
import type { Discovery } from "./protocol.js";

/** Where the daemon listens; `binary` starts one unless one answers. Fails with its own words. */
export function ensure(binary: string): Promise<Discovery> {
    return new Promise((resolve, reject) => {
        execFile(binary, ["serve", "--ensure"], { timeout: 20_000 }, (error, stdout, stderr) => {
            if (error) {
                const said = stderr.trim().replace(/^mirrord-ide: /u, "");
                reject(new Error(said || `${binary} cannot be run: ${error.message}`));
                return;
            }
            try {
                resolve(JSON.parse(stdout) as Discovery);
            } catch {
                reject(new Error(`${binary} is no mirrord-ide: serve --ensure printed ${JSON.stringify(stdout.slice(0, 80))}`));
            }
        });
    });
}
