"""The chapters of the site: a module's docstring with typeset equations, then its code.

    ```{chapter} minivit/ops/softmax.py
    ```

An op has two versions of each function. They stand side by side: plain NumPy on the left, the fast version on the
right, first what both directions share, then forward, then backward. Other modules are shown as they are. Docstrings of
functions are cut to their first line here; the API reference has them in full.
"""

import ast
import re
from html import escape

from docutils import nodes
from docutils.parsers.rst import Directive
from notation import RELATIONS
from prose import Part, Piece, names_of, parts, pieces
from repository import PICTURES, ROOT, chapter_files, entries, read, resolve, title, users
from sphinx.util import logging

DASHES = re.compile(r"^# ---- (.*?) -+$", re.MULTILINE)
LOG = logging.getLogger(__name__)


class equations(nodes.General, nodes.Element):
    """A block of equations. Its child is the plain text, which search finds; its HTML is in `html`."""


class code(nodes.General, nodes.Element):
    """Python code whose long lines are broken with a hanging indent."""


# ---- docstrings ------------------------------------------------------------------------------------------------------


class Prose:
    """Turns the parts of one module's docstring into nodes."""

    def __init__(self, path: str) -> None:
        self.path, self.folder = path, path.rsplit("/", 1)[0]
        self.docstring = ast.get_docstring(ast.parse(read(path))) or ""
        self.names = names_of(read(path), self.docstring)

    def content(self) -> list[nodes.Node]:
        """Return the docstring as nodes, without the words that are the page's title."""
        found = parts(self.docstring, self.names)
        head, _ = title(self.path)
        if found and found[0].text.startswith(head + ": "):
            lead = found[0].text.removeprefix(head + ": ")
            found[0].text = lead[0].upper() + lead[1:]
        built = [self.part(part) for part in found]
        if built:
            built[0]["classes"].append("lead")
        return built

    def part(self, part: Part) -> nodes.Element:
        if part.kind == "paragraph":
            return nodes.paragraph("", "", *self.line(part.text))
        if part.kind in ("bullets", "numbers"):
            items = [nodes.list_item("", nodes.paragraph("", "", *self.line(item))) for item in part.items]
            return nodes.bullet_list("", *items) if part.kind == "bullets" else nodes.enumerated_list("", *items)
        if part.kind == "literal":
            return nodes.literal_block(part.text, part.text, language="text", classes=["plain-block"])
        if part.kind == "table":
            return self.table(part)
        return equations("", nodes.Text(part.text), html=grid(part))

    def line(self, text: str) -> list[nodes.Node]:
        return [node for piece in pieces(text, self.names) for node in self.piece(piece)]

    def piece(self, piece: Piece) -> list[nodes.Node]:
        if piece.kind == "math":
            return [nodes.raw("", piece.html, format="html")]
        if piece.kind == "emphasis":
            return [nodes.emphasis("", piece.text)]
        if piece.kind == "code":
            return [self.linked(piece.text)]
        if piece.kind == "link":
            address = re.sub("^arXiv:", "https://arxiv.org/abs/", re.sub("^doi:", "https://doi.org/", piece.text))
            bare = address.rstrip(".")
            return [nodes.reference("", piece.text[:len(piece.text) - len(address) + len(bare)], refuri=bare),
                    nodes.Text(address[len(bare):])]
        return [nodes.Text(piece.text)]

    def linked(self, text: str) -> nodes.Element:
        """Return code, as a link if it names a chapter or a file."""
        literal = nodes.literal(text, text)
        words = text.split()
        file = words[1] if words[:1] == ["python"] and len(words) > 1 else text
        if re.fullmatch(r"[\w/]+\.(py|md)|[\w/]+/", file):
            target = resolve(file, self.folder)
        elif re.fullmatch(r"[a-z_]+", file) and f"{self.folder}/{file}.py" in chapter_files():
            target = resolve(f"{file}.py", self.folder)
        else:
            target = ""
        if not target or target == self.path or (file == text and "." not in file and target not in chapter_files()):
            return literal
        return nodes.reference("", "", literal, refuri=f"source:{target}")

    def table(self, part: Part) -> nodes.Element:
        """Return a block of aligned columns as a table; names in its first column become links."""
        rows: list[list[list[nodes.Node]]] = []
        columns = sorted({cell.start for cell in part.cells})
        for cell in part.cells:
            content = [node for piece in cell.pieces for node in self.piece(piece)]
            if cell.start == columns[0]:
                rows.append([self.names_in(cell.source)])
            elif len(rows[-1]) == len(columns):
                rows[-1][-1] += [nodes.Text(" "), *content]
            else:
                rows[-1].append(content)
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in columns), cols=len(columns))
        group += nodes.tbody("", *(nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in row))
                                   for row in rows))
        return nodes.table("", group, classes=["listing"])

    def names_in(self, text: str) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for name in re.split("(, )", text):
            is_name = re.fullmatch(r"[a-z]\w*", name) and resolve(f"{name}.py", self.folder)
            found.append(self.linked(name) if is_name else nodes.Text(name))
        return found


