// ---- stages.js: the stages of the forward, filled in for the chosen token, block and head --------------------

// The chosen place is on the first grid, {row, column}, or a class token, {prefix}. Block and head count from 0.
// `patch` is the last patch that was chosen: a class token has no pixels.
const state = { place: null, patch: null, block: 0, head: 0 };
const { patch, grid, channels } = tour.model;                      // of the first block: rows and columns
const photograph = document.createElement("canvas");              // the image, to cut patches out of it

const setText = (id, words) => { byId(id).textContent = words; };
const setBackward = (name, words) => {
  for (const line of document.querySelectorAll(`[data-gradient="${name}"]`)) line.textContent = words;
};
const setShape = (name, ...sizes) => {
  for (const code of document.querySelectorAll(`[data-shape="${name}"]`)) code.textContent = `(${sizes.join(", ")})`;
};

/** Show vectors below each other, all to one scale if `together`. If the page does not keep them, say so. */
function showVectors(id, rows, together = true) {
  const host = byId(id);
  if (rows.some(([, values]) => values === null)) {
    host.replaceChildren(notKept());
    return;
  }
  const most = largest(rows.flatMap(([, values]) => Array.from(values, Math.abs)));
  host.replaceChildren(...rows.map(([name, values]) => vectorRow(name, values, together ? most : undefined)));
}

/** A sentence that says of which tokens of this block the page keeps the vectors, with buttons to choose them. */
function notKept() {
  const block = tour.blocks[state.block], { tokens } = block.vectors;
  const words = "A model of this size has more numbers than fit into a page, which keeps the vectors of "
    + (tokens.length ? "these tokens only: " : "no token. Norms and scores are shown.");
  const buttons = tokens.slice(0, 12).map((token) => {
    const button = make("button", { type: "button" }, nameOf(token, block));
    button.addEventListener("click", () => choose(placeOnFirstGrid(token, block)));
    return button;
  });
  return make("p", { class: "faint kept" }, words, ...buttons);
}

/** The place of a token on the first grid; of a merged token, its first patch. */
function placeOnFirstGrid(token, block) {
  const { prefix, row, column } = placeOf(token, block), merged = mergedInto(block);
  return prefix === undefined ? { row: row * merged, column: column * merged } : { prefix };
}

/** Draw the pixels of a token onto a canvas, and return their brightness; null for a class token. */
function cut(canvas, token, block) {
  const { prefix, row, column } = placeOf(token, block);
  if (prefix !== undefined || isPadding(token, block)) return null;
  const merged = mergedInto(block), [height, width] = [photograph.height / grid[0], photograph.width / grid[1]];
  const [rows, columns] = [Math.min(merged, grid[0] - row * merged), Math.min(merged, grid[1] - column * merged)];
  canvas.width = Math.max(1, Math.round(columns * width));
  canvas.height = Math.max(1, Math.round(rows * height));
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.imageSmoothingEnabled = false;
  brush.drawImage(photograph, column * merged * width, row * merged * height, columns * width, rows * height, 0, 0,
                  canvas.width, canvas.height);
  const { data } = brush.getImageData(0, 0, canvas.width, canvas.height);
  return brightness(data);
}

/** The mean of the colours of RGBA pixels: 0 for black, 1 for white. */
function brightness(data) {
  let total = 0;
  for (let i = 0; i < data.length; i += 4) total += data[i] + data[i + 1] + data[i + 2];
  return total / (data.length / 4 * 3 * 255);
}

// ---- before the blocks ----------------------------------------------------------------------------------

