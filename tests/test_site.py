"""The site: equations say what the docstrings say, pages build without a warning, links lead somewhere, pages open.

Building needs the packages of the extra `docs`; opening pages needs selenium, Chromium and its driver. Tests that lack
them are skipped.
"""

import ast
import functools
import html
import http.server
import importlib.util
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import is_blank, needs_chromium, overflow, screenshot, use_dark_mode, use_phone

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"
sys.path.append(str(SITE))

import prose  # noqa: E402
import repository  # noqa: E402
from notation import GREEK, RELATIONS, NotMathematics, mathml  # noqa: E402

CHAPTERS = sorted(repository.chapter_files())
NAMES = {"mean", "rstd", "var", "weight", "probs", "scores", "lr"}

# ---- equations -------------------------------------------------------------------------------------------------------


def structure(element):
    """MathML as text that shows its structure: {a}/{b} a fraction, base_{below}^{above}, sqrt{...}."""
    kind, children = element.tag, list(element)
    inside = [structure(child) for child in children]
    if kind in ("math", "mrow"):
        return "".join(inside)
    if kind == "mfrac":
        return f"{{{inside[0]}}}/{{{inside[1]}}}"
    if kind in ("msub", "munder"):
        return f"{inside[0]}_{{{inside[1]}}}"
    if kind == "msup":
        return f"{inside[0]}^{{{inside[1]}}}"
    if kind == "msubsup":
        return f"{inside[0]}_{{{inside[1]}}}^{{{inside[2]}}}"
    if kind == "msqrt":
        return f"sqrt{{{''.join(inside)}}}"
    if kind == "mover":
        return f"hat{{{inside[0]}}}"
    if kind == "mspace":
        return " "
    return element.text


def shown(text, display=True, names=NAMES):
    return " ".join(structure(ElementTree.fromstring(part)) for part in mathml(text, names, display).split("<wbr>"))


@pytest.mark.parametrize(("text", "expected"), [
    ("x_j", "x_{j}"),
    ("delta_ij", "δ_{ij}"),
    ("z'_l", "z^{′}_{l}"),
    ("w_{D/4-1}", "w_{D/4−1}"),
    ("beta1**t", "β_{1}^{t}"),
    ("(1/D) sum_j x_j", "{1}/{D} ∑_{j} x_{j}"),
    ("1 / sqrt(var + eps)", "{1}/{sqrt{var+ε}}"),
    ("s e_j delta_ij / S - 1", "{s e_{j} δ_{ij}}/{S}−1"),                          # a blank: the product is above
    ("-1/2 rstd**3", "−{1}/{2} rstd^{3}"),                                       # no blank: the number alone is
    ("(a/b)**2", "({a}/{b})^{2}"),                                                  # a power keeps the parentheses
    ("probs(a/b)", "probs({a}/{b})"),                                               # and so does a function
    ("(a + b) / (c + d)", "{a+b}/{c+d}"),
    ("(a + b) c / 2", "{(a+b) c}/{2}"),
    ("sum_k -q_k (t - p) / tau", "∑_{k}{−q_{k} (t−p)}/{τ}"),
    ("y / sum_k exp(s x_k)", "{y}/{∑_{k} exp(s x_{k})}"),
    ("d xhat_i / d x_j", "{d hat{x}_{i}}/{d x_{j}}"),
    ("a d rstd / d x_j", "a {d rstd}/{d x_{j}}"),
    ("(N, d)", "(N,d)"),                                                            # elsewhere d is a width
    ("dxhat", "dhat{x}"),
    ("q k^T", "q k^{T}"),
    ("(U^T E V)_ii", "(U^{T} E V)_{ii}"),
    ("10000**(-i / (D/4))", "10000^{−i/(D/4)}"),
    ("(H + 2p - k) // s + 1", "⌊{H+2p−k}/{s}⌋+1"),
    ("n ceil(H'/2)", "n ⌈H^{′}/2⌉"),
    ("dy[b, T:]", "dy[b,T:]"),
    ("(i + s) mod H", "(i+s)modH"),
    ("F(2 x 2, 3 x 3)", "F(2×2,3×3)"),
    ("P x P", "P×P"),
    ("H x W", "H×W"),
    ("xhat weight", "hat{x} weight"),
    ("y = x W", "y =x W"),                                                        # x is a name here
    ("|u|_F", "|u|_{F}"),
    ("[a; ...; b] + c", "[a;…;b]+c"),
    ("m <- lr m <= 1 ~ 2", "m ←lr m ≤1 ≈2"),
])
def test_an_equation_is_typeset(text, expected):
    assert shown(text) == expected


