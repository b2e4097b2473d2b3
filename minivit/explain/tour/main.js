// ---- main.js: start, and react to the reader -----------------------------------------------------------------

const maps = {};

/** Choose a place, a block or a head; what is null stays. Then redraw, and write the choice into the address. */
function choose(place, block = state.block, head = state.head) {
  state.place = place ?? state.place;
  if (state.place.prefix === undefined) state.patch = state.place;
  state.block = between(0, block, tour.blocks.length - 1);
  state.head = between(0, head, tour.blocks[state.block].heads - 1);
  showAll();
  const { prefix, row, column } = state.place;
  const token = prefix === undefined ? `${row + 1},${column + 1}` : tour.model.prefix[prefix].replace(" ", "-");
  history.replaceState(null, "", `#block=${state.block + 1}&head=${state.head + 1}&token=${token}`);
  setText("live", byId("attention-sentence").textContent);
}

/** Redraw everything that depends on the choice. */
function showAll() {
  const block = tour.blocks[state.block];
  for (const [name, most] of [["block", tour.blocks.length], ["head", block.heads]]) {
    byId(name).max = most;
    byId(name).value = state[name] + 1;
    byId(name).disabled = most === 1;
    setText(`${name}-value`, `${state[name] + 1} of ${most}`);
  }
  setText("token-value", nameOf(tokenAt(state.place, tour.blocks[0]), tour.blocks[0]));
  showPatch(state.patch);
  showEmbedding();
  showPositions();
  showBlock();
  showAttention();
  showAllHeads();
  showRollout();
}

/** Hide the parts of the page that belong to other models. */
function keepWhatApplies() {
  const { family, prefix, positions, stem, pool } = tour.model, swin = family === "Swin";
  const facts = {
    swin, deit: family === "DeiT", prefix: prefix.length > 0, "no-prefix": prefix.length === 0,
    positions: positions !== "none", tokens: prefix.length > 0 || positions !== "none", linear: stem === "patch",
    conv: stem === "conv", whole: !swin, bias: Boolean(tour.blocks[0].bias), "token-pool": pool === "token",
    "mean-pool": pool === "mean" && !swin,
  };
  for (const part of document.querySelectorAll("[data-if]")) {
    part.hidden = !part.dataset.if.split(" ").some((fact) => facts[fact]);
  }
}

/** The place of the grid of some block on the first grid. */
function onFirstGrid({ row, column }, [rows, columns]) {
  const merged = Math.max(1, mergedInto({ grid: [rows, columns] }));
  return { row: between(0, row * merged, grid[0] - 1), column: between(0, column * merged, grid[1] - 1) };
}

function makeMaps() {
  const pickable = (label, onMove) => ({ label: `${label}; arrow keys choose a patch`, onMove,
                                         onPick: (place, of) => choose(onFirstGrid(place, of)) });
  const hover = (show, rest) => (place, of) => show(place ? onFirstGrid(place, of) : state[rest]);
  const add = (name, id, options) => { maps[name] = new ImageMap(byId(id), options); };
  add("patch", "patch-map", pickable("The image and its patches", hover(showPatch, "patch")));
  add("embedding", "embedding-map", pickable("Norm of each embedded patch"));
  add("position", "position-map", pickable("Similarity of positions"));
  add("stream", "stream-map", pickable("Norm of each token before the block"));
  add("streamGradient", "stream-gradient-map", pickable("Norm of the gradient of each token before the block"));
  add("attention", "attention-map", pickable("Where the chosen token looks", hover(showAttention, "place")));
  add("rollout", "rollout-map", pickable("Attention rollout"));
  add("dpixels", "dpixels-map", { label: "Gradient of the loss in each pixel" });
  new ImageMap(byId("dpixels-image"), { label: "The image" });
}

function makeControls() {
  byId("block").addEventListener("input", (event) => choose(null, event.target.value - 1));
  byId("head").addEventListener("input", (event) => choose(null, state.block, event.target.value - 1));
  tour.model.prefix.forEach((name, prefix) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => choose({ prefix }));
    byId("prefix-buttons").append(button);
  });
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const open = (tab) => tabs.forEach((other) => {
    other.setAttribute("aria-selected", other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    byId(other.getAttribute("aria-controls")).hidden = other !== tab;
  });
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      open(tabs[1 - i]);
      tabs[1 - i].focus();
    });
  });
}

/** Head of the page: prediction, model, links to the stages. */
function showHead() {
  const { image, classes, predicted, probabilities, model, note } = tour;
  byId("portrait").src = image.url;
  byId("portrait").alt = image.title;
  setText("verdict", `Predicted ${classes[predicted]} (${percent(probabilities[predicted])})`
    + (image.true === null ? "" : `, true class ${image.true}`));
  setText("model", model.text);
  byId("note").hidden = !note;
  setText("note", note ?? "");
  for (const heading of document.querySelectorAll("#image-panel section:not([hidden]) > h2")) {
    const shown = [...heading.childNodes].filter((node) => !node.hidden).map((node) => node.textContent);
    byId("stages").append(make("a", { href: `#${heading.parentNode.id}` }, shown.join("").trim()));
  }
}

/** The choice in the address, #block=3&head=2&token=class-token or token=row,column; else the first block and token. */
function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const whole = (name) => (Number.parseInt(words.get(name), 10) || 1) - 1;
  const [row, column] = (words.get("token") ?? "").split(",").map((word) => Number.parseInt(word, 10) - 1);
  const prefix = Math.max(0, tour.model.prefix.findIndex((name) => name.replace(" ", "-") === words.get("token")));
  const onGrid = [row, column].every((i, axis) => i >= 0 && i < grid[axis]), flow = decode(tour.blocks.at(-1).rollout);
  const strongest = flow.indexOf(largest(flow));
  state.patch = onGrid ? { row, column } : { row: Math.floor(strongest / grid[1]), column: strongest % grid[1] };
  state.place = prefixCount && !onGrid ? { prefix } : state.patch;
  state.block = between(0, whole("block"), tour.blocks.length - 1);
  state.head = between(0, whole("head"), tour.blocks[state.block].heads - 1);
}

/** Load the image, which patches are cut out of; then draw everything. */
async function start() {
  const image = new Image();
  image.src = tour.image.url;
  await image.decode();
  photograph.width = image.naturalWidth;
  photograph.height = image.naturalHeight;
  document.documentElement.style.setProperty("--ratio", tour.model.size[1] / tour.model.size[0]);
  const brush = photograph.getContext("2d", { willReadFrequently: true });
  brush.drawImage(image, 0, 0);
  photograph.brightness = brightness(brush.getImageData(0, 0, photograph.width, photograph.height).data);
  keepWhatApplies();
  showHead();
  makeMaps();
  makeControls();
  makeWeightsChoice();
  readAddress();
  const fixed = () => {
    for (const show of [showPixels, showPrediction, showGradientPath, showPixelGradient, showTraining]) show();
  };
  fixed();
  showWeights();
  showAll();
  if (location.hash.startsWith("#block=")) byId("attention").scrollIntoView();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { fixed(); showAll(); });
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start();