def grid(part: Part) -> str:
    """Return a block of equations as HTML: a grid with a column wherever a cell of the source begins."""
    columns = sorted({cell.start for cell in part.cells})
    ends = {cell.row: [other.start for other in part.cells if other.row == cell.row] for cell in part.cells}
    lines: dict[int, list[str]] = {}
    for cell in part.cells:
        later = [start for start in ends[cell.row] if start > cell.start]
        first = columns.index(cell.start) + 1
        last = columns.index(later[0]) + 1 if later else len(columns) + 1
        words = " ".join(piece.text for piece in cell.pieces if piece.kind != "math")
        is_equation = cell.pieces[0].kind == "math" and any(sign in cell.pieces[0].text.split() for sign in RELATIONS)
        is_note = bool(re.search("[a-z]{2}", words)) and not is_equation
        classes = ["cell", "left" if cell.is_left else "", "note" if is_note and cell.start != columns[0] else ""]
        inside = "".join(piece_html(piece) for piece in cell.pieces)
        lines.setdefault(cell.row, []).append(
            f'<div class="{" ".join(filter(None, classes))}" style="grid-area: {cell.row + 1} / {first} / '
            f'{cell.row + 2} / {last}">{inside}</div>')
    rows = "".join(f'<div class="line">{"".join(cells)}</div>' for cells in lines.values())
    return f'<div class="equations"><div class="grid" style="--columns: {len(columns)}">{rows}</div></div>'


def piece_html(piece: Piece) -> str:
    if piece.kind == "math":
        return piece.html
    text = escape(piece.text)
    return {"code": f"<code>{text}</code>", "emphasis": f"<em>{text}</em>"}.get(piece.kind, f"<span>{text}</span>")


# ---- code ------------------------------------------------------------------------------------------------------------


def source_of(node: ast.stmt, lines: list[str]) -> str:
    """Return the source of a statement, with its decorators and the comments directly above it."""
    first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))]) - 1
    while first > 0 and lines[first - 1].startswith("#") and not DASHES.match(lines[first - 1]):
        first -= 1
    text: list[str | None] = [*lines[first:node.end_lineno]]
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(inner):
            docstring = inner.body[0]
            begin, end = docstring.lineno - 1 - first, (docstring.end_lineno or 0) - first
            if end - begin > 1:
                text[begin:end] = [f'{lines[first + begin].rstrip()}"""', *([None] * (end - begin - 1))]
    return tidy([line for line in text if line is not None])


def tidy(lines: list[str]) -> str:
    """Move comments that end a line next to the code: pages have narrow columns."""
    return "\n".join(re.sub(r"(\S) {3,}(# )", r"\1  \2", line) for line in lines)