function showPixels() {
  const { size, mean: means, std } = tour.model, numbersOf = (x) => x.map((value) => text(value)).join(", ");
  setShape("pixels", ...size, channels);
  setShape("patches", grid[0] * grid[1], patch[0] * patch[1] * channels);
  setShape("embedding", grid[0] * grid[1], tour.model.width);
  setShape("tokens", tour.model.tokens, tour.model.width);
  setText("pixels-real", `${size[0]} × ${size[1]} pixels, ${channels} ${channels === 1 ? "channel" : "channels"}; `
    + `mean ${numbersOf(means)}, std ${numbersOf(std)}. A black pixel becomes ${text(-means[0] / std[0])}, `
    + `a white one ${text((1 - means[0]) / std[0])}.`);
  setBackward("pixels", `|∂loss/∂x| = ${text(tour.gradient)}; drawn below, under “The gradient in pixels”`);
  setBackward("embedding", `|∂loss/∂x_m| = ${text(tour.embedding.gradient)}, over all patches`);
  setBackward("tokens", `|∂loss/∂z₀| = ${text(tour.embedding.stream_gradient)}; the sum passes it on to the patches, `
    + "the class token and the positions");
}

/** The patch under the pointer, or the last one chosen: its frame, its pixels, its numbers. */
function showPatch(place) {
  const { row, column } = place, block = tour.blocks[0], token = tokenAt(place, block), canvas = byId("patch-zoom");
  maps.patch.show({ grid, query: place });
  const light = cut(canvas, token, block);
  canvas.style.aspectRatio = patch[1] / patch[0];
  canvas.setAttribute("aria-label", `the ${nameOf(token, block)}, enlarged`);
  setText("patch-caption", `Row ${row + 1}, column ${column + 1} is patch ${row * grid[1] + column + 1} of `
    + `${grid[0] * grid[1]}: pixel rows ${row * patch[0] + 1} to ${(row + 1) * patch[0]}, pixel columns `
    + `${column * patch[1] + 1} to ${(column + 1) * patch[1]}. Its mean brightness is ${percent(light)}. It makes `
    + `token ${token}, counted from 0.`);
  byId("patch-numbers").replaceChildren(...patchNumbers(place));
}

/** The normalised numbers of a patch as a table, for patches of at most 64 numbers. */
function patchNumbers({ row, column }) {
  if (!tour.pixels || patch[0] * patch[1] * channels > 64) return [];
  const { mean: means, std } = tour.model, rows = [];
  for (let y = row * patch[0]; y < (row + 1) * patch[0]; y++) {
    const cells = [];
    for (let x = column * patch[1]; x < (column + 1) * patch[1]; x++) {
      for (const [c, value] of pick(tour.pixels, y, x).entries()) {
        cells.push(make("td", {}, text((value / 255 - means[c]) / std[c])));
      }
    }
    rows.push(make("tr", {}, ...cells));
  }
  const caption = make("caption", { class: "faint" }, "its normalised numbers");
  return [make("table", { class: "pixel-table" }, caption, ...rows)];
}

function showEmbedding() {
  const { embedding } = tour, block = tour.blocks[0], at = embedding.tokens.indexOf(tokenAt(state.patch, block));
  const values = decode(embedding.norms);
  maps.embedding.show({ grid, values, least: Math.min(...values), query: state.patch, plain: true });
  showVectors("embedding-vectors", [[`x of the ${nameOf(tokenAt(state.patch, block), block)}`,
                                     at < 0 ? null : pick(embedding.vectors, at)]]);
}

function showPositions() {
  const { embedding } = tour, block = tour.blocks[0], token = tokenAt(state.place, block), { prefix } = state.place;
  if (!embedding.positions && !prefixCount) return;
  const of = (entry, tokens) => tokens.includes(token) ? pick(entry, tokens.indexOf(token)) : null;
  const x = prefix === undefined ? of(embedding.vectors, embedding.tokens) : pick(embedding.prefix, prefix);
  const name = prefix === undefined ? "embedded patch" : nameOf(token, block);
  if (!embedding.positions) {
    showVectors("position-vectors", [[name, x]]);
    return;
  }
  const position = of(embedding.positions, embedding.position_tokens);
  showVectors("position-vectors", [[name, x], ["its position", position],
                                   ["their sum, z₀", x && position ? add(x, position) : null]]);
  const similar = prefix === undefined ? of(embedding.similarity, embedding.tokens) : null;
  maps.position.show({ grid, values: similar ?? [], most: 1, query: state.place, plain: Boolean(similar) });
  setText("position-caption", similar ? "Cosine of the position of this patch and of every other"
    : "Choose a patch to see which positions are similar to its own.");
}

