// A worker that does parts of jobs, one after another. Its first message has all it needs; then it only looks at
// the shared memory: `words[0]` is the number of what is to be done, `words[1]` that of the last one done.
onmessage = ({ data: { module, memory, base, stack, words: at, jobs, looks } }) => {
  const number = (value, mutable) => new WebAssembly.Global({ value: 'i32', mutable }, value);
  const env = { memory, __memory_base: number(base), __table_base: number(0), __stack_pointer: number(stack, true) };
  const { look, share, __wasm_apply_data_relocs } = new WebAssembly.Instance(module, { env }).exports;
  __wasm_apply_data_relocs?.();
  const words = new Int32Array(memory.buffer, at, 2);
  postMessage('ready');
  for (let done = 0; ; ) {
    if (look(at, done, looks) === done) Atomics.wait(words, 0, done);
    const wanted = Atomics.load(words, 0);
    if (wanted === done) continue;
    share(jobs);
    done = wanted;
    Atomics.store(words, 1, done);
    Atomics.notify(words, 1);
  }
};