def halves(path: str) -> tuple[list[ast.stmt], list[ast.stmt], str]:
    """Return the statements of an op above and below its dashed line, and the words on that line."""
    text = read(path)
    dashes = DASHES.search(text)
    line = text[:dashes.start()].count("\n") + 1 if dashes else 10**6
    body = [node for node in ast.parse(text).body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom))]
    return ([node for node in body if node.lineno < line], [node for node in body if node.lineno > line],
            dashes[1] if dashes else "")


def directions(statements: list[ast.stmt], prefix: str) -> dict[str, list[ast.stmt]]:
    """Sort the statements of one version by what uses them: forward, backward, or both."""
    by_name = {getattr(node, "name", ""): node for node in statements}

    def reaches(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        if name not in by_name or name in seen:
            return set()
        used = {node.id for node in ast.walk(by_name[name]) if isinstance(node, ast.Name)}
        return {name}.union(*(reaches(other, seen | {name}) for other in used))

    forward, backward = reaches(f"{prefix}forward"), reaches(f"{prefix}backward")
    groups: dict[str, list[ast.stmt]] = {"shared": [], "forward": [], "backward": []}
    for node in statements:
        name = getattr(node, "name", "")
        only_forward, only_backward = name in forward - backward, name in backward - forward
        groups["forward" if only_forward else "backward" if only_backward else "shared"].append(node)
    for direction in ("forward", "backward"):                         # the function itself before what it calls
        groups[direction].sort(key=lambda node: getattr(node, "name", "") != f"{prefix}{direction}")
    return groups


def code_node(text: str) -> code:
    return code("", nodes.Text(text), text=text)


def columns(path: str) -> list[nodes.Node]:
    """Return the code of an op: rows with plain NumPy on the left and the fast version on the right."""
    lines = read(path).split("\n")
    plain, fast, words = halves(path)
    if not fast:
        return [code_node("\n\n\n".join(source_of(node, lines) for node in plain))]
    left, right = directions(plain, "reference_"), directions(fast, "")
    rows = nodes.container(classes=["pairs"])
    heads = ("Plain NumPy", f"Fast: {words}")
    rows += nodes.container("", *(nodes.container("", nodes.paragraph("", text), classes=["side"]) for text in heads),
                            classes=["pair", "heads"])
    for direction, label in (("forward", "Forward"), ("backward", "Backward"), ("shared", "Used by both")):
        sides = ["\n\n\n".join(source_of(node, lines) for node in group[direction]) for group in (left, right)]
        if not any(sides):
            continue
        cells = [nodes.container("", nodes.paragraph("", name, classes=["version"]), code_node(side), classes=["side"])
                 if side else nodes.container(classes=["side", "empty"])
                 for side, name in zip(sides, heads, strict=True)]
        rows += nodes.paragraph("", label, classes=["direction"])
        rows += nodes.container("", *cells, classes=["pair"])
    return [rows]


def whole_code(path: str) -> list[nodes.Node]:
    """Return the code of a module below its docstring and imports."""
    lines = read(path).split("\n")
    body = [node for node in ast.parse(read(path)).body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom))]
    return [code_node("\n\n\n".join(source_of(node, lines) for node in body))] if body else []


# ---- the page --------------------------------------------------------------------------------------------------------


