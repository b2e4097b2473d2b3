// ---- numbers.js: read what numbers.py wrote -------------------------------------------------------------

const tour = JSON.parse(document.getElementById("tour").textContent);
const bytes = Uint8Array.from(atob(document.getElementById("numbers").textContent.trim()), (c) => c.charCodeAt(0));
const decoded = new Map();

/** All numbers of an entry {at, shape, bits, low, step}. The largest code stands for "no number", here NaN. */
function decode(entry) {
  if (!decoded.has(entry)) {
    const count = entry.shape.reduce((a, b) => a * b, 1), start = 2 * entry.at;
    const codes = entry.bits === 8 ? bytes.subarray(start, start + count) : new Uint16Array(bytes.buffer, start, count);
    const numbers = new Float32Array(count), nothing = 2 ** entry.bits - 1;
    for (let i = 0; i < count; i++) numbers[i] = codes[i] === nothing ? NaN : entry.low + entry.step * codes[i];
    decoded.set(entry, numbers);
  }
  return decoded.get(entry);
}

/** The part of an array with the given first indices: pick(scores, head, query) is one row of (h, N, n). */
function pick(entry, ...indices) {
  let start = 0, size = entry.shape.reduce((a, b) => a * b, 1);
  indices.forEach((index, axis) => {
    size /= entry.shape[axis];
    start += index * size;
  });
  return decode(entry).subarray(start, start + size);
}

const sum = (x) => x.reduce((a, b) => a + b, 0);
const mean = (x) => sum(x) / x.length;
const variance = (x) => mean(x.map((value) => (value - mean(x)) ** 2));
const norm = (x) => Math.sqrt(sum(x.map((value) => value * value)));
const add = (x, y) => x.map((value, i) => value + y[i]);
const between = (low, x, high) => Math.max(low, Math.min(high, x));
const largest = (x) => x.reduce((most, value) => value > most ? value : most, 0);

/** A number as text with three digits, and a percentage with one decimal. */
function text(x) {
  if (!Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  const plain = size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(2)
    : size >= 1000 ? x.toFixed(0) : String(Number(x.toPrecision(3)));
  return plain.replace("-", "−").replace("e−", "e-");
}
const percent = (p) => `${(100 * p).toFixed(1)}%`;
