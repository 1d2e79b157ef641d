/** One of the threads of a model, which share its memory. It works until its worker is ended. */
function work({ module, memory, stack }) {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  exports.__stack_pointer.value = stack;
  exports.work();
}

if (globalThis.process?.versions?.node) {
  work((await import("node:worker_threads")).workerData);
} else {
  addEventListener("message", ({ data }) => work(data));
}