// ---- a block --------------------------------------------------------------------------------------------

/** The vectors and maps of the chosen block, except its attention. */
function showBlock() {
  const block = tour.blocks[state.block], token = tokenAt(state.place, block), query = placeOf(token, block);
  const { norms, gradients, vectors, width, heads, hidden } = block, count = tokensOf(block);
  const get = (name) => vectorOf(block, name, token), byHead = (name) => vectorOf(block, name, token, state.head);
  setText("block-path", `In the code, block ${state.block + 1} is ${block.path}. Chosen: the ${nameOf(token, block)}, `
    + `token ${token} of ${count}, counted from 0.`);
  setShape("stream", count, width);
  setShape("qkv", 3, heads, count, width / heads);
  setShape("scores", heads, count, block.windows ? block.windows.shape[1] : count);
  setShape("hidden", count, hidden);
  setText("merging", block.merged ? "Before this block, four neighbouring tokens were merged into one of twice the "
    + "width (ops/merging.py)." : `The tokens lie on a grid of ${block.grid.join(" × ")}.`);

  setBackward("stream", `|∂loss/∂z| = ${text(gradients.x)} before the block, ${text(gradients.mid)} between its `
    + `branches, ${text(gradients.out)} after it`);
  showTokenMap(maps.stream, norms.x, block, query);
  showTokenMap(maps.streamGradient, norms.dx, block, query);
  byId("stream-chart").replaceChildren(streamChart(token));
  const z = get("x"), attended = get("branch1"), fed = get("branch2");
  showVectors("stream-vectors", [["z, before the block", z], ["+ attention branch", attended], ["+ MLP branch", fed],
                                 ["z″, after the block", z ? add(add(z, attended), fed) : null]]);

  setText("norm1-real", z ? `z of the ${nameOf(token, block)} has mean ${text(mean(z))} and standard deviation `
    + `${text(Math.sqrt(variance(z)))}.` : "");
  setBackward("normed1", `|∂loss/∂LN(z)| = ${text(gradients.normed1)}`);
  showVectors("norm1-vectors", [["z", z], ["LN(z)", get("normed1")]], false);
  setBackward("qkv", `|∂loss/∂[q, k, v]| = ${text(gradients.qkv)}`);
  showVectors("qkv-vectors", ["q", "k", "v"].map((name) => [`${name}, head ${state.head + 1}`, byHead(name)]));

  const features = get("hidden");
  setText("mlp-real", `GELU leaves ${percent(block.active)} of all ${count} × ${hidden} features of this block positive`
    + (features ? `, and ${percent(mean(features.map((f) => f > 0)))} of those of the ${nameOf(token, block)}.` : "."));
  setBackward("hidden", `|∂loss/∂GELU| = ${text(gradients.hidden)}, |∂loss/∂LN(z′)| = ${text(gradients.normed2)}`);
  showVectors("mlp-vectors", [["LN(z′)", get("normed2")], ["features after the GELU", features],
                              ["output of the MLP", fed]], false);
}

/** A map of one number for each token, class tokens included. */
function showTokenMap(map, entry, block, query) {
  const values = decode(entry);
  map.show({ grid: block.grid, values: values.subarray(block.prefix), query, least: Math.min(...values),
             most: largest(values), plain: true,
             prefix: tour.model.prefix.map((name, i) => ({ name: `${name} ${text(values[i])}`, value: values[i] })) });
}

/** The norm of the stream before the first block and after each, of the chosen token and in the mean. */
function streamChart() {
  const streams = [[tour.blocks[0], "x"], ...tour.blocks.map((block) => [block, "out"])];
  const series = [
    { name: "chosen token", colour: cssColour("blue"),
      values: streams.map(([block, name]) => decode(block.norms[name])[tokenAt(state.place, block)]) },
    { name: "mean of all tokens", colour: cssColour("orange"),
      values: streams.map(([block, name]) => mean(decode(block.norms[name]))) },
  ];
  const chart = lineChart("norm of the residual stream after each block", streams.map((_, l) => l), series,
                          { across: "after block", now: state.block + 1, zero: true });
  return make("div", {}, chart, make("p", { class: "faint" }, ...keys(series)));
}