def test_a_fraction_in_a_line_of_text_keeps_its_parentheses():
    assert shown("(p_j - t_j) / B", display=False) == "(p_{j}−t_{j})/B"
    assert shown("1/sqrt d", display=False) == "1/sqrt{d}"


@pytest.mark.parametrize("text", [
    "a / b c",                    # what is the denominator?
    "the weight", "weight decay",                                                   # words
    "16x16", "4e-44", "a_", "f(x", "x)", "a = = b", "a +", "(", "", "|", "|| p", "a, , b", "token's", "x?", "a .5",
    "()", "a ** ", "sqrt", "a^",
])
def test_what_is_not_in_the_notation_is_refused(text):
    with pytest.raises(NotMathematics):
        mathml(text, {"weight"}, True)


READ_AS = {sign: name for name, sign in {**GREEK, **RELATIONS}.items()} | {
    "∑": "sum", "−": "-", "×": "x", "∗": "*", "∞": "inf", "′": "'", "⌈": "ceil", "⌉": "", "⌊": "", "⌋": "//"}


def as_plain(element):
    """MathML as the plain notation."""
    kind, inside = element.tag, [as_plain(child) for child in element]
    if kind == "mfrac":
        return f"{inside[0]}/{inside[1]}"
    if kind == "msup" and element[1].text != "′":
        return f"{inside[0]}**{inside[1]}"
    if kind == "msubsup":
        return f"{inside[0]}_{inside[1]}**{inside[2]}"
    if kind == "mover":
        return inside[0] + "hat"
    if kind == "mrow" and inside[:1] == [""] and inside[-1:] == ["//"]:                  # a rounded fraction
        return "".join(inside[:-1]).replace("/", "//")
    text = "" if kind == "mspace" else element.text or ""
    return ("sqrt" if kind == "msqrt" else "") + READ_AS.get(text, text) + "".join(inside)


def bare(text):
    """A text in the plain notation without what only groups: blanks, parentheses and the lines below subscripts."""
    return re.sub(r"\.\.+", "…", re.sub(r"[\s(){}_]", "", text))


def equations_of(path):
    """All typeset mathematics of a chapter as (plain text, MathML)."""
    source = repository.read(path)
    docstring = ast.get_docstring(ast.parse(source)) or ""
    names = prose.names_of(source, docstring)
    found = []
    for part in prose.parts(docstring, names):
        texts = [part.text] if part.kind == "paragraph" else part.items
        lines = [prose.pieces(text, names) for text in texts] + [cell.pieces for cell in part.cells]
        found += [(piece.text, piece.html) for line in lines for piece in line if piece.kind == "math"]
    return found


@pytest.mark.parametrize("path", CHAPTERS)
def test_a_typeset_equation_says_what_the_docstring_says(path):
    for text, typeset in equations_of(path):
        read = "".join(as_plain(ElementTree.fromstring(part)) for part in typeset.split("<wbr>"))
        assert bare(read) == bare(re.sub(r"(?<=\S)\^(?=\w)", "**", text))


def test_many_equations_are_typeset():
    """If the reader of docstrings found none, the tests above would pass."""
    assert sum(len(equations_of(path)) for path in CHAPTERS) > 700


def literal_blocks(path):
    source = repository.read(path)
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return [part.text.split("\n")[0] for part in prose.parts(docstring, prose.names_of(source, docstring))
            if part.kind == "literal"]


