// ---- attention.js: tokens, their places, and the attention of one head, as in ops/attention.py ---------------

const prefixCount = tour.model.prefix.length;

/** The token of a block at a place {prefix} or {row, column} of the first grid. Merging makes later grids smaller. */
function tokenAt(place, block) {
  if (place.prefix !== undefined) return place.prefix;
  const merged = mergedInto(block), [, columns] = block.grid;
  return block.prefix + Math.floor(place.row / merged) * columns + Math.floor(place.column / merged);
}

/** How many rows and columns of the first grid became one in a block: a power of two. At an odd edge, fewer did. */
function mergedInto(block) {
  const [rows, columns] = tour.model.grid;
  return 2 ** Math.ceil(Math.log2(Math.max(rows / block.grid[0], columns / block.grid[1])));
}

/** The tokens of a block: class tokens and patches. */
const tokensOf = (block) => block.prefix + block.grid[0] * block.grid[1];

/** The place of a token on the grid of its block, {prefix} or {row, column}. */
function placeOf(token, block) {
  if (token < block.prefix) return { prefix: token };
  const [, columns] = block.grid, place = token - block.prefix;
  return { row: Math.floor(place / columns), column: place % columns };
}

/** A token in words. Rows and columns count from 1. The zeros that pad a window have the number after the last one. */
function nameOf(token, block) {
  if (isPadding(token, block)) return "padding of the window";
  const { prefix, row, column } = placeOf(token, block);
  return prefix === undefined ? `patch in row ${row + 1}, column ${column + 1}` : tour.model.prefix[prefix];
}

const isPadding = (token, block) => token >= tokensOf(block);

/** The number of the window of each token of a Swin's block; null if all tokens see each other. */
function windowsOf(block) {
  if (!block.windows) return null;
  if (!block.windowOfToken) {
    block.windowOfToken = new Int32Array(tokensOf(block));
    for (let g = 0; g < block.windows.shape[0]; g++) {
      pick(block.windows, g).forEach((token) => { block.windowOfToken[token] = g; });
    }
  }
  return block.windowOfToken;
}

/** The tokens that a token can see, in the order of the keys: those of its window, or all. */
function visible(block, token) {
  if (block.windows) return pick(block.windows, windowsOf(block)[token]);
  return Float32Array.from({ length: tokensOf(block) }, (_, i) => i);
}

/** What a relative position bias adds to the score of a query and a key; 0 without one. See ops/relative_bias.py. */
function biasOf(block, head, query, key) {
  if (!block.bias) return 0;
  const table = (index) => pick(block.bias, index)[head], [height, width] = block.window ?? block.grid;
  const last = (2 * height - 1) * (2 * width - 1);
  if (query < block.prefix || key < block.prefix) {
    return table(query >= block.prefix ? last + 1 : key >= block.prefix ? last : last + 2);
  }
  const tokens = block.windows ? visible(block, query) : null;
  const [a, b] = [query, key].map((token) => tokens ? tokens.indexOf(token) : token - block.prefix);
  const rows = Math.floor(a / width) - Math.floor(b / width), columns = a % width - b % width;
  return table((rows + height - 1) * (2 * width - 1) + columns + width - 1);
}

/**
 * Where a token looks in one head: [{token, score, probability}], the most probable key first; null if the page does
 * not keep it. `complete` says whether all keys are in the list; the mask of shifted windows leaves some out.
 */
function attentionRow(block, head, query) {
  const { scores, keys: places, prefix_scores: ofPrefix, log_sums: logSums } = block.attention;
  const tokens = visible(block, query), logSum = pick(logSums, head)[query];
  const whole = query < block.prefix && ofPrefix ? ofPrefix : places ? null : scores;
  if (!whole && !places) return null;
  const row = pick(whole ?? scores, head, query), where = whole ? null : pick(places, head, query);
  const found = Array.from(row, (score, i) => ({
    token: tokens[where ? where[i] : i], score, probability: Math.exp(score - logSum),
  })).filter(({ score }) => !Number.isNaN(score));
  found.sort((a, b) => b.probability - a.probability);
  found.complete = !where;
  return found;
}

/** The probabilities of a row as a map of the block's grid, without class tokens. */
function attentionMap(block, row) {
  const values = new Float32Array(block.grid[0] * block.grid[1]).fill(NaN);
  for (const { token, probability } of row) if (token >= block.prefix) values[token - block.prefix] = probability;
  return values;
}

/** The vector `name` of a token in a block, of one head for q, k and v; null if the page does not keep it. */
function vectorOf(block, name, token, head = null) {
  const i = block.vectors.tokens.indexOf(token);
  if (i < 0) return null;
  return head === null ? pick(block.vectors[name], i) : pick(block.vectors[name], head, i);
}
