/** `crates/bench` in WebAssembly: this project, or candle's own T5, as `options.engine` says. */
import init, { Subject } from '/ours/lorahub_bench.js';

export async function setup(options, job) {
  await init();
  const subject = await Subject.make(JSON.stringify(options), JSON.stringify(job));
  return (count) => subject.run(count);
}
