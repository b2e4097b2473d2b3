// From a drawing or an image file to the pixels that the model takes: uint8, size x size x channels.
"use strict";

const LARGEST = 1024;      // side of a canvas in pixels

// The canvas is drawn `factor` times too large; each pixel of the result is the mean of factor x factor of its pixels.
function pixelsOf(canvas, factor, channels) {
  const size = canvas.width / factor, result = new Uint8Array(size * size * channels);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const sum = [0, 0, 0, 0];
      for (let v = y * factor; v < (y + 1) * factor; v++) {
        for (let u = x * factor; u < (x + 1) * factor; u++) {
          for (let c = 0; c < 4; c++) sum[c] += data[4 * (v * canvas.width + u) + c];
        }
      }
      const mean = sum.map(value => value / factor ** 2);
      const grey = 0.299 * mean[0] + 0.587 * mean[1] + 0.114 * mean[2];
      for (let c = 0; c < channels; c++) {
        result[(y * size + x) * channels + c] = Math.round(channels === 1 ? grey : mean[c]);
      }
    }
  }
  return result;
}

// A white or transparent canvas of side size * factor, and its context.
function squareCanvas(size, factor, fill) {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d", {willReadFrequently: true});
  canvas.width = canvas.height = size * factor;
  if (fill) {
    context.fillStyle = fill;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  return [canvas, context];
}

// An image, made square as `minivit predict` does: crop the middle, pad with black, or stretch.
function pixelsOfImage(image, {size, channels, fit, crop}) {
  const shorter = Math.min(image.width, image.height) * crop;
  const factor = Math.max(1, Math.min(Math.floor(LARGEST / size), Math.round(shorter / size)));
  const side = size * factor, [canvas, context] = squareCanvas(size, factor, channels === 4 ? null : "white");
  context.imageSmoothingQuality = "high";
  if (fit === "crop") {
    context.drawImage(image, (image.width - shorter) / 2, (image.height - shorter) / 2, shorter, shorter,
                      0, 0, side, side);
  } else if (fit === "pad") {
    const scale = side / Math.max(image.width, image.height), w = image.width * scale, h = image.height * scale;
    context.fillStyle = "black";
    context.fillRect(0, 0, side, side);
    context.drawImage(image, (side - w) / 2, (side - h) / 2, w, h);
  } else {
    context.drawImage(image, 0, 0, side, side);
  }
  return pixelsOf(canvas, factor, channels);
}

// Strokes, lists of points [x, y], scaled and moved so that they fill the box in which the training images have ink.
function pixelsOfStrokes(strokes, {size, drawing}) {
  const factor = Math.max(1, Math.floor(LARGEST / 2 / size)), side = size * factor;
  const [canvas, context] = squareCanvas(size, factor, grey(drawing.paper));
  const xs = strokes.flat().map(([x]) => x), ys = strokes.flat().map(([, y]) => y);
  const left = Math.min(...xs), top = Math.min(...ys), width = Math.max(...xs) - left, height = Math.max(...ys) - top;
  const pen = drawing.thickness * side;                                // half of it lies outside of each edge
  const room = drawing.box.map(share => Math.max(pen, share * side - pen));
  const scale = Math.min(room[0] / Math.max(height, 1e-9), room[1] / Math.max(width, 1e-9), 1e6);
  const place = ([x, y]) => [
    (x - left - width / 2) * scale + drawing.centre[1] * side, (y - top - height / 2) * scale + drawing.centre[0] * side];
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

// Show pixels (size x size x channels) on a canvas; with a map (side x side) from 0 to 1, tint them by it.
function showPixels(canvas, pixels, size, channels, map = null) {
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"), picture = context.createImageData(size, size);
  const side = map ? Math.sqrt(map.length) : 0;
  for (let i = 0; i < size * size; i++) {
    const colour = [0, 1, 2].map(c => pixels[i * channels + (channels === 1 ? 0 : c)]);
    const y = Math.floor(i / size), x = i % size;
    const value = map ? map[Math.floor(y * side / size) * side + Math.floor(x * side / size)] : 0;
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
