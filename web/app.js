/** The page: pictures in, the five most probable classes out. */
import { loadInWorker } from "./sqz.js";

const element = (id) => document.getElementById(id);
const [status, answer, cost, drop, preview, video, hint] = [
  "status", "answer", "cost", "drop", "preview", "video", "hint",
].map(element);
const PREVIEW_PIXELS = 1024;
const SHOWN_CLASSES = 200;
const FILES = [
  "./", "style.css", "app.js", "sqz.js", "sqz-worker.js", "sqz-thread.js", "icon.svg",
  "manifest.webmanifest", "model.sqz",
];

let model = null;
let stream = null;

const bytes = (count) => `${Math.round(count / 1000).toLocaleString()} KB`;
const percent = (probability) => `${(100 * probability).toFixed(probability > 0.0995 ? 0 : 1)} %`;

function say(text, isAlert = false) {
  status.textContent = text;
  status.classList.toggle("alert", isAlert);
}

/** Make an element with a text and children. */
function make(tag, text = "", ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

// ---- The model ----

async function start() {
  element("retry").hidden = true;
  say("Loading the model …");
  try {
    model = await loadInWorker("model.sqz");
  } catch (error) {
    say(`${sentence(error)} Check the connection, then try again.`, true);
    element("retry").hidden = false;
    return;
  }
  const { numClasses, fileBytes, build } = model;
  document.documentElement.dataset.build = build;
  element("about").textContent =
    `${numClasses.toLocaleString()} classes in ${bytes(fileBytes)}. Pictures stay on this device.`;
  say("Ready.");
  findClasses();
  keepOffline([...FILES, `sqz-${build}.wasm.zlib`]);
}

/** An error's message as a sentence. */
function sentence(error) {
  const text = error.message || "Something went wrong";
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

async function keepOffline(files) {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    const { active } = await navigator.serviceWorker.ready;
    active.postMessage(files);
  } catch {
    // Opened from a place where there are none: the page works while there is a network.
  }
}

// ---- Answers ----

function isUnsure({ predictions: [best] }) {
  return best.probability < Number(element("threshold").value) / 100;
}

function show(result, name = "") {
  const [best] = result.predictions;
  say(isUnsure(result) ? `Unsure. Perhaps ${best.label}` : best.label);
  answer.replaceChildren(
    ...result.predictions.map(({ label, probability }) => {
      const bar = make("div");
      bar.className = "bar";
      bar.style.width = `${100 * probability}%`;
      return make("li", "", bar, make("span", label), make("span", percent(probability)));
    }),
  );
  cost.textContent =
    `${result.milliseconds.toFixed(1)} ms on this device, ` +
    (model.threads > 1 ? `${model.threads} threads, ` : "") +
    `${bytes(model.fileBytes)} of model` +
    (name ? `; ${name}` : "");
}

function showError(error, name) {
  answer.replaceChildren();
  cost.textContent = name;
  say(sentence(error), true);
}

// ---- Pictures ----

/** Draw a picture into a canvas of at most `side` pixels. */
function draw(canvas, bitmap, side) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
}

/** Show a picture; returns a small canvas of it, or null where it cannot be read. */
async function showPicture(file) {
  try {
    const bitmap = await createImageBitmap(file);
    draw(preview, bitmap, PREVIEW_PIXELS);
    preview.setAttribute("aria-label", file.name || "The picture");
    [preview.hidden, hint.hidden] = [false, true];
    const small = make("canvas");
    draw(small, bitmap, 200);
    bitmap.close();
    return small;
  } catch {
    [preview.hidden, hint.hidden] = [true, false];
    return null;
  }
}

async function classifyFiles(files) {
  if (!model || !files.length) return;
  stopCamera();
  const isBatch = files.length > 1;
  for (const [i, file] of files.entries()) {
    const name = file.name || "pasted picture";
    say(isBatch ? `Picture ${i + 1} of ${files.length} …` : "Classifying …");
    const small = await showPicture(file);
    let result = null;
    let failure = null;
    try {
      result = await model.classify(file);
      show(result, name);
    } catch (error) {
      failure = error;
      showError(error, name);
    }
    remember(file, name, small, result, failure);
  }
}

function remember(file, name, small, result, failure) {
  const text = failure ? "not read" : isUnsure(result) ? "unsure" : result.predictions[0].label;
  const button = make("button", "", ...(small ? [small] : []), make("span", `${name}: ${text}`));
  button.type = "button";
  button.onclick = async () => {
    await showPicture(file);
    if (failure) showError(failure, name);
    else show(result, name);
  };
  element("list").prepend(make("li", "", button));
  element("earlier").hidden = element("list").children.length < 2;
}

element("files").onchange = ({ target }) => {
  classifyFiles([...target.files]).finally(() => (target.value = ""));
};
addEventListener("paste", ({ clipboardData }) => classifyFiles([...clipboardData.files]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", () => drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  classifyFiles([...event.dataTransfer.files]);
});

// ---- Camera ----

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    say("The camera cannot be used: it is missing, or this page may not use it.", true);
    return;
  }
  element("camera").setAttribute("aria-pressed", "true");
  video.srcObject = stream;
  [video.hidden, preview.hidden, hint.hidden] = [false, true, true];
  await video.play();
  while (stream) {
    try {
      show(await model.classify(await createImageBitmap(video)));
    } catch (error) {
      if (stream && video.readyState >= 2) showError(error, "camera");
    }
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = video.srcObject = null;
  [video.hidden, hint.hidden] = [true, false];
  element("camera").setAttribute("aria-pressed", "false");
}

element("camera").onclick = () => {
  if (stream) stopCamera();
  else if (model) startCamera();
};

// ---- Classes ----

function findClasses() {
  const wanted = element("search").value.trim().toLowerCase();
  const names = model?.classNames ?? [];
  const found = names.filter((name) => name.toLowerCase().includes(wanted));
  element("found").textContent =
    found.length > SHOWN_CLASSES
      ? `The first ${SHOWN_CLASSES} of ${found.length} classes`
      : `${found.length} of ${names.length} classes`;
  element("classes").replaceChildren(
    ...found.slice(0, SHOWN_CLASSES).map((name) => make("li", name)),
  );
}

element("search").oninput = findClasses;
element("retry").onclick = start;
start();