def test_only_code_and_output_stay_as_they_are_in_the_ops():
    """A block of equations in a new chapter that cannot be typeset is listed here, so that somebody looks at it."""
    ops = [path for path in CHAPTERS if path.startswith("minivit/ops/")]
    assert [line for path in ops for line in literal_blocks(path)] == [
        "reference_forward(x, ...)      -> y, cache       plain NumPy, for reading and for tests",
        "y[b, pixel] = 0 if the pixel lies in a hidden patch of image b, else x[b, pixel]",
        "dx[b, pixel] = 0 if the pixel lies in a hidden patch of image b, else dy[b, pixel]",
        "(block, sample, step, stream)       block: which four of the numbers of this sample"]


def test_a_block_with_notation_that_cannot_be_read_stays_as_it_is():
    part = prose.block(["y = x W + b          first", "z = {x | x > 0}**?   second"], set())
    assert part.kind == "literal"
    assert part.text == "y = x W + b          first\nz = {x | x > 0}**?   second"


def test_words_in_a_sentence_stay_words():
    text = "A weight is learned; a row of x has mean 0, see I. Newton, and we do it for all d = 3 rows."
    found = [piece.text for piece in prose.pieces(text, {"weight", "mean", "rows"}) if piece.kind == "math"]
    assert found == ["x", "d = 3"]


# ---- chapters --------------------------------------------------------------------------------------------------------


def test_every_op_has_a_chapter():
    files = {path.stem for path in (ROOT / "minivit" / "ops").glob("*.py")} - {"__init__"}
    assert set(repository.chapters()["ops"]) == files
    assert all((ROOT / path).is_file() for path in CHAPTERS)