// ---- attention ------------------------------------------------------------------------------------------

/** Where a place looks in the chosen block and head: map, sentence and table. */
function showAttention(place = state.place) {
  const block = tour.blocks[state.block], query = tokenAt(place, block), row = attentionRow(block, state.head, query);
  const map = { grid: block.grid, query: placeOf(query, block), windows: windowsOf(block) };
  const where = `block ${state.block + 1}, head ${state.head + 1}`;
  setText("window-text", windowWords(block));
  if (!row) {
    maps.attention.show(map);
    setText("attention-sentence", `In ${where} of a model of this size, the page keeps where the `
      + `${tour.model.prefix.join(" and the ")} looks only.`);
    byId("attention-table").hidden = true;
    return;
  }
  const top = row.slice(0, 5), most = row[0].probability;
  const ofPrefix = tour.model.prefix.map((name, i) => row.find(({ token }) => token === i)?.probability ?? NaN);
  maps.attention.show({
    ...map, values: attentionMap(block, row), most, format: percent,
    marks: top.map(({ token }) => placeOf(token, block)),
    prefix: tour.model.prefix.map((name, i) => (
      { name: `${name} ${Number.isNaN(ofPrefix[i]) ? "" : percent(ofPrefix[i])}`, value: ofPrefix[i] })),
  });
  setText("attention-caption", `${where}: orange shows where the ${nameOf(query, block)} looks. Move over the image to `
    + "see where another patch looks.");
  setText("attention-sentence", attentionWords(block, query, row));
  setText("attention-kept", row.complete ? "" : `The page keeps the ${row.length} strongest keys of this query; they `
    + `take ${percent(sum(row.map(({ probability }) => probability)))}.`);
  byId("attention-table").hidden = false;
  fillAttentionTable(block, query, top);
  showProducts(block, query, top[0].token);
}

/** Where a token looks most, and why, in words. */
function attentionWords(block, query, row) {
  const { token, score, probability } = row[0], keysInSight = row.complete ? row.length : visible(block, query).length;
  const top = row.slice(0, 5), share = sum(top.map((key) => key.probability));
  const bias = biasOf(block, state.head, query, token), dot = score - bias;
  const light = cut(document.createElement("canvas"), token, block);
  const target = token === query ? `itself (the ${nameOf(token, block)})` : `the ${nameOf(token, block)}`;
  return `In block ${state.block + 1}, head ${state.head + 1}, the ${nameOf(query, block)} looks most at ${target}: `
    + `${percent(probability)} of its attention, ${text(probability * keysInSight)} times an equal share. `
    + `Why: the score of this key is ${text(score)}`
    + (row.complete ? `, while the mean score of all keys is ${text(mean(row.map((key) => key.score)))}` : "")
    + (block.bias ? ` (q·k/√d ${text(dot)}, bias ${text(bias)}). ` : ". ")
    + cosineWords(block, query, token, dot)
    + (light === null ? "" : `The mean brightness of this patch is ${percent(light)}, that of the image `
      + `${percent(photograph.brightness)}. `)
    + `The ${top.length} keys in the table take ${percent(share)}.`;
}

/** The cosine of a query and a key, and their norms, from q.k / sqrt d; null if the page does not keep the norms. */
function cosineOf(block, query, key, dot) {
  const { q, k } = block.head_norms;
  if (!q || isPadding(key, block)) return null;
  const ofQuery = pick(q, state.head)[query], ofKey = pick(k, state.head)[key];
  const root = Math.sqrt(block.width / block.heads);
  return { cosine: dot * root / (ofQuery * ofKey), ofQuery, ofKey, root };
}

