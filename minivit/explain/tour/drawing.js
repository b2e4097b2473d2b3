// ---- drawing.js: maps of an image, bars of a vector, curves ---------------------------------------------

const byId = (id) => document.getElementById(id);

/** A new HTML element with attributes and children (elements or text). */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A new SVG element. */
function draw(tag, attributes = {}, content = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (content !== "") element.textContent = content;
  return element;
}

/** A colour of the style sheet as [red, green, blue]; it differs between light and dark mode. */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim().split(/\s+/).map(Number);
}

/** The same colour for a style, which follows the mode by itself. */
const cssColour = (name) => `rgb(var(--${name}))`;

/**
 * Fill a canvas with a pixel for each place of a grid, [rows, columns]. A pixel is transparent for numbers up to
 * `least`, and opaque from `most` on.
 * Negative numbers have the colour `less`.
 */
function paint(canvas, [rows, columns], values, least, most, more = colour("orange"), less = colour("blue")) {
  canvas.width = columns;
  canvas.height = rows;
  const picture = new ImageData(columns, rows);
  values.forEach((value, i) => {
    if (!Number.isFinite(value) || most <= least) return;
    const strength = between(0, (Math.abs(value) - least) / (most - least), 1);
    picture.data.set([...(value < 0 ? less : more), 235 * strength], 4 * i);
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/**
 * A map: the image, and over it one number for each place of a grid, as a heat map.
 *
 * A map with `onPick` is a control: the pointer or the arrow keys choose a place {row, column}. `onMove` is told where
 * the pointer is, and null when it leaves.
 */
class ImageMap {
  constructor(host, { label, onMove, onPick }) {
    this.label = label;
    this.prefix = make("div", { class: "prefix" });
    this.image = make("img", { alt: "", class: "pixelated", src: tour.image.url });
    this.canvas = make("canvas", { class: "pixelated" });
    this.lines = draw("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
    this.frame = make("div", { class: "map" }, this.image, this.canvas, this.lines);
    this.legend = make("div", { class: "legend" });
    host.replaceChildren(this.prefix, this.frame, this.legend);
    this.frame.setAttribute("aria-label", label);
    this.frame.setAttribute("role", onPick ? "application" : "img");
    this.frame.classList.toggle("still", !onPick);
    if (onPick) this.#listen(onMove ?? (() => {}), onPick);
  }

  #listen(onMove, onPick) {
    const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const limit = (i, axis) => between(0, i, this.grid[axis] - 1);
    const under = (event) => {
      const box = this.frame.getBoundingClientRect();
      return { row: limit(Math.floor((event.clientY - box.top) / box.height * this.grid[0]), 0),
               column: limit(Math.floor((event.clientX - box.left) / box.width * this.grid[1]), 1) };
    };
    this.frame.tabIndex = 0;
    this.frame.addEventListener("pointermove", (event) => onMove(under(event), this.grid));
    this.frame.addEventListener("pointerleave", () => onMove(null, this.grid));
    this.frame.addEventListener("click", (event) => onPick(under(event), this.grid));
    this.frame.addEventListener("keydown", (event) => {
      const step = keys[event.key];
      if (!step) return;
      event.preventDefault();
      const { row = 0, column = 0 } = this.query ?? {};
      onPick(this.query?.row === undefined ? { row: 0, column: 0 }
        : { row: limit(row + step[0], 0), column: limit(column + step[1], 1) }, this.grid);
    });
  }

  /**
   * grid: rows and columns of places. values: a number for each, drawn from `least` to `most`. query: the chosen place.
   * windows: the number of the window of each place. marks: places to number. prefix: [{name, value}], class tokens.
   * format: of the legend. plain: without the image. tints: colours of positive and of negative numbers.
   */
  show({ grid, values = [], least = 0, most = largest(values.map(Math.abs)), query = null, windows = null, marks = [],
         prefix = [], format = text, plain = false, tints = ["orange", "blue"] }) {
    this.grid = grid;
    this.query = query;
    this.image.style.opacity = plain ? 0 : values.length ? 0.6 : 1;
    paint(this.canvas, grid, values, least, most, ...tints.map(colour));
    this.#drawLines(grid, query, windows, marks);
    const strength = (value) => most > least && Number.isFinite(value)
      ? between(0, (value - least) / (most - least), 1) : 0;
    const tint = (share) => `rgb(var(--${tints[0]}) / ${(0.92 * share).toFixed(2)})`;
    this.prefix.replaceChildren(...prefix.map(({ name, value }, i) => make("span", {
      class: query?.prefix === i ? "query" : "", style: `background: ${tint(strength(value))}` }, name)));
    const signed = values.some((value) => value < 0), start = signed ? `${cssColour(tints[1])}, ` : "";
    const ramp = make("i", { style: `background: linear-gradient(to right, ${start}${tint(0)}, ${tint(1)})` });
    this.legend.replaceChildren(...(values.length ? [format(signed ? -most : least), ramp, format(most)] : []));
  }

  #drawLines([rows, columns], query, windows, marks) {
    this.lines.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
    this.lines.replaceChildren();
    const line = (kind, x1, y1, x2, y2) => this.lines.append(draw("line", { class: kind, x1, y1, x2, y2 }));
    const few = Math.max(rows, columns) <= 32;
    for (let i = 1; i < columns && few; i++) line("grid", i, 0, i, rows);
    for (let i = 1; i < rows && few; i++) line("grid", 0, i, columns, i);
    for (let i = 0; windows && i < rows * columns; i++) {
      const row = Math.floor(i / columns), column = i % columns;
      if (column + 1 < columns && windows[i] !== windows[i + 1]) line("window", column + 1, row, column + 1, row + 1);
      if (row + 1 < rows && windows[i] !== windows[i + columns]) line("window", column, row + 1, column + 1, row + 1);
    }
    if (query?.row !== undefined) {
      const place = { x: query.column, y: query.row, width: 1, height: 1 };
      this.lines.append(draw("rect", { class: "query-halo", ...place }), draw("rect", { class: "query", ...place }));
    }
    const size = Math.max(0.55, Math.max(rows, columns) / 24);
    marks.forEach(({ row, column }, i) => {
      if (row === undefined) return;                                // a class token has no place on the map
      this.lines.append(draw("text", { x: column + 0.5, y: row + 0.5 + 0.35 * size, "font-size": size,
                                       "stroke-width": 0.2 * size }, i + 1));
    });
  }
}

/** One row with a name and a bar for each number of a vector. Under the pointer, a number is shown. */
function vectorRow(name, values, most = largest(values.map(Math.abs))) {
  const summary = `${values.length} numbers, ${text(Math.min(...values))} to ${text(Math.max(...values))}, `
    + `norm ${text(norm(values))}`;
  const chart = draw("svg", { viewBox: `0 0 ${values.length} 100`, preserveAspectRatio: "none", role: "img",
                              "aria-label": `${name}: ${summary}` });
  for (const [kind, sign] of [["more", 1], ["less", -1]]) {
    const path = Array.from(values, (value, i) => value * sign > 0
      ? `M${i + 0.08} 50V${(50 - 48 * value / most).toFixed(1)}H${i + 0.92}V50Z` : "").join("");
    chart.append(draw("path", { class: kind, d: path }));
  }
  const value = make("span", { class: "value" }, summary);
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const i = between(0, Math.floor((event.clientX - box.left) / box.width * values.length), values.length - 1);
    value.textContent = `number ${i + 1} of ${values.length}: ${text(values[i])}`;
  });
  chart.addEventListener("pointerleave", () => { value.textContent = summary; });
  return make("div", { class: "vector" }, make("span", {}, name), make("div", {}, chart, value));
}