def test_the_pages_of_docs_come_in_the_order_of_their_table():
    pages = repository.documentation_pages()
    assert set(pages) == {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages[0] == "vit-in-ten-minutes"


def test_a_chapter_knows_its_tests():
    lines = repository.entries("tests/test_ops.py", "KNOWN", "softmax")
    assert [key for _, key in lines] == ["softmax", "softmax scale"]
    assert '"softmax"' in repository.read("tests/test_ops.py").split("\n")[lines[0][0] - 1]
    assert "minivit/layers/attention.py" in repository.users("minivit/ops/attention.py", "minivit")


# ---- the built site --------------------------------------------------------------------------------------------------


def needs(*modules):
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


built = needs("sphinx", "myst_parser", "furo", "numpydoc", "ziamath")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built with warnings as errors."""
    out = tmp_path_factory.mktemp("site") / "site"
    run = subprocess.run([sys.executable, str(SITE / "build.py"), "--quiet", "--out", str(out)], capture_output=True,
                         text=True, timeout=580)
    assert run.returncode == 0, run.stderr[-3000:]
    return out


class Page(HTMLParser):
    """The links, anchors and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loaded = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        self.loaded += [values[key] for key in ("src", "href") if values.get(key) and tag in ("script", "img", "link")]


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


@built
def test_every_link_and_anchor_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in {*page.links, *page.loaded}:
            parts = urlsplit(link)
            if parts.scheme in ("https", "http", "mailto", "data"):
                if parts.scheme == "http" or not (parts.netloc or parts.path) or " " in link:
                    broken.append((path.relative_to(site), link))
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
                broken.append((path.relative_to(site).as_posix(), link))
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 5_000


@built
def test_no_page_loads_anything_from_elsewhere(pages):
    assert {link for page in pages.values() for link in page.loaded if urlsplit(link).netloc} == set()


@built
def test_a_chapter_has_equations_both_versions_and_its_tests(site):
    text = (site / "chapters" / "ops" / "softmax.html").read_text(encoding="utf-8")
    assert text.count("<math") > 20
    words = html.unescape(re.sub(r"<[^>]+>", "", text))
    assert words.index("def reference_forward") < words.index("def forward") < words.index("def reference_backward")
    assert "Values worked out by hand" in words
    assert 'href="../../source/tests/test_ops.py.html#L' in text


@built
def test_every_public_name_is_in_the_reference(site):
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    for name in ("minivit.ops.softmax.reference_forward", "minivit.layers.block.Block.forward",
                 "minivit.training.trainer.Trainer.step", "minivit.gradient_checking.check.gradcheck"):
        assert f'id="{name}"' in text


@built
def test_the_builder_keeps_a_folder_that_is_not_a_site(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    run = subprocess.run([sys.executable, str(SITE / "build.py"), "--out", str(tmp_path)], capture_output=True,
                         text=True)
    assert run.returncode == 2
    assert run.stderr == f"build.py: error: {tmp_path} is not an earlier site: choose an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# ---- pages in a browser ----------------------------------------------------------------------------------------------


@built
@needs_chromium
@pytest.mark.parametrize("address", ["index.html", "chapters/ops/layer_norm.html", "chapters/plain.html",
                                     "chapters/ops/index.html", "docs/questions.html", "api/minivit.html",
                                     "source/tests/test_ops.py.html", "genindex.html"])
def test_a_page_opens_without_an_error_on_every_screen(site, browser, address):
    browser.get((site / address).as_uri())
    light = screenshot(browser)
    assert not is_blank(light)
    assert overflow(browser) <= 0
    use_dark_mode(browser)
    dark = screenshot(browser)
    assert not is_blank(dark)
    assert light.mean() > 200 > 90 > dark.mean()
    use_phone(browser)
    assert not is_blank(screenshot(browser))
    assert overflow(browser) <= 0


@built
@needs_chromium
def test_both_versions_stand_side_by_side_and_on_a_phone_below_each_other(site, browser):
    boxes = "return [...document.querySelectorAll('.pair:not(.heads)')[0].children].map(e => {" \
            "const box = e.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]})"
    browser.get((site / "chapters/ops/softmax.html").as_uri())
    left, right = browser.execute_script(boxes)
    assert left[2] <= right[0]
    assert left[1] == right[1]
    use_phone(browser)
    left, right = browser.execute_script(boxes)
    assert left[3] <= right[1]
    assert left[0] == right[0]


@built
@needs_chromium
def test_equations_are_drawn_with_the_font_of_the_site(site, browser):
    browser.get((site / "chapters/ops/layer_norm.html").as_uri())
    assert browser.execute_async_script("document.fonts.ready.then(fonts => arguments[0](fonts.check("
                                        "'16px \"STIX Two Math\"') && [...fonts].some(f => f.status == 'loaded')))")
    heights = browser.execute_script("return ['mfrac', 'mi', 'msqrt'].map(tag => "
                                     "document.querySelector('.equations ' + tag).getBoundingClientRect().height)")
    assert heights[0] > 1.5 * heights[1] > 0                          # stacked, not on one line
    assert heights[2] > heights[1]


def titles_found(browser, query):
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.expected_conditions import staleness_of
    from selenium.webdriver.support.ui import WebDriverWait

    box = browser.find_element(By.CSS_SELECTOR, ".sidebar-search")
    box.clear()
    box.send_keys(query)
    box.submit()
    wait = WebDriverWait(browser, 60, ignored_exceptions=(StaleElementReferenceException,))
    wait.until(staleness_of(box))                                     # the page before may be a search, too
    wait.until(lambda _: re.search("found|did not match", "".join(
        part.text for part in browser.find_elements(By.CSS_SELECTOR, ".search-summary"))))
    return [link.text for link in browser.find_elements(By.CSS_SELECTOR, "ul.search li > a")]


@built
@needs_chromium
def test_search_finds_the_right_page_in_files_and_from_a_server(site, browser, server):
    for start in ((site / "index.html").as_uri(), server):
        browser.get(start)
        assert titles_found(browser, "Newton-Schulz")[0] == "Muon"
        assert "Softmax" in titles_found(browser, "Jacobian quotient rule")[:3]
        assert titles_found(browser, "zzzzzz") == []


@pytest.fixture
def server(site):
    """The address of the site on a static server."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/index.html"
        running.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A handler that logs nothing. A browser asks for an icon, which the site does not have."""

    def log_message(self, *_):
        pass
