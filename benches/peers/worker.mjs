/**
 * The worker of one subject. `setup.module` names a file of `subjects/`, whose `setup(options, job)` makes the subject
 * ready and returns how to do the job: a function of the number of candidates (or products) that says what it came to.
 */
let run;

onmessage = async ({ data }) => {
  try {
    if (data.setup) {
      // onnxruntime-web would quietly take one thread.
      if (!crossOriginIsolated) throw new Error('this worker is not cross-origin isolated, so it has no threads');
      const { setup } = await import(`./subjects/${data.setup.module}.mjs`);
      run = await setup(data.setup, data.job);
      postMessage({});
    } else {
      const before = performance.now();
      const value = await run(data.run);
      postMessage({ wall: (performance.now() - before) / 1e3, value });
    }
  } catch (error) {
    postMessage({ error: String(error?.stack ?? error) });
  }
};
