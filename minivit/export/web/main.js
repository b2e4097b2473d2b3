// What happens on the page: strokes and files become pixels, the model classifies them, and the page shows the result.
"use strict";

const element = id => document.getElementById(id);
const model = JSON.parse(element("model").textContent);
const board = element("canvas"), brush = board.getContext("2d");
// The board has the shape of the model's images, but a long row of pixels gets more height.
const ratio = Math.min(4, Math.max(1 / 4, model.width / model.height));
let session = null, strokes = [], image = null, running = false, waiting = false;

async function start() {
  if (location.protocol === "file:") {
    return fail("A browser loads the model from a web server only. Run `python -m http.server` in this folder, and "
                + "open http://localhost:8000.");
  }
  try {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = new URL(".", location.href).href;
    session = await ort.InferenceSession.create("model.onnx");
  } catch (error) {
    return fail(`The model could not be loaded: ${error.message}`);
  }
  element("message").textContent = "";
  element("message").hidden = true;
  document.body.dataset.ready = "true";
  update();
}

function fail(text) {
  element("message").textContent = text;
  element("message").className = "error";
}

// Draw the board: the strokes as they are, or the image.
function paint() {
  brush.fillStyle = model.drawing && !image ? grey(model.drawing.paper) : "black";
  brush.fillRect(0, 0, board.width, board.height);
  if (image) {
    const scale = Math.min(board.width / image.width, board.height / image.height);
    const w = image.width * scale, h = image.height * scale;
    brush.drawImage(image, (board.width - w) / 2, (board.height - h) / 2, w, h);
  } else if (strokes.length) {
    strokeAll(brush, strokes, Math.min(board.width, board.height) * 0.07, grey(model.drawing.ink));
  }
}

// Classify what is on the board; while the model runs, only the newest state waits.
async function update() {
  paint();
  element("result").hidden = !(image || strokes.length);
  if (!session || element("result").hidden) return;
  if (running) {
    waiting = true;
    return;
  }
  running = true;
  try {
    show(...await classify(image ? pixelsOfImage(image, model) : pixelsOfStrokes(strokes, model)));
  } catch (error) {
    fail(`The image could not be classified: ${error.message}`);
  }
  running = false;
  if (waiting) {
    waiting = false;
    update();
  }
}

async function classify(pixels) {
  const begin = performance.now(), {height, width, channels} = model;
  const output = await session.run({images: new ort.Tensor("uint8", pixels, [1, height, width, channels])});
  const logits = Array.from(output.logits.data), largest = Math.max(...logits);
  const powers = logits.map(value => Math.exp(value - largest)), sum = powers.reduce((a, b) => a + b);
  return [pixels, powers.map(power => power / sum), output.attention, performance.now() - begin];
}

function show(pixels, probabilities, attention, milliseconds) {
  const order = probabilities.map((_, k) => k).sort((a, b) => probabilities[b] - probabilities[a]).slice(0, 5);
  const percent = k => `${(100 * probabilities[k]).toFixed(1)}%`;
  element("verdict").textContent = `${model.class_names[order[0]]} (${percent(order[0])})`;
  element("verdict").dataset.name = model.class_names[order[0]];
  element("classes").replaceChildren(...order.map(k => {
    const row = document.createElement("li"), bar = document.createElement("span");
    bar.style.width = percent(k);
    row.append(cell("name", model.class_names[k]), cell("bar", bar), cell("share", percent(k)));
    return row;
  }));
  showPixels(element("seen"), pixels, model);
  element("look").hidden = !attention;
  if (attention) {
    const most = Math.max(...attention.data), [, rows, columns] = attention.dims;
    showPixels(element("attention"), pixels, model, {values: attention.data.map(value => value / most), rows, columns});
  }
  element("time").textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
  document.body.dataset.results = Number(document.body.dataset.results ?? 0) + 1;
}

function cell(name, content) {
  const part = document.createElement("span");
  part.className = name;
  part.append(content);
  return part;
}

// ---- input ----------------------------------------------------------------------------------------------------------

function pointOf(event) {
  const box = board.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * board.width, (event.clientY - box.top) / box.height * board.height];
}

function clear() {
  strokes = [];
  image = null;
  update();
}

async function open(file) {
  if (!file) return;
  try {
    image = await createImageBitmap(file);
    element("message").hidden = true;
  } catch {
    element("message").hidden = false;
    return fail(`${file.name} is not an image that this browser can read.`);
  }
  strokes = [];
  update();
}

board.addEventListener("pointerdown", event => {
  if (!model.drawing || event.button) return;
  if (image) clear();
  board.setPointerCapture(event.pointerId);
  strokes.push([pointOf(event)]);
  update();
});
board.addEventListener("pointermove", event => {
  if (!board.hasPointerCapture(event.pointerId) || !strokes.length) return;
  strokes.at(-1).push(...(event.getCoalescedEvents?.() ?? [event]).map(pointOf));
  update();
});
element("clear").addEventListener("click", clear);
element("file").addEventListener("change", event => open(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, event => {
    event.preventDefault();
    element("board").classList.toggle("over", name === "dragover");
    if (name === "drop") open(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", event => open(event.clipboardData.files[0]));

board.width = Math.round(512 * Math.min(1, ratio));
board.height = Math.round(512 * Math.min(1, 1 / ratio));
document.body.style.setProperty("--ratio", ratio);
board.classList.toggle("draws", Boolean(model.drawing));
element("hint").textContent = model.drawing ? "Draw here, or drop an image." : "Drop an image here.";
element("size").textContent = `what the model sees: ${model.width} x ${model.height} pixels`;
paint();
start();
