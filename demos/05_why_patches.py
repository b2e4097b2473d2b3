"""Why a Vision Transformer uses patches as tokens, not pixels: the cost of attention, counted and measured.

    python demos/05_why_patches.py            half a minute; the largest attention takes 1 GB
    python demos/05_why_patches.py --quick    a few seconds: too little for conclusions

Prints the cost of attention between pixels, and what an image loses when it is split into patches. Draws
why_patches.png.
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
    """Return a photograph from matplotlib, (224, 224, 3) uint8."""
    with get_sample_data("grace_hopper.jpg") as file:
        photo = Image.open(file).convert("RGB")
        return np.asarray(photo.crop((0, 0, 512, 512)).resize((SIDE, SIDE)))


def effects_of_patches(image):
    """Measure what splitting an image into patches does.

    Returns whether the patches restore the image, the share of neighbouring pixels in different patches, and the
    equivariance errors under a shift by one patch and by one pixel.
    """
    images = image[None].astype(np.float64) / 255
    restored = np.array_equal(patches.unpatchify(patches.patchify(images, PATCH), PATCH, images.shape), images)
    separated = (SIDE // PATCH - 1) / (SIDE - 1)  # of SIDE - 1 pairs of neighbours in a row of pixels
    embed, grid = PatchEmbed(PATCH, 3, 64).astype(np.float64), (SIDE // PATCH,) * 2
    by_patch, by_pixel = (equivariance_error(embed.forward, shift(pixels, 0), images,
                                              shift_tokens(pixels // PATCH, 0, grid))
                          for pixels in (PATCH, 1))
    return restored, separated, by_patch, by_pixel


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="up to 2,048 tokens only")
    parser.add_argument("--out", default="why_patches.png", help="the image file to write")
    options = parser.parse_args()

    (pixels, entries), (tokens, few) = cost.count(SIDE, 1), cost.count(SIDE, PATCH)
    print(f"An image of {SIDE}x{SIDE} has {pixels:,} pixels. Attention between pixels has {entries:,} entries per "
          f"head. Attention between its {tokens} patches of {PATCH}x{PATCH} has {few:,}: {entries // few:,} times "
          "fewer.")
    sizes = [n for n in SIZES if n <= (2048 if options.quick else max(SIZES))]
    seconds, memory = cost.measure(sizes)
    costs = {"one head, seconds": seconds, "one head, bytes": memory}
    fits = {label: cost.quadratic(sizes, values) for label, values in costs.items()}
    slow, large = (cost.predict(fit, pixels) for fit in fits.values())
    growth = np.polyfit(np.log(sizes), np.log(seconds), 1)[0], np.polyfit(np.log(sizes), np.log(memory), 1)[0]
    print(f"From {sizes[0]} to {sizes[-1]:,} tokens the processor time grows as N^{growth[0]:.2f} and the memory as "
          f"N^{growth[1]:.2f}. Extrapolated to pixels, a head takes {slow:,.0f} seconds and {large / 1e9:.1f} GB, and "
          f"the {HEADS} heads of ViT-B take {slow * HEADS / 60:,.0f} minutes. With patches they take "
          f"{1e3 * seconds[0] * HEADS:,.0f} ms.")
    image = photograph()
    restored, separated, by_patch, by_pixel = effects_of_patches(image)
    print(f"The patches are the pixels in another order, and {'restore' if restored else 'do NOT restore'} the image "
          f"bit for bit. But {separated:.1%} of neighbouring pixels are in different tokens, and a linear map does not "
          f"know which pixels of a token are neighbours. A shift by {PATCH} pixels shifts the tokens (error "
          f"{by_patch:.0e}). A shift by one pixel changes them (error {by_pixel:.2f}).")
    draw_cost(sizes, costs, fits, {tokens: "patches", pixels: "pixels"}, image, PATCH, options.out)
    if options.quick:
        print("With --quick the sizes are too small for conclusions about time and memory.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