/** q.k / sqrt d as the product of two norms and a cosine, in words. */
function cosineWords(block, query, key, dot) {
  const found = cosineOf(block, query, key, dot);
  if (!found) return "";
  const { cosine, ofQuery, ofKey, root } = found;
  const direction = cosine > 0.3 ? "point in similar directions" : cosine < -0.3 ? "point in opposite directions"
    : "are nearly at right angles";
  return `Its key and this query ${direction} (cosine ${text(cosine)}): |q| · |k| · cosine / √d = ${text(ofQuery)} · `
    + `${text(ofKey)} · ${text(cosine)} / ${text(root)} = ${text(dot)}. `
    + lengthWords(ofKey, mean(pick(block.head_norms.k, state.head)));
}

/** What the length of a key does to its score, in words. */
function lengthWords(ofKey, usual) {
  const compared = `|k| is ${text(ofKey)}, the mean of this head ${text(usual)}: `;
  if (ofKey > 1.15 * usual) return `${compared}this key is longer than most, so its scores are further from 0. `;
  if (ofKey < usual / 1.15) return `${compared}this key is shorter than most, so its direction must fit better. `;
  return `${compared}the length is ordinary, so the direction decides. `;
}

function fillAttentionTable(block, query, top) {
  const { k, v } = block.head_norms, most = top[0].probability;
  const head = ["key", "shows", "q·k/√d", ...(block.bias ? ["bias", "score"] : []), "probability",
                ...(k ? ["cosine", "|k|", "|v|"] : [])];
  const rows = top.map(({ token, score, probability }, i) => {
    const canvas = make("canvas", { class: "pixelated", role: "img" }), light = cut(canvas, token, block);
    canvas.setAttribute("aria-label", light === null ? "no pixels" : `pixels, mean brightness ${percent(light)}`);
    const bias = biasOf(block, state.head, query, token), dot = score - bias, share = 100 * probability / most;
    const bar = make("span", { class: "over-bar", style: `--share: ${share.toFixed(1)}%` }, percent(probability));
    const padding = isPadding(token, block), known = k && !padding;
    const norms = known ? [k, v].map((entry) => pick(entry, state.head)[token]) : [];
    return [`${i + 1}. ${nameOf(token, block)}`, light !== null ? canvas : padding ? "zeros" : "learned", text(dot),
            ...(block.bias ? [text(bias), text(score)] : []), bar,
            ...(known ? [cosineOf(block, query, token, dot).cosine, ...norms].map(text) : k ? ["", "", ""] : [])];
  });
  const filled = table(head, rows), host = byId("attention-table");
  host.replaceChildren(host.querySelector("caption"), ...filled.children);
}

/** The numbers of the query, of its strongest key, and their products, whose sum is the score. */
function showProducts(block, query, key) {
  const host = byId("product-vectors");
  const q = vectorOf(block, "q", query, state.head), k = vectorOf(block, "k", key, state.head);
  if (!q || !k) return host.replaceChildren();
  const root = Math.sqrt(q.length), products = q.map((value, i) => value * k[i] / root);
  host.replaceChildren(
    make("h4", {}, "The score of the first key, number by number"),
    vectorRow(`q of the ${nameOf(query, block)}`, q), vectorRow(`k of the ${nameOf(key, block)}`, k),
    vectorRow(`q_i k_i / √d, sum ${text(sum(products))}`, products));
}

/** Which windows a block of a Swin has. */
function windowWords(block) {
  if (!block.windows) return "There is one window, the whole image: every token sees every token.";
  const words = `Attention stays within windows of ${block.window.join(" × ")} tokens (blue lines). `
    + (block.windows.shape[0] * block.windows.shape[1] > tokensOf(block) ? "Windows at the edge are padded with zeros, "
      + "which take part in the attention. " : "");
  const [down, right] = block.shift, by = down === right ? down : `${down} rows and ${right} columns`;
  return words + (down || right ? `In this block they are shifted by ${by}, so they cross the borders of the `
    + "block before. A window that joins opposite edges of the image has a mask: tokens of different edges do not see "
    + "each other."
    : "In this block they are not shifted.");
}

