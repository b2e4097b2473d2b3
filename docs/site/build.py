"""Build the site: the pages of docs/, a chapter for each op and layer, the API reference, a tour, and a search.

    python docs/site/build.py                 writes build/site; open build/site/index.html
    python docs/site/build.py --out FOLDER

It needs the optional packages of `pip install -e '.[docs]'` and no network. A warning is an error.

Why Sphinx with MyST: the docstrings here are numpydoc, and numpydoc is an extension of Sphinx, so the tool that defines
the format also renders it. Sphinx checks every reference when it builds, and its search works in files without a
server. NumPy and Python build their documentation with it, and it is released several times a year. MkDocs with
mkdocstrings is the simpler tool for Markdown, but its last release, 1.6.1, is of August 2024, it reads numpydoc with a
parser of its own, and its search needs a server. MyST gives Sphinx the Markdown pages as they are, so they still read
well on a code host.

The equations of the docstrings are plain text. `notation.py` typesets them as MathML, which browsers draw without a
script; the font is cut from STIX Two Math, which a Python package carries. What it cannot read stays as it is.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

TOUR = "227"                                                          # a 3 of the test that looks like a 7
NEEDED = {"sphinx": "sphinx", "myst_parser": "myst-parser", "furo": "furo", "numpydoc": "numpydoc",
          "ziamath": "ziamath", "latex2mathml": "latex2mathml"}       # {module: package}


def build(out: Path, quiet: bool = False) -> int:
    """Build the site.

    Parameters
    ----------
    out : Path, the folder of the site; it is replaced only if the build succeeds
    quiet : bool, whether only warnings are printed

    Returns
    -------
    int : 0, or 1 if there was a warning or an error
    """
    from sphinx.application import Sphinx

    with tempfile.TemporaryDirectory() as temporary:
        pages, site = Path(temporary) / "pages", Path(temporary) / "site"
        write_pages(pages)
        app = Sphinx(pages, HERE, site, Path(temporary) / "doctrees", "html", warningiserror=True,
                     status=None if quiet else sys.stdout)
        app.build(force_all=True)
        if app.statuscode:
            return 1
        write_font(site)
        write_tour(site / "tour.html")
        shutil.rmtree(site / ".doctrees", ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(site, out)
    return 0


# ---- the pages that Sphinx reads -------------------------------------------------------------------------------------


def write_pages(folder: Path) -> None:
    """Write all pages: those of docs/ as they are, and those made from the code."""
    import api
    from repository import chapter_files, chapters, documentation_pages, title

    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("site", "README.md"))
    shutil.copytree(ROOT / "demos" / "pictures", folder / "demos" / "pictures")
    shutil.copyfile(ROOT / "CHANGELOG.md", folder / "CHANGELOG.md")
    for path, page in chapter_files().items():
        head = title(path)[0]
        text = f"---\nhide-toc: true\n---\n\n# {head}\n\n```{{chapter}} {path}\n```\n"
        if path.endswith("/__init__.py"):
            room = page.split("/")[1]
            text = f"# {ROOM_TITLES[room]}\n\n```{{chapter}} {path}\n```\n"
            text += toctree(chapters()[room], hidden=room == "ops")
        write(folder / f"{page}.md", text)
    index = (HERE / "index.md").read_text(encoding="utf-8")
    index = index.replace("DOCUMENTATION", "\n".join(f"docs/{name}" for name in documentation_pages()))
    write(folder / "index.md", index.replace("ROOMS", "\n".join(f"chapters/{room}/index" for room in ROOM_TITLES)))
    api.write_pages(folder / "api")


ROOM_TITLES = {"ops": "Operations", "layers": "Layers", "models": "Models", "parallel": "All cores at once",
               "training": "Training", "explain": "What a ViT computes", "gradient_checking": "Gradient checking"}


def toctree(names: list[str], hidden: bool) -> str:
    option = ":hidden:\n" if hidden else ""
    return "\n```{toctree}\n:maxdepth: 1\n" + option + "\n" + "\n".join(names) + "\n```\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# ---- the tour of a digit ---------------------------------------------------------------------------------------------


def write_tour(page: Path) -> None:
    """Train the digits and write the tour of a test image."""
    with tempfile.TemporaryDirectory() as temporary:
        run = str(Path(temporary) / "digits")
        for words in (["train", "digits", "-q", "--log-norms", "--out", run], ["tour", run, TOUR, "--out", str(page)]):
            subprocess.run([sys.executable, "-m", "minivit", *words], check=True, stdout=subprocess.DEVNULL,
                           env=os.environ | {"PYTHONPATH": str(ROOT)})


# ---- the font of the equations ---------------------------------------------------------------------------------------


def write_font(site: Path) -> None:
    """Write STIX Two Math, cut to the characters of the equations of all pages, to the site.

    The font comes with the package ziamath, under the SIL Open Font License; its licence stays in the font.
    """
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    spec = importlib.util.find_spec("ziamath")
    font = TTFont(Path(spec.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf")
    text = "".join("".join(re.findall(r"<math.*?</math>", page.read_text(encoding="utf-8"), re.DOTALL))
                   for page in site.rglob("*.html"))
    letters = {ord(sign) for sign in text} | set(range(32, 127)) | {0x221A}          # and the root
    subsetter = Subsetter(Options(layout_features=["*"], name_IDs=["*"], flavor="woff"))
    subsetter.populate(unicodes=letters | {italic(letter) for letter in letters})
    subsetter.subset(font)
    font.flavor = "woff"
    font.save(site / "_static" / "stix-two-math.woff")


def italic(letter: int) -> int:
    """Return the mathematical italic that browsers draw for a letter in an equation."""
    sign = chr(letter)
    if sign == "h":
        return 0x210E
    if "A" <= sign <= "Z":
        return 0x1D434 + letter - ord("A")
    if "a" <= sign <= "z":
        return 0x1D44E + letter - ord("a")
    if "α" <= sign <= "ω":
        return 0x1D6FC + letter - ord("α")
    if "Α" <= sign <= "Ω":
        return 0x1D6E2 + letter - ord("Α")
    return letter


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="folder of the site (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="print only warnings")
    arguments = parser.parse_args()
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"build.py: error: {', '.join(missing)} not installed: run pip install -e '.[docs]'", file=sys.stderr)
        return 2
    if arguments.out.exists() and not (arguments.out / "searchindex.js").exists() and any(arguments.out.iterdir()):
        print(f"build.py: error: {arguments.out} is not an earlier site: choose an empty folder", file=sys.stderr)
        return 2
    status = build(arguments.out, arguments.quiet)
    if status == 0:
        print(f"site: {arguments.out / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
