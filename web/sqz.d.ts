/** Errors of this module. `code` is for programs, `message` for people. */
export class SqzError extends Error {
  readonly code:
    | "UNKNOWN_FORMAT" | "TRUNCATED" | "CHECKSUM" | "UNSUPPORTED" | "LIMIT" | "MALFORMED"
    | "FLOAT_ONLY" | "BUSY" | "WRONG_USE" | "MEMORY" | "NETWORK" | "NOT_A_PICTURE" | "TOO_LARGE"
    | "CLOSED" | "INTERNAL";
  constructor(code: SqzError["code"], message: string, options?: { cause?: unknown });
}

/**
 * The builds of the runtime: with relaxed SIMD, with SIMD, with neither; the first two also with
 * threads. All give the same logits.
 */
export type Build = "relaxed-threads" | "relaxed" | "simd-threads" | "simd" | "plain";
export const BUILDS: readonly Build[];
/** The builds that run here, the fastest first. */
export function supportedBuilds(): Build[];

/** RGBA, 4 bytes a pixel, row after row; an ImageData is one. Transparent pixels show white. */
export interface Pixels {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/** Files and blobs are decoded by the browser; Node and Deno need Pixels. */
export type Picture = Pixels | Blob | ImageBitmapSource;

export interface Prediction {
  /** Class, from 0. */
  index: number;
  label: string;
  logit: number;
  /** Softmax, 0 to 1; the error is at most 1/4096. */
  probability: number;
}

export interface Result {
  /** The best first. */
  predictions: Prediction[];
  /** Time of resize, crop and network; without decoding the picture. */
  milliseconds: number;
}

export interface ClassifyOptions {
  /** How many classes: 1 to 1,000, 5 by default. */
  top?: number;
}

export interface LoadOptions {
  /** By default the fastest that runs here. */
  build?: Build;
  /**
   * How many threads compute; more than 8 are 8. By default as many as the device has cores, up to
   * 4, where the page is cross-origin isolated; else 1. A page itself may not wait for threads, so
   * `load` has one there; `loadInWorker` and Node have as many as asked.
   */
  threads?: number;
  /** For tests: 0 is the fastest kernel of the build, 1 the next. */
  kernels?: number;
}

interface Facts {
  readonly build: Build;
  /** Inner loops in use, such as WASM-MADD. */
  readonly kernels: string;
  /** How many compute. */
  readonly threads: number;
  readonly fileBytes: number;
  /** Unpacked weights and activations, without the picture. */
  readonly memoryBytes: number;
  readonly numClasses: number;
  /** Pixels that the network sees, after the short side was scaled to `resize`. */
  readonly cropHeight: number;
  readonly cropWidth: number;
  readonly channels: 1 | 3;
  readonly resize: number;
  readonly classNames: string[];
  /** Ids such as WordNet's, if the file lists them. */
  readonly classIds: string[] | null;
  /** Spec, preprocessing and provenance: spec/FORMAT.md, "RECORD". */
  readonly record: Record<string, unknown>;
}

/** A model in this thread. */
export interface Model extends Facts {
  /** @throws {SqzError} NOT_A_PICTURE, TOO_LARGE, MEMORY, WRONG_USE */
  classify(picture: Picture, options?: ClassifyOptions): Promise<Result>;
  /** The same for pixels, without a promise. */
  classifyPixels(pixels: Pixels, options?: ClassifyOptions): Result;
  /** Logits of the last picture, in 1/65536: those of spec/INTEGER.md. */
  logits(): Int32Array;
  /** End the threads. The model goes on with one. */
  close(): void;
}

/** A model in a worker of its own. */
export interface WorkerModel extends Facts {
  /** An ImageBitmap is handed over, and empty afterwards. */
  classify(picture: Picture, options?: ClassifyOptions): Promise<Result>;
  /** One after the other; a picture that cannot be read does not stop the rest. */
  classifyAll<P extends Picture>(
    pictures: Iterable<P>,
    options?: ClassifyOptions,
  ): AsyncGenerator<{ image: P; result: Result } | { image: P; error: SqzError }>;
  logits(): Promise<Int32Array>;
  /** End the worker. Calls that wait are rejected with CLOSED. */
  close(): void;
}

/** Where a model comes from. A string is a URL, relative to the page. */
export type Source = string | URL | ArrayBuffer | ArrayBufferView | Blob | Response;

/** @throws {SqzError} NETWORK, MEMORY, or what is wrong with the file */
export function load(source: Source, options?: LoadOptions): Promise<Model>;
/** The same in a worker, for pages; a Response cannot be sent there. */
export function loadInWorker(
  source: Exclude<Source, Response>,
  options?: LoadOptions,
): Promise<WorkerModel>;
