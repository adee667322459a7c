// Runs the tests of a wasm build of `examples/checks.rs`, in fresh memory each:
//   node [--experimental-wasm-relaxed-simd] crates/kernels/tests/wasm.mjs <checks.wasm>
// The flag is for builds with relaxed-simd on versions of node that still hide it.
import { readFileSync } from "node:fs";
import { exit } from "node:process";

const module = new WebAssembly.Module(readFileSync(process.argv[2]));

function instance() {
  let text = "";
  const { exports } = new WebAssembly.Instance(module, {
    checks: {
      say(start, length) {
        text = new TextDecoder().decode(new Uint8Array(exports.memory.buffer, start, length));
      },
    },
  });
  return { exports, count: exports.count(), said: () => text };
}

const { count } = instance();
let failed = 0;
for (let index = 0; index < count; index++) {
  const { exports, said } = instance();
  exports.name(index);
  const name = said();
  try {
    exports.run(index);
    console.log(`ok      ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}\n${said()}\n${error.stack}`);
  }
}
console.log(`${count - failed} of ${count} passed`);
exit(count > 0 && failed === 0 ? 0 : 1);