class Chapter(Directive):
    """`{chapter} PATH`: the page of a module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = self.arguments[0]
        environment = self.state.document.settings.env
        environment.note_dependency(str(ROOT / path))
        name = path.removeprefix("minivit/").removesuffix(".py")
        found = Prose(path).content()
        if path.endswith("__init__.py"):
            return found
        is_op = path.startswith("minivit/ops/")
        found += [section(*self.figures(name), title="Pictures")] if name in PICTURES else []
        shown = columns(path) if is_op else whole_code(path)
        found += [section(self.note(path), *shown, title="Code")] if shown else []
        return [*found, section(self.checks(path, is_op), title="Tests and uses")]

    @staticmethod
    def figures(name: str) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for demo in PICTURES[name]:
            docstring = ast.get_docstring(ast.parse(read(f"demos/{demo}.py"))) or ""
            caption = " ".join(docstring.split("\n\n")[0].split())
            picture = f"/demos/pictures/{re.sub(r'^[0-9]+_(find_a_)?', '', demo)}.png"
            image = nodes.image(uri=picture, alt=caption)
            link = nodes.reference("", "", nodes.literal("", f"demos/{demo}.py"), refuri=f"source:demos/{demo}.py")
            found.append(nodes.figure("", image, nodes.caption("", "", nodes.Text(caption + " "), link)))
        return found

    @staticmethod
    def note(path: str) -> nodes.Node:
        link = nodes.reference("", "", nodes.literal("", path), refuri=f"source:{path}#L1")
        words = ". Docstrings are cut to their first line, and imports are left out."
        return nodes.paragraph("", "", nodes.Text("From "), link, nodes.Text(words))

    @staticmethod
    def checks(path: str, is_op: bool) -> nodes.Node:
        """Return a list: values worked out by hand, gradient checks, wrong backwards, and the files that use it."""
        name = path.split("/")[-1].removesuffix(".py")
        tables = [("Values worked out by hand", "tests/test_ops.py", "KNOWN"),
                  ("Gradients checked by differences", "minivit/gradcheck_catalogue/catalogue.py", "OPS"),
                  ("Wrong backwards that the checker must find", "tests/mutants.py", "IN_OPS")]
        items = []
        for label, file, table in tables if is_op else []:
            found = entries(file, table, name)
            if found:
                links = joined([link(f"{file}#L{line}", key if table != "IN_OPS" else str(number))
                                for number, (line, key) in enumerate(found, 1)])
                items.append(item(label, links))
        for label, folder in (("Used by", "minivit"), ("Tests", "tests"), ("Demos", "demos")):
            files = users(path, folder)
            if files:
                links = [link(file, file.removeprefix("minivit/"), literal=True) for file in files]
                items.append(item(label, joined(links)))
        if not items:
            items.append(item("Used by", [nodes.Text("no other module by its name")]))
        return nodes.bullet_list("", *items, classes=["uses"])


def section(*children: nodes.Node, title: str) -> nodes.section:
    return nodes.section("", nodes.title("", title), *children, ids=[nodes.make_id(title)], names=[title.lower()])


def link(target: str, text: str, literal: bool = False) -> nodes.Node:
    inside = nodes.literal(text, text) if literal else nodes.Text(text)
    return nodes.reference("", "", inside, refuri=f"source:{target}")


def joined(links: list[nodes.Node]) -> list[nodes.Node]:
    return [node for i, one in enumerate(links) for node in ([nodes.Text(", "), one] if i else [one])]


def item(label: str, content: list[nodes.Node]) -> nodes.list_item:
    return nodes.list_item("", nodes.paragraph("", "", nodes.strong("", label + ": "), *content))


# ---- HTML ------------------------------------------------------------------------------------------------------------


def visit_equations(translator, node) -> None:
    translator.body.append(node["html"])
    raise nodes.SkipNode


def visit_code(translator, node) -> None:
    highlighted = translator.highlighter.highlight_block(node["text"], "python", location=node)
    translator.body.append(hanging(highlighted, node["text"]))
    raise nodes.SkipNode


def hanging(highlighted: str, text: str) -> str:
    """Wrap each line of highlighted code in an element that knows its indent."""
    head, body, tail = re.fullmatch(r"(.*?<pre>(?:<span></span>)?)(.*?)(\n?</pre>.*)", highlighted, re.DOTALL).groups()
    indents = [len(line) - len(line.lstrip()) for line in text.split("\n")]
    lines = body.split("\n")
    wrapped = "".join(f'<span class="row" style="--indent: {indent + 4}ch">{line or " "}\n</span>'
                      for line, indent in zip(lines, indents, strict=True))
    return f'<div class="highlight-python code notranslate">{head}{wrapped}{tail.lstrip()}</div>'


def setup(app) -> dict:
    app.add_directive("chapter", Chapter)
    app.add_node(equations, html=(visit_equations, None))
    app.add_node(code, html=(visit_code, None))
    return {"parallel_read_safe": True}
