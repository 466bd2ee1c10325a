// Drives one browser for the tests: each line of standard input is {code, argument}, the body of an async function over
// `page`, `context` and `argument`; each line of output {value} or {error}. playwright-core's folder is the argument.
const { chromium } = require(process.argv[2]);
const { createInterface } = require("node:readline");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"];

(async () => {
    const browser = await chromium.launch({ executablePath: process.argv[3], args: FLAGS });
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    const state = { context, page: await context.newPage(), errors: [] };
    state.page.on("console", (message) => message.type() === "error" && state.errors.push(message.text().slice(0, 300)));
    const Code = Object.getPrototypeOf(async () => {}).constructor;
    for await (const line of createInterface({ input: process.stdin })) {
        const { code, argument } = JSON.parse(line);
        let answer;
        try {
            answer = { value: (await new Code("state", "page", "context", "argument", code)(state, state.page, context, argument)) ?? null };
        } catch (error) {
            answer = { error: String(error.stack ?? error).slice(0, 4000) };
        }
        process.stdout.write(JSON.stringify(answer) + "\n");
    }
    await browser.close();
})().catch((error) => {
    console.error(error);
    process.exit(1);
});
