"""What was done with image files so that they fit a model, counted over many files and told in sentences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.text import plural

# what may be done with a file besides resizing: {its key: how it is told}
DONE = {
    "turned": "{} turned upright as the EXIF tag says",
    "16 bits": "{} with 16 bits, scaled to 8",
    "32 bits": "{} with 32 bits and values of 0 to 255, taken as they are",
    "transparent": "{} with transparent pixels, which became white",
    "animated": "{} with several frames, of which the first was taken",
}
FITTED = {"crop": "cropped to the middle", "pad": "padded with black", "stretch": "stretched"}


@dataclass
class Preparation:
    """Counts of what was done.

    Attributes
    ----------
    formats : Counter
        Number of files of each format.
    done : Counter
        Number of files to which each entry of `DONE` was done.
    smallest, largest : tuple of int
        (width, height) in pixels of the files with the fewest and the most pixels.
    """

    formats: Counter = field(default_factory=Counter)
    done: Counter = field(default_factory=Counter)
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None

    def add(self, size: tuple[int, int], kind: str, done: Sequence[str]) -> None:
        """Count one file. size: (width, height); kind: its format; done: keys of `DONE`."""
        self.formats[kind] += 1
        self.done.update(done)
        self.smallest = min(self.smallest or size, size, key=_area)
        self.largest = max(self.largest or size, size, key=_area)

    def as_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, for JSON."""
        return {"formats": self.formats, "done": self.done, "smallest": self.smallest, "largest": self.largest}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Preparation":
        """Return the counts that `as_dict` gave."""
        sizes = (tuple(record[name]) if record[name] else None for name in ("smallest", "largest"))
        return cls(Counter(record["formats"]), Counter(record["done"]), *sizes)

    def sentences(self, shape: Sequence[int], fit: str) -> list[str]:
        """Return the counts in words. shape: (height, width, channels) of the prepared images; fit: how they fit it."""
        if not self.formats or self.smallest is None or self.largest is None:
            return []
        files, (height, width, channels) = sum(self.formats.values()), shape
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.formats.most_common())
        sizes = [f"{a}x{b}" for a, b in dict.fromkeys([self.smallest, self.largest])]
        colour = {1: "grey", 3: "colour (RGB)", 4: "RGBA"}[channels]
        resized = f"{FITTED[fit]}, resized to {width}x{height} pixels"
        if sizes == [f"{width}x{height}"]:
            resized = "taken as they are"
        told = [words.format(f"{self.done[key]:,}") for key, words in DONE.items() if self.done[key]]
        return [f"{files:,} image {plural(files, 'file')} ({kinds}) of {' to '.join(sizes)} pixels, {resized}, "
                f"{colour}", *told]


def _area(size):
    """The number of pixels."""
    return size[0] * size[1]
