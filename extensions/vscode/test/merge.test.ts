import { deepStrictEqual } from "node:assert";
import { merge } from "../src/merge.js";

describe("a merge patch", () => {
    // The table of RFC 7396, appendix A.
    const cases: [unknown, unknown, unknown][] = [
        [{ a: "b" }, { a: "c" }, { a: "c" }],
        [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
        [{ a: "b" }, { a: null }, {}],
        [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
        [{ a: ["b"] }, { a: "c" }, { a: "c" }],
        [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
        [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
        [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
        [["a", "b"], ["c", "d"], ["c", "d"]],
        [{ a: "b" }, ["c"], ["c"]],
        [{ a: "foo" }, null, null],
        [{ a: "foo" }, "bar", "bar"],
        [{ e: null }, { a: 1 }, { e: null, a: 1 }],
        [[1, 2], { a: "b", c: null }, { a: "b" }],
        [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    ];
    for (const [target, patch, wanted] of cases) {
        it(`makes ${JSON.stringify(wanted)} of ${JSON.stringify(target)} by ${JSON.stringify(patch)}`, () => {
            deepStrictEqual(merge(target, patch), wanted);
        });
    }

    it("changes neither of the two", () => {
        const target = { env: { A: "1" } };
        merge(target, { env: { B: "2" } });
        deepStrictEqual(target, { env: { A: "1" } });
    });
});
