/**
 * Runs .sqz image classifiers in browsers, Node and Deno.
 *
 *     import { load } from "./sqz.js";
 *     const model = await load("model.sqz");
 *     const { predictions } = await model.classify(file);   // a File, Blob, canvas, ImageBitmap ...
 *
 * The work is done by the C runtime, compiled to WebAssembly: logits are those of spec/INTEGER.md,
 * bit for bit, whichever build is chosen. Types and details: sqz.d.ts.
 */

/** What went wrong: `code` for programs, `message` for people. */
export class SqzError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = "SqzError";
    this.code = code;
  }
}

/** The C runtime's errors, by number. */
const ERRORS = [
  null,
  ["UNKNOWN_FORMAT", "this is not a .sqz file"],
  ["TRUNCATED", "the model is incomplete: its end is missing"],
  ["CHECKSUM", "the model is damaged: a checksum is wrong"],
  ["UNSUPPORTED", "the model needs a newer version of sqz.js"],
  ["LIMIT", "the model is beyond the limits of this runtime"],
  ["MALFORMED", "the model contradicts its format"],
  ["FLOAT_ONLY", "the model is for float32 clients alone; compress it again for integer clients"],
  ["BUSY", "the model is in use"],
  ["WRONG_USE", "wrong use of the runtime"],
];

const fail = (code) => {
  if (code === -1) throw new SqzError("MEMORY", "too little memory for the model or the picture");
  if (code === -2) throw new SqzError("INTERNAL", "a thread has ended; load the model again");
  const [name, message] = ERRORS[code] ?? ["WRONG_USE", `error ${code} of the runtime`];
  throw new SqzError(name, message);
};

/** Smallest modules that use an instruction set: whether it is there is whether they are valid. */
const probe = (...body) =>
  WebAssembly.validate(
    Uint8Array.of(
      ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10],
      ...[body.length + 4, 1, body.length + 2, 0, ...body, 11],
    ),
  );
const ZEROS = [0x41, 0, 0xfd, 0x0f]; // i32.const 0, i8x16.splat

/** The builds of the runtime, the fastest first. */
export const BUILDS = ["relaxed-threads", "relaxed", "simd-threads", "simd", "plain"];

const hasThreads = (build) => build.endsWith("-threads");

const isSupported = (build) =>
  build === "plain" ||
  (probe(...ZEROS, ...(build.startsWith("simd") ? [] : [...ZEROS, 0xfd, 0x92, 2])) && // dot product
    (!hasThreads(build) || mayWait()));

/** Whether memory can be shared here, and this thread may wait for others: a page itself may not. */
function mayWait() {
  if (globalThis.crossOriginIsolated === false) return false; // Node and Deno do not say
  try {
    return Atomics.wait(new Int32Array(sharedMemory(1).buffer), 0, 0, 0) === "timed-out";
  } catch {
    return false;
  }
}

/** Memory as setup.py links the builds with threads for. */
const sharedMemory = (pages) =>
  new WebAssembly.Memory({ initial: pages, maximum: 8192, shared: true });

/** At most, the caller's included: ../web/src/sqz_threads.h. */
const MAX_THREADS = 8;
const defaultThreads = () =>
  globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency ?? 1) : 1;

/** The builds that run here. */
export const supportedBuilds = () => BUILDS.filter(isSupported);

const here = (file) => new URL(file, import.meta.url);

