"""Measure how near the limit of a core its matrix products come: BLAS's, register tiles, and attention of small heads.

    python demos/18_register_tiles.py            half a minute
    python demos/18_register_tiles.py --quick    too few repetitions for conclusions

Prints two tables and draws register_tiles.png. All run on one thread. Times are processor time, medians of rounds in
which the variants take turns. The limit is the speed of one tile that is computed over and over.
"""

import argparse
import time

import numpy as np

from minivit.bench import physical_limit
from minivit.common.figures import new_figure, save
from minivit.matrix_products import matmul, products_shared, register_tiles
from minivit.ops import attention, interleaved_attention
from minivit.parallel.blas import blas_threads

# Of training steps: name, M, K, N, whether a and b are transposed.
PRODUCTS = [("digits: x W", 544, 64, 192, ""), ("digits: dy W^T", 544, 192, 64, "b"),
            ("digits: x^T dy", 64, 544, 192, "a"), ("fashion: x W", 1600, 64, 128, ""),
            ("fashion: dy W^T", 1600, 192, 64, "b"), ("fashion: x^T dy", 128, 1600, 64, "a"),
            ("cifar: x W", 1040, 192, 768, ""), ("cifar: dy W^T", 1040, 768, 192, "b"),
            ("cifar: x^T dy", 192, 1040, 768, "a")]
ATTENTION = [("digits", 32, 17, 4, 16), ("fashion", 32, 50, 4, 16)]   # name, images, tokens, heads, d


def seconds(variants, rounds):
    """Return the median processor time of a call of each variant, in seconds."""
    times = [[] for _ in variants]
    for _ in range(rounds):
        for variant, found in zip(variants, times, strict=True):
            variant()
            start, calls = time.thread_time(), 0
            while time.thread_time() - start < 0.02:
                variant()
                calls += 1
            found.append((time.thread_time() - start) / calls)
    return [float(np.median(found)) for found in times]


def matrix(rng, rows, columns, transposed):
    """Return random numbers (rows, columns)."""
    numbers = rng.standard_normal((columns, rows) if transposed else (rows, columns)).astype(np.float32)
    return numbers.T if transposed else numbers


def by_blas(*arguments):
    """Multiply with BLAS."""
    with products_shared(True):
        matmul(*arguments)


def measure_products(rounds):
    """Return [(name, GFLOP/s of BLAS, of register tiles)] and the limit."""
    rng, rows, limit = np.random.default_rng(0), [], 0.0
    for name, M, K, N, turned in PRODUCTS:
        a, b = matrix(rng, M, K, "a" in turned), matrix(rng, K, N, "b" in turned)
        c = np.empty((M, N), np.float32)
        variants = [lambda a=a, b=b, c=c: by_blas(a, b, c), lambda a=a, b=b, c=c: matmul(a, b, c)]
        if register_tiles.V:
            variants.append(physical_limit.tiles(1))
        *times, tile = [*seconds(variants, rounds), np.inf][:3]
        rows.append((name, *(2 * M * K * N / t / 1e9 for t in times)))
        limit = max(limit, physical_limit.FLOPS / tile / 1e9)
    return rows, limit


def measure_attention(rounds):
    """Return [(name, four times in us: forward and backward, each with products and interleaved)]."""
    rng, rows = np.random.default_rng(0), []
    for name, B, N, heads, d in ATTENTION:
        qkv, dy = (rng.standard_normal((B, N, parts * heads * d)).astype(np.float32) for parts in (3, 1))
        ways = (attention, interleaved_attention) if interleaved_attention.fits(qkv, heads) else (attention, attention)
        caches = [way.forward(qkv, heads)[1] for way in ways]
        forward = [lambda way=way, qkv=qkv, heads=heads: way.forward(qkv, heads) for way in ways]
        backward = [lambda way=way, dy=dy, cache=cache: way.backward(dy, cache)
                    for way, cache in zip(ways, caches, strict=True)]
        rows.append((name, *(1e6 * t for variants in (forward, backward) for t in seconds(variants, rounds))))
    return rows


def draw(rows, limit, path):
    """Draw the speeds as dots, and the limit as a line."""
    figure = new_figure(8, 3.6)
    panel = figure.subplots()
    names = [name for name, *_ in rows]
    for k, (label, colour) in enumerate((("BLAS", "#d1495b"), ("register tiles", "#30638e")), 1):
        panel.plot([row[k] for row in rows], names, "o", color=colour, label=label)
    if limit:
        panel.axvline(limit, color="black", linewidth=1)
        panel.text(limit, -0.9, "limit of a core ", ha="right", va="center")
    panel.set(xlim=(0, None), xlabel="GFLOP/s on one core", title="Register tiles come nearer to the limit than BLAS")
    panel.invert_yaxis()
    panel.margins(y=0.15)
    panel.grid(axis="y", alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="lower left")
    save(figure, path)


def main():
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default="register_tiles.png", help="the figure")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else 15
    with blas_threads(1):
        rows, limit = measure_products(rounds)
        times = measure_attention(rounds)
    print(f"Matrix products in GFLOP/s, on one core; its limit is {limit:.0f}.")
    print(f"{'':18} {'M x K x N':>17} {'BLAS':>6} {'tiles':>6}")
    for (name, blas, tiles), (_, *sizes, _) in zip(rows, PRODUCTS, strict=True):
        print(f"{name:18} {' x '.join(map(str, sizes)):>17} {blas:6.0f} {tiles:6.0f}")
    print("\nAttention of 32 images in microseconds, one head after the other and interleaved:")
    for name, *found in times:
        print("{:8} forward {:4.0f} and {:4.0f}, backward {:4.0f} and {:4.0f}".format(name, *found))
    draw(rows, limit, arguments.out)
    if arguments.quick:
        print("With --quick there are too few repetitions for conclusions.")
    print(f"Figure: {arguments.out}")


if __name__ == "__main__":
    main()
