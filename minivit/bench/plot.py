"""The figure of a comparison: the share of the machine's limit over the width of the model."""

from dataclasses import replace
from typing import Any

from ..common.checks import check_number
from .compare import compare
from .machine import describe_machine
from .shapes import SHAPES

WIDTHS = (32, 64, 128, 192, 256, 384)
_COLOURS = {"minivit": "#d1495b", "torch": "#30638e", "torch.compile": "#00798c", "jax": "#8d96a3"}


def sizes(contestants: list[str] | None = None, threads: Any = None, seconds: float = 0.5, rounds: int = 5,
          progress: Any = None) -> dict:
    """Compare training over WIDTHS: `cifar` with one head per 32 of width and batch 64.

    Returns {"machine", "sizes": {width: as `compare`}}. Arguments and errors as `bench`.
    """
    from ..parallel.threads import available_threads

    threads = available_threads() if threads is None else check_number("number of "
                                                                       "threads", threads, least=1, whole=True)
    return {"machine": describe_machine(threads), "sizes": {
        width: compare(f"width {width}", replace(SHAPES["cifar"], batch=64,
                                                 options={"width": width, "heads": width // 32}), contestants,
                       threads, seconds, rounds, progress or (lambda line: None)) for width in WIDTHS}}


def draw(result: dict, path: Any) -> None:
    """Draw the result of `sizes`: shares of the machine's limit (left) and of each contestant's own (right)."""
    from ..common.figures import new_figure, save  # here, because importing matplotlib takes long

    figure = new_figure(9, 3.6)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, key, title in zip(panels, ("share_of_limit", "share_of_own_limit"),
                                 ("of the processor's limit",
                                  "of its own fastest matrix product"), strict=True):
        for name, colour in _COLOURS.items():
            points = [(width, 100 * part["contestants"][name]["train"][key])
                      for width, part in result["sizes"].items() if name in part["contestants"]]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", color=colour, label=name,
                           lw=2.5 if name == "minivit" else 1.5)
        panel.set(title=title, xlabel="width of the model", xscale="log")
        panel.set_xticks(list(result["sizes"]), [str(width) for width in result["sizes"]])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set(ylabel="speed of a training step, %")
    panels[0].set_ylim(bottom=0)                                      # after both panels, which share the axis
    panels[0].legend(frameon=False)
    save(figure, path)