/** Fetch a URL; also file: URLs, in Node. */
async function read(url) {
  if (url.protocol === "file:" && globalThis.process?.versions?.node) {
    const { readFile } = await import("node:fs/promises");
    return new Uint8Array(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) {
    throw new SqzError("NETWORK", `${url}: the server answered ${response.status}`);
  }
  return response;
}

async function toBytes(source) {
  try {
    if (typeof source === "string" || source instanceof URL) {
      source = await read(new URL(source, globalThis.location?.href ?? import.meta.url));
    }
    if (ArrayBuffer.isView(source)) {
      return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    }
    if (source instanceof ArrayBuffer) return new Uint8Array(source);
    return new Uint8Array(await source.arrayBuffer()); // a Response, a Blob, a File
  } catch (error) {
    if (error instanceof SqzError) throw error;
    throw new SqzError("NETWORK", `could not fetch the model: ${error.message}`, { cause: error });
  }
}

const modules = new Map();

/** Fetch, unpack and compile a build, once. */
function compiled(build) {
  if (!modules.has(build)) {
    const module = (async () => {
      const packed = await toBytes(here(`sqz-${build}.wasm.zlib`));
      const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
      return WebAssembly.compile(await new Response(unpacked).arrayBuffer());
    })();
    module.catch(() => modules.delete(build)); // another call may have a network
    modules.set(build, module);
  }
  return modules.get(build);
}

/** Load a model from a URL, bytes, a Response or a Blob. See sqz.d.ts. */
export async function load(source, { build, kernels = 0, threads = defaultThreads() } = {}) {
  if (!Number.isInteger(threads) || threads < 1) {
    throw new SqzError("WRONG_USE", `threads is ${threads}, expected 1 or more`);
  }
  build ??= supportedBuilds().find((each) => threads > 1 || !hasThreads(each));
  if (!BUILDS.includes(build)) {
    throw new SqzError("WRONG_USE", `build is ${build}, expected one of ${BUILDS.join(", ")}`);
  }
  const [module, bytes] = await Promise.all([compiled(build), toBytes(source)]);
  if (!hasThreads(build)) {
    return new Model((await WebAssembly.instantiate(module)).exports, bytes, build, kernels);
  }
  threads = Math.min(threads, MAX_THREADS);
  const memory = sharedMemory(8);
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  exports.set_threads(threads);
  const model = new Model({ ...exports, memory }, bytes, build, kernels);
  for (let i = 1; i < threads; i++) {
    model.addThread(await startThread({ module, memory, stack: exports.stack(i) }));
  }
  return model;
}

/** Start a worker that computes for the module in `data`. Until it has begun, others do its work. */
async function startThread(data) {
  if (!globalThis.process?.versions?.node) {
    const worker = new Worker(here("sqz-thread.js"), { type: "module" });
    worker.postMessage(data);
    return worker;
  }
  const { Worker: Thread } = await import("node:worker_threads");
  const worker = new Thread(here("sqz-thread.js"), { workerData: data });
  worker.unref(); // the process may end
  return worker;
}

/** What decodes to pixels a strip at a time, so that a large picture needs no second copy. */
const STRIP_PIXELS = 1 << 20;
const MAX_PIXELS = 2 ** 27;

export class Model {
  #wasm;
  #workers = [];

  constructor(wasm, bytes, build, kernels) {
    this.#wasm = wasm;
    this.build = build;
    this.fileBytes = bytes.length;
    const at = wasm.reserve(bytes.length);
    if (!at) fail(-1);
    new Uint8Array(wasm.memory.buffer).set(bytes, at);
    const error = wasm.load(bytes.length, kernels);
    if (error) fail(error);
    const facts = new Uint32Array(wasm.memory.buffer, wasm.about(), 7);
    [this.numClasses, this.cropHeight, this.cropWidth, this.channels, this.resize] = facts;
    this.memoryBytes = facts[5] + facts[6];
    this.kernels = this.#string(wasm.kernels_name());
    const lines = this.#text(0).split("\n");
    this.classNames = lines.slice(0, this.numClasses);
    this.classIds = wasm.ids_kind() === 2 ? lines.slice(this.numClasses) : null;
  }

  /** How many compute, this one included. */
  get threads() {
    return this.#workers.length + 1;
  }

  /** For this module: a worker that shares the memory. */
  addThread(worker) {
    this.#workers.push(worker);
  }

  /** End the threads. The model goes on with one. */
  close() {
    if (this.threads > 1) this.#wasm.set_threads(1); // they may take no more work
    for (const worker of this.#workers.splice(0)) worker.terminate();
  }

  #string(at) {
    const bytes = new Uint8Array(this.#wasm.memory.buffer);
    return new TextDecoder().decode(bytes.slice(at, bytes.indexOf(0, at))); // a copy: not shared
  }

  #text(which) {
    const error = this.#wasm.read_text(which);
    if (error) fail(error);
    const { memory, text_start, text_size } = this.#wasm;
    const bytes = new Uint8Array(memory.buffer, text_start(), text_size());
    return new TextDecoder().decode(bytes.slice());
  }

  /** The file's record: spec, preprocessing, provenance. */
  get record() {
    return JSON.parse(this.#text(1));
  }

  /** Classify one picture of any kind. */
  async classify(image, options = {}) {
    if (isPixels(image)) return this.classifyPixels(image, options);
    const bitmap = await decoded(image);
    try {
      const { width, height } = bitmap;
      this.#room(width, height);
      const rows = Math.max(1, Math.floor(STRIP_PIXELS / width));
      const canvas = newCanvas(width, Math.min(rows, height));
      const drawing = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
      for (let y = 0; y < height; y += rows) {
        const count = Math.min(rows, height - y);
        drawing.fillStyle = "#fff"; // what is transparent shows white
        drawing.fillRect(0, 0, width, count);
        drawing.drawImage(bitmap, 0, y, width, count, 0, 0, width, count);
        this.#put(drawing.getImageData(0, 0, width, count).data, y * width);
      }
    } catch (error) {
      if (error instanceof SqzError) throw error;
      throw new SqzError("TOO_LARGE", "this picture is too large for this browser", { cause: error });
    } finally {
      if (bitmap !== image) bitmap.close?.();
    }
    return this.#run(options);
  }

  /** Classify RGBA pixels at once: an ImageData, or { data, width, height }. */
  classifyPixels({ data, width, height }, options = {}) {
    this.#room(width, height);
    if (data.length !== 4 * width * height) {
      throw new SqzError(
        "WRONG_USE",
        `pixels are ${data.length} bytes, expected ${width} x ${height} of RGBA`,
      );
    }
    this.#put(data, 0);
    return this.#run(options);
  }

  /** Logits of the last picture, in 1/65536. */
  logits() {
    return new Int32Array(this.#wasm.memory.buffer, this.#wasm.logits(), this.numClasses).slice();
  }

  #room(width, height) {
    const isSize = (side) => Number.isInteger(side) && side > 0;
    if (!isSize(width) || !isSize(height)) {
      throw new SqzError("WRONG_USE", `a picture of ${width} x ${height} pixels`);
    }
    if (width * height > MAX_PIXELS || !this.#wasm.picture(height, width)) {
      throw new SqzError("TOO_LARGE", `this picture has ${width} x ${height} pixels: too many`);
    }
  }

  #put(rgba, first) {
    const pixels = 1 << 18;
    const at = this.#wasm.scratch(4 * pixels);
    if (!at) fail(-1);
    for (let i = 0; i < rgba.length; i += 4 * pixels) {
      const part = rgba.subarray(i, i + 4 * pixels);
      new Uint8Array(this.#wasm.memory.buffer).set(part, at);
      this.#wasm.put_rgba(at, first + i / 4, part.length / 4);
    }
  }

  #run({ top = 5 }) {
    const count = Math.max(1, Math.min(top, this.numClasses, 1000));
    const started = performance.now();
    const error = this.#wasm.classify(count);
    const milliseconds = performance.now() - started;
    if (error) fail(error);
    const answers = new Int32Array(this.#wasm.memory.buffer, this.#wasm.best(), 3 * count);
    const predictions = Array.from({ length: count }, (_, i) => ({
      index: answers[3 * i],
      label: this.classNames[answers[3 * i]],
      logit: answers[3 * i + 1] / 65536,
      probability: answers[3 * i + 2] / 65536,
    }));
    return { predictions, milliseconds };
  }
}

const isPixels = (image) => image?.data instanceof Uint8Array || image?.data instanceof Uint8ClampedArray;

const newCanvas = (width, height) =>
  globalThis.OffscreenCanvas
    ? new OffscreenCanvas(width, height)
    : Object.assign(document.createElement("canvas"), { width, height });

/** Decode a picture as the Python client does: upright, colours as they are in the file. */
async function decoded(image) {
  if (globalThis.ImageBitmap && image instanceof ImageBitmap) return image;
  if (!globalThis.createImageBitmap) {
    throw new SqzError("WRONG_USE", "there is no decoder of pictures here; pass RGBA pixels");
  }
  if (globalThis.Blob && image instanceof Blob && image.size === 0) {
    throw new SqzError("NOT_A_PICTURE", "this file is empty");
  }
  try {
    return await createImageBitmap(image, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
    });
  } catch (error) {
    throw new SqzError("NOT_A_PICTURE", "this is no picture that the browser can read", {
      cause: error,
    });
  }
}

/** Load a model in a worker of its own, so that the page never waits. See sqz.d.ts. */
export async function loadInWorker(source, options = {}) {
  if (typeof source === "string" || source instanceof URL) {
    source = new URL(source, globalThis.location?.href ?? import.meta.url).href;
  }
  const worker = new Worker(here("sqz-worker.js"), { type: "module" });
  const model = new WorkerModel(worker);
  try {
    return Object.assign(model, await model.call("load", [source, options]));
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

export class WorkerModel {
  #worker;
  #waiting = new Map();
  #count = 0;

  constructor(worker) {
    this.#worker = worker;
    worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) reject(new SqzError(error.code, error.message));
      else resolve(result);
    };
    worker.onerror = (event) => this.#fail("INTERNAL", event.message ?? "the worker did not start");
  }

  #fail(code, message) {
    for (const { reject } of this.#waiting.values()) reject(new SqzError(code, message));
    this.#waiting.clear();
  }

  /** For this module: have the worker do something. */
  call(method, values, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this.#count++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, values }, transfer);
    });
  }

  /** Classify one picture. An ImageBitmap is handed over, and empty afterwards. */
  async classify(image, options = {}) {
    const isBitmap = globalThis.ImageBitmap && image instanceof ImageBitmap;
    if (!isBitmap && !isPixels(image) && !(image instanceof Blob)) image = await decoded(image);
    const transfer = globalThis.ImageBitmap && image instanceof ImageBitmap ? [image] : [];
    return this.call("classify", [image, options], transfer);
  }

  /** Classify many pictures, one after the other; yields { image, result } or { image, error }. */
  async *classifyAll(images, options = {}) {
    for (const image of images) {
      try {
        yield { image, result: await this.classify(image, options) };
      } catch (error) {
        yield { image, error };
      }
    }
  }

  /** Logits of the last picture, in 1/65536. */
  logits() {
    return this.call("logits", []);
  }

  /** End the worker. */
  close() {
    this.#worker.terminate();
    this.#fail("CLOSED", "the model was closed");
  }
}
