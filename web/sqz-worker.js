/** The worker's side of loadInWorker: one model, one call after the other. */
import { load } from "./sqz.js";

let model;

const methods = {
  async load(source, options) {
    model = await load(source, options);
    const { build, kernels, fileBytes, memoryBytes, numClasses, cropHeight, cropWidth } = model;
    const { channels, resize, threads, classNames, classIds, record } = model;
    return {
      ...{ build, kernels, fileBytes, memoryBytes, numClasses, cropHeight, cropWidth },
      ...{ channels, resize, threads, classNames, classIds, record },
    };
  },
  classify: (image, options) => model.classify(image, options),
  logits: () => model.logits(),
};

let last = Promise.resolve(); // pictures are classified in the order in which they came

addEventListener("message", ({ data: { id, method, values } }) => {
  last = last.then(async () => {
    try {
      postMessage({ id, result: await methods[method](...values) });
    } catch (error) {
      postMessage({ id, error: { code: error.code ?? "INTERNAL", message: error.message } });
    }
  });
});