/** Small maps of all heads and blocks, for the chosen token; a click chooses the head. */
function showAllHeads() {
  const most = Math.max(...tour.blocks.map(({ heads }) => heads)), host = byId("all-heads");
  const chosen = nameOf(tokenAt(state.place, tour.blocks[0]), tour.blocks[0]);
  setText("heads-title", `Where the ${chosen} looks in every head of every block`);
  host.style.gridTemplateColumns = `auto repeat(${most}, auto)`;
  host.style.setProperty("--thumbnail", `${most > 8 ? 2.6 : 4}rem`);
  if (!host.children.length) makeHeadButtons(host, most);
  const tint = colour("orange");
  for (const button of host.querySelectorAll("button")) {
    const [l, head] = [Number(button.dataset.block), Number(button.dataset.head)], block = tour.blocks[l];
    const query = tokenAt(state.place, block), row = attentionRow(block, head, query);
    paint(button.firstChild, block.grid, row ? attentionMap(block, row) : [], 0, row ? row[0].probability : 1, tint);
    button.setAttribute("aria-pressed", l === state.block && head === state.head);
    button.setAttribute("aria-label", `block ${l + 1}, head ${head + 1}`
      + (row ? `: most at the ${nameOf(row[0].token, block)}, ${percent(row[0].probability)}` : ""));
    button.title = button.getAttribute("aria-label");
  }
}

function makeHeadButtons(host, most) {
  const title = (words) => make("span", { class: "faint" }, words);
  host.append(make("span"), ...Array.from({ length: most }, (_, a) => title(`head ${a + 1}`)));
  tour.blocks.forEach((block, l) => {
    host.append(title(`block ${l + 1}`));
    for (let a = 0; a < most; a++) {
      if (a >= block.heads) {
        host.append(make("span"));
        continue;
      }
      const canvas = make("canvas", { class: "pixelated" });
      const button = make("button", { type: "button", "data-block": l, "data-head": a }, canvas);
      button.addEventListener("click", () => choose(null, l, a));
      host.append(button);
    }
  });
}

function showRollout() {
  const values = decode(tour.blocks[state.block].rollout), who = tour.model.prefix[0] ?? "average token";
  maps.rollout.show({ grid, values, least: Math.min(...values), plain: true, format: percent });
  setText("rollout-caption", `Attention rollout: the attention of blocks 1 to ${state.block + 1}, multiplied, with `
    + `half of the weight on the residual connection. It estimates which patches have reached the ${who} by now. `
    + "No head or token is chosen here.");
}

// ---- after the blocks -----------------------------------------------------------------------------------

function showPrediction() {
  const { pooled, classes, logits, probabilities, dlogits, heads, target, predicted, loss } = tour;
  const vectors = Array.from({ length: pooled.vectors.shape[0] }, (_, i) => pick(pooled.vectors, i));
  const names = vectors.length > 1 ? tour.model.prefix.map((name) => `the ${name}`) : ["the image"];
  setShape("pooled", ...(vectors.length > 1 ? [vectors.length] : []), vectors[0].length);
  setShape("logits", classes.length);
  setBackward("pooled", `|∂loss/∂y| = ${text(pooled.gradient)}`);
  showVectors("pooling-vectors", vectors.map((values, i) => [`y of ${names[i]}`, values]));
  const order = classes.map((_, k) => k).sort((a, b) => logits[b] - logits[a]);
  const shown = order.filter((k, i) => i < 10 || k === target);
  const rows = shown.map((k) => [
    classes[k] + (k === target ? " (class of the loss)" : ""), text(logits[k]),
    ...(heads ?? []).map((one) => text(one[k])), percent(probabilities[k]),
    make("span", { class: "bar", style: `width: ${8 * probabilities[k]}rem` }), text(dlogits[k])]);
  const head = ["class", "logit", ...(heads ? ["class token's", "distillation token's"] : []), "probability", "",
                "∂loss/∂logit"];
  byId("logits-table").replaceChildren(table(head, rows));
  const why = tour.image.true === null ? "the predicted class, as the true class is unknown"
    : target === predicted ? "the true class, which is also predicted" : "the class that was chosen or the true class";
  setText("loss-real", `The class is ${classes[target]} (${why}). loss = −log ${text(probabilities[target])} = `
    + `${text(loss)}, without label smoothing.`);
}
