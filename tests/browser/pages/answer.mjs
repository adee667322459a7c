/** A worker's end of `worker.html`: answers each message with what `methods[message.method]` returns for it. */
export function answer(methods) {
  globalThis.addEventListener('message', async ({ data: { id, message } }) => {
    try {
      const method = methods[message.method];
      if (!method) throw new Error(`the worker has no method ${message.method}`);
      postMessage({ id, result: await method(message) });
    } catch (error) {
      postMessage({ id, error: { message: String(error?.stack ?? error), code: error?.code } });
    }
  });
}