/** Round numbers from at most `low` to at least `high`, about five. */
function ticks(low, high) {
  const raw = Math.max(high - low, 1e-9 * Math.max(Math.abs(high), 1)) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * (1 - 1e-9));
  const first = Math.floor(low / step + 1e-9), last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => Number((step * (first + i)).toPrecision(12)));
}

/** Round numbers for a logarithmic axis: powers of ten, with 2 and 5 between them if there are few. */
function logarithmicTicks(low, high) {
  const powers = Array.from({ length: Math.floor(high) - Math.floor(low) + 2 }, (_, i) => Math.floor(low) + i);
  const steps = high - low > 2 ? [1] : [1, 2, 5];
  const all = powers.flatMap((power) => steps.map((step) => power + Math.log10(step)));
  const first = all.filter((tick) => tick <= low + 1e-9).length - 1;
  const last = all.findIndex((tick) => tick >= high - 1e-9);
  return all.slice(first, Math.max(last, first + 1) + 1);
}

/**
 * A line chart. series: [{name, colour, values}] over xs; the colour is CSS. now: an x to mark. unit: after the numbers
 * of the y axis. zero: whether the y axis begins at 0.
 * logarithmic: powers of ten on the y axis.
 */
function lineChart(label, xs, series, { across = "", now = null, unit = "", logarithmic = false, zero = false } = {}) {
  const [width, height, left, right, top, bottom] = [420, 220, 52, 12, 10, 36];
  const up = logarithmic ? (y) => Math.log10(Math.max(y, 1e-30)) : (y) => y;
  const known = series.flatMap(({ values }) => Array.from(values, up)).filter(Number.isFinite);
  const [low, high] = [Math.min(...known, ...(zero ? [0] : [])), Math.max(...known)];
  const marks = logarithmic ? logarithmicTicks(low, high) : ticks(low, high);
  const span = xs[xs.length - 1] - xs[0];
  const placeX = (x) => left + (span ? (x - xs[0]) / span : 0.5) * (width - left - right);
  const placeY = (y) => height - bottom - (y - marks[0]) / (marks.at(-1) - marks[0]) * (height - top - bottom);
  const chart = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const mark of marks) {
    const y = placeY(mark), shown = logarithmic ? 10 ** mark : mark;
    chart.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y }),
                 draw("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, text(shown) + unit));
  }
  for (const x of ticks(xs[0], xs[xs.length - 1]).filter((x) => Number.isInteger(x) && x >= xs[0] && x <= xs.at(-1))) {
    chart.append(draw("text", { x: placeX(x), y: height - bottom + 16, "text-anchor": "middle" }, x));
  }
  chart.append(draw("text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, across));
  if (now !== null) {
    chart.append(draw("line", { class: "now", x1: placeX(now), x2: placeX(now), y1: top, y2: height - bottom }));
  }
  for (const { colour: stroke, values } of series) {
    const points = Array.from(values, (y, i) => [placeX(xs[i]), placeY(up(y))]).filter(([, y]) => Number.isFinite(y));
    chart.append(draw("polyline", { style: `stroke: ${stroke}`,
                                    points: points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ") }));
    if (!points.length) continue;
    const [cx, cy] = points.at(-1);
    chart.append(draw("circle", { cx, cy, r: 3, style: `fill: ${stroke}` }));
  }
  return chart;
}

/** The names of the lines of a chart, each with a stroke of its colour. */
function keys(series) {
  return series.map(({ name, colour: tint }) =>
    make("span", { class: "named" }, make("span", { class: "key", style: `color: ${tint}` }), name));
}

/** A table. head: texts; rows: lists of cells, each a text or an element. */
function table(head, rows, attributes = {}) {
  const cell = (tag, content, scope) => make(tag, scope ? { scope } : {}, content);
  return make("table", attributes,
              make("thead", {}, make("tr", {}, ...head.map((name) => cell("th", name, "col")))),
              make("tbody", {}, ...rows.map(([first, ...rest]) =>
                make("tr", {}, cell("th", first, "row"), ...rest.map((content) => cell("td", content))))));
}
