// ---- backward.js: norms of gradients, stage by stage and layer by layer ----------------------------------------

/** The stages from the loss to the pixels: [name, norm of the gradient]. */
function gradientPath() {
  const path = [["logits", norm(tour.dlogits)], ["y, after pooling", tour.pooled.gradient]];
  [...tour.blocks.keys()].reverse().forEach((l) => {
    const { gradients } = tour.blocks[l];
    path.push([`z after block ${l + 1}`, gradients.out], [`z′ in block ${l + 1}, before its MLP`, gradients.mid]);
  });
  path.push(["z₀, before block 1", tour.embedding.stream_gradient], ["embedded patches", tour.embedding.gradient],
            ["pixels, normalised", tour.gradient]);
  return path;
}

/** A norm as a fraction of the way from the smallest to the largest, on a logarithmic scale. */
function onLogScale(values) {
  const logs = values.filter((x) => x > 0).map(Math.log10);
  const low = Math.min(...logs), span = Math.max(...logs) - low || 1;
  return (x) => x > 0 ? 0.06 + 0.94 * (Math.log10(x) - low) / span : 0;
}

function showGradientPath() {
  const path = gradientPath(), scale = onLogScale(path.map(([, x]) => x));
  const bar = (x) => make("span", { class: "bar", style: `width: ${12 * scale(x)}rem` });
  const rows = path.map(([name, x]) => [name, text(x), bar(x)]);
  byId("path-table").replaceChildren(table(["∂loss/∂ …", "norm", "bars: logarithmic scale"], rows));
}

const MEASURES = {
  gradient: ["gradient norm", (p) => p.gradient],
  weight: ["weight norm", (p) => p.weight],
  ratio: ["gradient / weight", (p) => p.weight > 0 ? p.gradient / p.weight : NaN],
};

/** Radio buttons for what the table of layers shows. */
function makeWeightsChoice() {
  byId("weights-choice").replaceChildren(...Object.entries(MEASURES).map(([key, [name]], i) => {
    const input = make("input", { type: "radio", name: "measure", value: key });
    input.checked = i === 0;
    input.addEventListener("change", () => showWeights(key));
    return make("label", {}, input, name);
  }));
}

/** The parameters by block: {kind: [parameter of block 1, ...]}, such as "attn.qkv.weight"; and those outside. */
function parametersByBlock() {
  const inside = new Map(), outside = [];
  for (const parameter of tour.parameters) {
    const l = tour.blocks.findIndex(({ path }) => parameter.name.startsWith(`${path}.`));
    if (l < 0) {
      outside.push(parameter);
      continue;
    }
    const kind = parameter.name.slice(tour.blocks[l].path.length + 1);
    if (!inside.has(kind)) inside.set(kind, Array(tour.blocks.length).fill(null));
    inside.get(kind)[l] = parameter;
  }
  return { inside, outside };
}

/** A table: the parameters of a block in rows, the blocks in columns; then the parameters outside of the blocks. */
function showWeights(measure = "gradient") {
  const [name, of] = MEASURES[measure], { inside, outside } = parametersByBlock();
  const scale = onLogScale(tour.parameters.map(of).filter(Number.isFinite));
  const shaded = (parameter) => {
    const x = parameter ? of(parameter) : NaN, cell = make("td", {}, Number.isFinite(x) ? text(x) : "");
    cell.style.background = Number.isFinite(x) ? `rgb(var(--orange) / ${(0.65 * scale(x)).toFixed(2)})` : "none";
    return cell;
  };
  const row = (title, cells) => make("tr", {}, make("th", { scope: "row" }, title), ...cells);
  const shadedTable = (title, head, rows) => make("table", { class: "shaded" },
    make("caption", { class: "faint" }, title),
    make("thead", {}, make("tr", {}, ...head.map((cell) => make("th", { scope: "col" }, cell)))),
    make("tbody", {}, ...rows));
  byId("weights-table").replaceChildren(
    shadedTable(`${name} of each parameter, by block`, ["parameter", ...tour.blocks.map((_, l) => `block ${l + 1}`)],
                Array.from(inside, ([kind, ofBlocks]) => row(kind, ofBlocks.map(shaded)))),
    shadedTable(`${name} of the parameters outside of the blocks`, ["parameter", "shape", name],
                outside.map((p) => row(p.name, [make("td", {}, p.shape.join(" × ")), shaded(p)]))));
}

function showPixelGradient() {
  const values = decode(tour.dpixels), { size } = tour.model;
  maps.dpixels.show({ grid: size, values, plain: true, tints: ["red", "blue"] });
  const at = values.reduce((best, x, i) => Math.abs(x) > Math.abs(values[best]) ? i : best, 0);
  setText("dpixels-real", `The strongest pixel is in row ${Math.floor(at / size[1]) + 1}, column ${at % size[1] + 1}: `
    + `${text(values[at])}. If it became brighter by one hundredth of the way from black to white, the loss would `
    + `change by about ${text(values[at] / 100)}.`);
}
