"""Why a Vision Transformer takes patches for its words, and not pixels: the price of attention, counted and measured.

    python demos/05_why_patches.py            half a minute; the largest attention takes 1 GB
    python demos/05_why_patches.py --quick    a few seconds

Prints what pixels as tokens would cost and what cutting a picture into patches loses, and draws why_patches.png.
"""

import argparse

import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image

from minivit.explain import cost, equivariance_error, shift, shift_tokens
from minivit.explain.tools.plots import draw_cost
from minivit.layers import PatchEmbed
from minivit.ops import patches

SIDE, PATCH = 224, 16
HEADS = 12 * 12                                                       # of ViT-B: 12 in each of 12 layers
SIZES = [196, 256, 512, 1024, 2048, 4096, 8192, 16384]


def photograph():
    """A photograph (224, 224, 3) uint8 that comes with matplotlib."""
    with get_sample_data("grace_hopper.jpg") as file:
        photo = Image.open(file).convert("RGB")
        return np.asarray(photo.crop((0, 0, 512, 512)).resize((SIDE, SIDE)))


def what_cutting_keeps(image):
    """Whether the patches give the picture back, which share of neighbours they part, and what a shift by one pixel
    does to the tokens.
    """
    images = image[None].astype(np.float64) / 255
    back = np.array_equal(patches.unpatchify(patches.patchify(images, PATCH), PATCH, images.shape), images)
    parted = (SIDE // PATCH - 1) / (SIDE - 1)  # of SIDE - 1 pairs of neighbours in a row of pixels
    embed, grid = PatchEmbed(PATCH, 3, 64).astype(np.float64), (SIDE // PATCH,) * 2
    whole, one = (equivariance_error(embed.forward, shift(pixels, 0), images, shift_tokens(pixels // PATCH, 0, grid))
                  for pixels in (PATCH, 1))
    return back, parted, whole, one


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="up to 2,048 tokens only")
    parser.add_argument("--out", default="why_patches.png", help="the picture to write")
    options = parser.parse_args()

    (pixels, entries), (tokens, few) = cost.count(SIDE, 1), cost.count(SIDE, PATCH)
    print(f"A picture of {SIDE}x{SIDE} has {pixels:,} pixels, so attention among pixels has {entries:,} entries a "
          f"head; among its {tokens} "
          f"patches of {PATCH}x{PATCH} {few:,}: {entries // few:,} times fewer.")
    sizes = [n for n in SIZES if n <= (2048 if options.quick else max(SIZES))]
    seconds, memory = cost.measure(sizes)
    costs = {"one head, seconds": seconds, "one head, bytes": memory}
    fits = {label: cost.quadratic(sizes, values) for label, values in costs.items()}
    slow, large = (cost.predict(fit, pixels) for fit in fits.values())
    growth = np.polyfit(np.log(sizes), np.log(seconds), 1)[0], np.polyfit(np.log(sizes), np.log(memory), 1)[0]
    print(f"From {sizes[0]} to {sizes[-1]:,} tokens the processor time grows as N^{growth[0]:.2f}, the memory as "
          f"N^{growth[1]:.2f}. "
          f"For pixels the fits say {slow:,.0f} seconds and {large / 1e9:.1f} GB a head, {slow * HEADS / 60:,.0f} "
          "minutes for the "
          f"{HEADS} heads of ViT-B; its patches take {1e3 * seconds[0] * HEADS:,.0f} ms.")
    image = photograph()
    back, parted, whole, one = what_cutting_keeps(image)
    print(f"The patches are the pixels in another order, and {'give' if back else 'do NOT give'} the picture back in "
          "every bit. What is "
          f"lost is nearness: {parted:.1%} of neighbours stand in two tokens, and within a token a linear map knows no "
          "order. And a shift "
          f"by {PATCH} pixels shifts the tokens (error {whole:.0e}), but one by a single pixel changes them (error "
          f"{one:.2f}).")
    draw_cost(sizes, costs, fits, {tokens: "patches", pixels: "pixels"}, image, PATCH, options.out)
    print(f"Picture: {options.out}")


if __name__ == "__main__":
    main()
