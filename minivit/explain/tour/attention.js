// ---- attention.js: tokens, their places, and the attention of one head, as in ops/attention.py ---------------

const prefixCount = tour.model.prefix.length;

/** The token of a block at a place {prefix} or {row, column} of the first grid. Merging makes later grids smaller. */
function tokenAt(place, block) {
  if (place.prefix !== undefined) return place.prefix;
  const merged = tour.model.side / block.side;
  return block.prefix + Math.floor(place.row / merged) * block.side + Math.floor(place.column / merged);
}

/** The place of a token on the grid of its block, {prefix} or {row, column}. */
function placeOf(token, block) {
  if (token < block.prefix) return { prefix: token };
  return { row: Math.floor((token - block.prefix) / block.side), column: (token - block.prefix) % block.side };
}

/** A token in words. Rows and columns count from 1. */
function nameOf(token, block) {
  const { prefix, row, column } = placeOf(token, block);
  return prefix === undefined ? `patch in row ${row + 1}, column ${column + 1}` : tour.model.prefix[prefix];
}

/** The number of the window of each token of a Swin's block; null if all tokens see each other. */
function windowsOf(block) {
  if (!block.windows) return null;
  if (!block.windowOfToken) {
    block.windowOfToken = new Int32Array(block.side ** 2);
    for (let g = 0; g < block.windows.shape[0]; g++) {
      pick(block.windows, g).forEach((token) => { block.windowOfToken[token] = g; });
    }
  }
  return block.windowOfToken;
}

/** The tokens that a token can see, in the order of the keys: those of its window, or all. */
function visible(block, token) {
  if (block.windows) return pick(block.windows, windowsOf(block)[token]);
  return Float32Array.from({ length: block.prefix + block.side ** 2 }, (_, i) => i);
}

/** What a relative position bias adds to the score of a query and a key; 0 without one. See ops/relative_bias.py. */
function biasOf(block, head, query, key) {
  if (!block.bias) return 0;
  const table = (index) => pick(block.bias, index)[head], side = block.window ?? block.side;
  const last = (2 * side - 1) ** 2;
  if (query < block.prefix || key < block.prefix) {
    return table(query >= block.prefix ? last + 1 : key >= block.prefix ? last : last + 2);
  }
  const tokens = block.windows ? visible(block, query) : null;
  const [a, b] = [query, key].map((token) => tokens ? tokens.indexOf(token) : token - block.prefix);
  const rows = Math.floor(a / side) - Math.floor(b / side), columns = a % side - b % side;
  return table((rows + side - 1) * (2 * side - 1) + columns + side - 1);
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
  const values = new Float32Array(block.side ** 2).fill(NaN);
  for (const { token, probability } of row) if (token >= block.prefix) values[token - block.prefix] = probability;
  return values;
}

/** The vector `name` of a token in a block, of one head for q, k and v; null if the page does not keep it. */
function vectorOf(block, name, token, head = null) {
  const i = block.vectors.tokens.indexOf(token);
  if (i < 0) return null;
  return head === null ? pick(block.vectors[name], i) : pick(block.vectors[name], head, i);
}
