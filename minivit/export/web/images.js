// From a drawing or an image file to the pixels that the model takes: uint8, height x width x channels.
"use strict";

const LARGEST = 1024;      // the longer side of a canvas in pixels

// The canvas is drawn `factor` times too large; each pixel of the result is the mean of factor x factor of its pixels.
function pixelsOf(canvas, factor, channels) {
  const width = canvas.width / factor, height = canvas.height / factor;
  const result = new Uint8Array(height * width * channels);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const sum = [0, 0, 0, 0];
      for (let v = y * factor; v < (y + 1) * factor; v++) {
        for (let u = x * factor; u < (x + 1) * factor; u++) {
          for (let c = 0; c < 4; c++) sum[c] += data[4 * (v * canvas.width + u) + c];
        }
      }
      const mean = sum.map(value => value / factor ** 2);
      const grey = 0.299 * mean[0] + 0.587 * mean[1] + 0.114 * mean[2];
      for (let c = 0; c < channels; c++) {
        result[(y * width + x) * channels + c] = Math.round(channels === 1 ? grey : mean[c]);
      }
    }
  }
  return result;
}

// A canvas of height x width times `factor`, filled with a colour or transparent, and its context.
function largeCanvas({height, width}, factor, fill) {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d", {willReadFrequently: true});
  canvas.width = width * factor;
  canvas.height = height * factor;
  if (fill) {
    context.fillStyle = fill;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  return [canvas, context];
}

// At least one pixel; halves become even numbers, as in Python.
function wholePixels(length) {
  const below = Math.floor(length), up = length - below === 0.5 ? below % 2 : length - below > 0.5;
  return Math.max(1, below + Number(up));
}

// An image in the shape of the model's, as `minivit predict` makes it: crop the middle, pad with black, or stretch.
function pixelsOfImage(image, {height, width, channels, fit, crop}) {
  let source = [0, 0, image.width, image.height], target = [0, 0, width, height];             // x, y, width, height
  if (fit === "crop") {
    const shorter = Math.min(height, width), seen = shorter / Math.floor(shorter / crop);     // pixels are whole
    const unit = Math.min(image.width / width, image.height / height) * seen, across = unit * width, down = unit * height;
    source = [(image.width - across) / 2, (image.height - down) / 2, across, down];
  } else if (fit === "pad") {
    const wide = image.width * height >= image.height * width;
    const w = wide ? width : wholePixels(height * image.width / image.height);
    const h = wide ? wholePixels(width * image.height / image.width) : height;
    target = [Math.floor((width - w) / 2), Math.floor((height - h) / 2), w, h];
  }
  const shrink = Math.min(source[2] / target[2], source[3] / target[3]);
  const factor = Math.max(1, Math.min(Math.floor(LARGEST / Math.max(height, width)), Math.round(shrink)));
  const [canvas, context] = largeCanvas({height, width}, factor, channels === 4 ? null : "white");
  if (fit === "pad") {
    context.fillStyle = "black";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(image, ...source, ...target.map(value => value * factor));
  return pixelsOf(canvas, factor, channels);
}

// Strokes, lists of points [x, y], scaled and moved so that they fill the box in which the training images have ink.
function pixelsOfStrokes(strokes, {height, width, drawing}) {
  const factor = Math.max(1, Math.floor(LARGEST / 2 / Math.max(height, width)));
  const [canvas, context] = largeCanvas({height, width}, factor, grey(drawing.paper));
  const xs = strokes.flat().map(([x]) => x), ys = strokes.flat().map(([, y]) => y);
  const left = Math.min(...xs), top = Math.min(...ys), across = Math.max(...xs) - left, down = Math.max(...ys) - top;
  const pen = drawing.thickness * Math.min(canvas.height, canvas.width);        // half of it lies outside of each edge
  const room = [canvas.height, canvas.width].map((side, i) => Math.max(pen, drawing.box[i] * side - pen));
  const scale = Math.min(room[0] / Math.max(down, 1e-9), room[1] / Math.max(across, 1e-9), 1e6);
  const place = ([x, y]) => [(x - left - across / 2) * scale + drawing.centre[1] * canvas.width,
                             (y - top - down / 2) * scale + drawing.centre[0] * canvas.height];
  strokeAll(context, strokes.map(stroke => stroke.map(place)), pen, grey(drawing.ink));
  return pixelsOf(canvas, factor, 1);
}

function grey(value) {
  return `rgb(${value} ${value} ${value})`;
}

function strokeAll(context, strokes, width, colour) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = width;
  context.strokeStyle = colour;
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...stroke[0]);
    for (const point of stroke.length > 1 ? stroke.slice(1) : stroke) context.lineTo(...point);
    context.stroke();
  }
}

// Show pixels (height x width x channels) on a canvas; with a map, {values from 0 to 1, rows, columns}, tint them by it.
function showPixels(canvas, pixels, {height, width, channels}, map = null) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    const colour = [0, 1, 2].map(c => pixels[i * channels + (channels === 1 ? 0 : c)]);
    const y = Math.floor(i / width), x = i % width;
    const value = map?.values[Math.floor(y * map.rows / height) * map.columns + Math.floor(x * map.columns / width)];
    for (let c = 0; c < 3; c++) {
      picture.data[4 * i + c] = map ? 0.35 * colour[c] + 0.65 * heat(value)[c] : colour[c];
    }
    picture.data[4 * i + 3] = channels === 4 && !map ? pixels[4 * i + 3] : 255;
  }
  context.putImageData(picture, 0, 0);
}

// From dark blue through red to yellow.
function heat(value) {
  return [Math.min(255, 30 + 450 * value), 255 * Math.max(0, value - 0.35) / 0.65, 110 * (1 - value)];
}
