"""Docstrings as parts to typeset: paragraphs, lists and blocks of equations.

A docstring is read as its author laid it out. A text that is indented by four columns is a block. In a block, two or
more blanks end a cell, so that comments stand beside equations:

    mean = (1/D) sum_j x_j                           the first cell is an equation, this one a comment
    xhat = (x - mean) rstd

Cells that begin in the same column are set below each other, and so are relations that stand in the same column. In a
cell and in a paragraph, `pieces` finds the mathematics: the longest runs of words that `notation` can read. A block is
typeset only if all its notation was read. Otherwise, and if it has no equation at all, it stays as it is in the source.
"""

import ast
import re
from collections import Counter
from dataclasses import dataclass, field

from notation import FUNCTIONS, GREEK, RELATIONS, NotMathematics, mathml, tokens

ARTICLES = {"a", "A", "I"}                            # English words, when they stand alone
ENGLISH = {"is", "in", "of", "the", "if", "to", "by", "and", "or", "where", "that", "with", "each", "all", "for",
           "side", "step", "tokens", "as", "so", "over", "no"}
PREFIXES = {"log", "exp", "sin", "cos", "sqrt", "sum"}                   # functions of what follows
COUNTED = {"tiles", "images", "rows", "places"}       # after a number they are words, as in "n tiles"
# in a text: mathematics that was not read
NOTATION = re.compile(r"[_^=*\[\]{}<>|\\]|\bsqrt\b|\bsum_|\w/\w| [-+/*] |^[-+/*] | [-+/*]$")
MARKUP = re.compile(r"`(?P<code>[^`]+)`|(?<!\*)\*(?P<emphasis>[A-Za-z][^*]*)\*(?!\*)|"
                    r"(?P<link>arXiv:\d{4}\.\d{4,5}|https?://[^\s,)]+"
                    r"|doi:10\.[^\s,)]+)"
                    r"|(?P<quote>\"[^\"]+ [^\"]*\")")


@dataclass
class Piece:
    """A part of a line: `kind` is text, math, code, emphasis or link."""

    kind: str
    text: str
    html: str = ""


@dataclass
class Cell:
    """A cell of a block: the column where it begins, its text, its row, whether it is a left side, and its pieces."""

    start: int
    source: str
    row: int
    is_left: bool = False
    pieces: list[Piece] = field(default_factory=list)


@dataclass
class Part:
    """A part of a docstring: `kind` is paragraph, bullets, numbers, equations, table or literal."""

    kind: str
    text: str = ""
    items: list[str] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)


# ---- the parts of a docstring ----------------------------------------------------------------------------------------


def parts(docstring: str, names: set[str]) -> list[Part]:
    """Return the parts of a docstring in their order. `names` are the words that its equations may contain."""
    found = []
    for chunk in re.split(r"\n\s*\n", docstring.strip("\n")):
        lines = chunk.split("\n")
        while lines:
            indented = lines[0].startswith("    ")
            count = next((i for i, line in enumerate(lines) if line.startswith("    ") != indented
                          and not (lines[0].startswith("- "))), len(lines))
            head, lines = lines[:count], lines[count:]
            if indented:
                found.append(block([line[4:] for line in head], names))
            elif head[0].startswith("- "):
                items = re.split(r"\n- ", "\n".join(head)[2:])
                found.append(Part("bullets", items=[" ".join(item.split()) for item in items]))
            else:
                found.append(Part("paragraph", " ".join(" ".join(head).split())))
    return joined(found)


def joined(found: list[Part]) -> list[Part]:
    """Join neighbouring literal blocks, which only a blank line separates."""
    result: list[Part] = []
    for part in found:
        if result and part.kind == result[-1].kind == "literal":
            result[-1].text += "\n\n" + part.text
        else:
            result.append(part)
    return result


def block(lines: list[str], names: set[str]) -> Part:
    """Return an indented text as equations, as a numbered list, or as it is."""
    text = "\n".join(lines)
    if re.match(r"1\. ", text):
        items = re.split(r"\n\d+\. ", text[3:])
        return Part("numbers", text, [" ".join(item.split()) for item in items])
    rows = [cells(line, number) for number, line in enumerate(lines)]
    rows = aligned(rows)
    every = [cell for row in rows for cell in row]
    for cell in every:
        cell.pieces = left_side(cell.source, names) if cell.is_left else pieces(cell.source, names, display=True)
    read = all(not NOTATION.search(piece.text) for cell in every for piece in cell.pieces if piece.kind == "text")
    has_equation = any(piece.kind == "math" and any(sign in piece.text.split() for sign in RELATIONS)
                       for cell in every for piece in cell.pieces)
    if read and has_equation:
        return Part("equations", text, cells=every)
    return Part("table", text, cells=every) if is_table(rows) and not has_equation else Part("literal", text)


def is_table(rows: list[list[Cell]]) -> bool:
    """Whether every row has the same columns; a row may continue the last cell of the one above."""
    starts = [cell.start for cell in rows[0]]
    return len(starts) > 1 and len(rows) > 1 and all(
        [cell.start for cell in row] in (starts, starts[-1:]) for row in rows)


def cells(line: str, row: int) -> list[Cell]:
    """Split a line where two or more blanks stand, but not inside of parentheses or beside an operator."""
    found, start, depth, position = [], None, 0, 0
    while position < len(line):
        if start is None:
            position += len(line[position:]) - len(line[position:].lstrip())
            start = position
        gap = re.compile(r" {2,}").match(line, position)
        if gap and depth == 0 and not beside_operator(line[start:position], line[gap.end():]):
            found.append(Cell(start, line[start:position], row))
            start, position = None, gap.end()
            continue
        depth += (line[position] in "([") - (line[position] in ")]")
        position += 1
    return [*found, Cell(start, line[start:], row)] if start is not None else found


def beside_operator(before: str, after: str) -> bool:
    """Whether blanks stand before or after an operator of one equation, so they only align it."""
    signs = r"<-|->|<=|>=|\+=|=|~|/"
    return bool(re.match(rf"(?:{signs}|[+]) ", after) or re.search(rf" (?:{signs})$", before))


def aligned(rows: list[list[Cell]]) -> list[list[Cell]]:
    """Cut the first cells of rows in two before their relations, if these stand in the same column."""
    places = [relation_column(row[0]) for row in rows if row]
    counts = Counter(place for place in places if place is not None)
    counts.update(row[0].start for row in rows if row and relation_column(row[0]) is None
                  and row[0].source.split(" ")[0] in RELATIONS)
    shared = {place for place, count in counts.items() if count > 1}
    result = []
    for row in rows:
        place = relation_column(row[0]) if row else None
        if place in shared and place is not None:
            first, at = row[0], place - row[0].start
            left = Cell(first.start, first.source[:at].rstrip(), first.row, is_left=True)
            row = [left, Cell(place, first.source[at:], first.row), *row[1:]]
        result.append(row)
    return result


def relation_column(cell: Cell) -> int | None:
    """Return the column of the first relation of a cell that is not inside of parentheses and not at its start."""
    depth = 0
    for match in re.finditer(r"[(\[]|[)\]]| (<-|->|<=|>=|\+=|=|~) ", cell.source):
        depth += (match[0] in "([") - (match[0] in ")]")
        if match[1] and depth == 0:
            return cell.start + match.start(1)
    return None


def left_side(text: str, names: set[str]) -> list[Piece]:
    """Return the left side of an equation, which may be a single word."""
    try:
        return [Piece("math", text, mathml(text, names, display=True))]
    except NotMathematics:
        return pieces(text, names, display=True)


# ---- the mathematics in a line ---------------------------------------------------------------------------------------


def pieces(text: str, names: set[str], display: bool = False) -> list[Piece]:
    """Split a text into mathematics, code, emphasis, links and words.

    Parameters
    ----------
    text : str, one line
    names : set of str, words that are names in an equation, such as "probs"; elsewhere they stay words
    display : bool, whether equations are set large, as in a block
    """
    found: list[Piece] = []
    position = 0
    text, sources = re.match(r"(.*?)((?:\bSources?: .*)?)$", text, re.DOTALL).groups() if not display else (text, "")
    if sources:
        return [*pieces(text, names), *links(sources)]
    for match in MARKUP.finditer(text):
        found += runs(text[position:match.start()], names, display)
        kind = match.lastgroup or ""
        found.append(Piece("text" if kind == "quote" else kind, match[kind]))
        position = match.end()
    return [piece for piece in found + runs(text[position:], names, display) if piece.text]


def links(text: str) -> list[Piece]:
    """Split a list of sources into links and words: initials and titles are no mathematics."""
    parts = re.split(r"(arXiv:\d{4}\.\d{4,5}|https?://[^\s,)]+|doi:10\.[^\s,)]+)", text)
    return [Piece("link" if i % 2 else "text", part) for i, part in enumerate(parts) if part]


def runs(text: str, names: set[str], display: bool) -> list[Piece]:
    """Split a text without markup into the longest runs of mathematics, and words."""
    words = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    found, written, i = [], 0, 0
    while i < len(words):
        run = longest_run(text, words, i, names, display)
        if run is None:
            i += 1
            continue
        start, end, html = run
        found += [Piece("text", text[written:start]), Piece("math", text[start:end], html)]
        written = end
        i = next((n for n, (begin, _) in enumerate(words) if begin >= end), len(words))
    return [*found, Piece("text", text[written:])]


def longest_run(text: str, words: list[tuple[int, int]], i: int, names: set[str],
                display: bool) -> tuple[int, int, str] | None:
    """Return (start, end, MathML) of the longest run of mathematics that begins with word i, or None."""
    last = i
    while last < len(words) and last - i < 60 and readable(text[slice(*words[last])]):
        last += 1
    for j in range(last, i, -1):
        begin, end = words[i][0], words[j - 1][1]
        for start, stop in trimmed(text, begin, end):
            html = typeset(text[start:stop], names, display)
            if html:
                return start, stop, html
    return None


def readable(word: str) -> bool:
    try:
        return bool(tokens(word.rstrip(".,;:"))) or word.startswith("...")
    except NotMathematics:
        return False


def trimmed(text: str, begin: int, end: int) -> list[tuple[int, int]]:
    """The run itself, and without the punctuation around it."""
    bare = text[begin:end]
    stop = end if bare.endswith("...") else begin + len(bare.rstrip(".,;:"))
    places = [(begin, stop)]
    if text[begin] == "(":
        places.append((begin + 1, stop))
    if stop > begin and text[stop - 1] == ")":
        places.append((begin, begin + len(text[begin:stop - 1].rstrip(".,;:"))))
    return [(start, stop) for start, stop in places if start < stop]


def typeset(text: str, names: set[str], display: bool) -> str:
    """Return the MathML of a run of words, or "" if it is not mathematics."""
    try:
        found = tokens(text)
    except NotMathematics:
        return ""
    words = [token for kind, token, _ in found if kind == "name"]
    signs = [token for kind, token, _ in found if kind == "sign"]
    first, last = found[0][1], found[-1][1]
    relates = any(sign in RELATIONS for sign in signs)
    works = relates or has_operator(text, words, signs)
    if len(found) == 1 and first in RELATIONS and display:
        return mathml(text, names, display)                           # "= the blocks of the ViT"
    if not words and (len(found) < 3 or (signs and not display)):
        return ""                                                     # numbers
    if not works and all(is_word(word, names) for word in words):
        return ""                                                     # words
    if last in COUNTED or (last in FUNCTIONS and (len(found) < 2 or found[-2][1] not in "+-*")):
        return ""                                                     # N = M + 1 tokens, y = max over
    if is_article(found, 0) or is_article(found, -1):
        return ""                                                     # s > 0 a fixed scale
    if names_in_front(found, names) and (not display or (not relates and found[1][1] not in ("(", "["))):
        return ""                                                     # step t = 1
    if not display and ((not relates and is_word(last, names)) or has_list(found) or last in RELATIONS
                        or first in RELATIONS or (len(found) == 1 and re.fullmatch(r"[A-Za-z]+\d+", last))):
        return ""                                                     # a list of names is set one by one
    try:
        return mathml(text, names if works or display else set(), display and relates)
    except NotMathematics:
        return ""


def has_operator(text: str, words: list[str], signs: list[str]) -> bool:
    """Whether a run has an operator that English does not have."""
    return ("/" in signs or "**" in signs or "sqrt" in words or "x" in words[1:-1]
            or bool(re.search(r"\b(\w) x (\1|[A-Z])\b", text)) or any(f" {sign} " in text for sign in "+-*^"))


def is_article(found: list[tuple[str, str, bool]], place: int) -> bool:
    """Whether the first or last token is the English word a, A or I, and no operand of an operator."""
    beside = found[1 if place == 0 else -2][0] if len(found) > 1 else ""
    return found[place][1] in ARTICLES and beside != "sign"


def names_in_front(found: list[tuple[str, str, bool]], names: set[str]) -> bool:
    """Whether a run begins with a word that is not a function, and with no operator after it."""
    first = found[0][1]
    return (is_word(first, names) and first not in PREFIXES and len(found) > 1
            and (found[1][0] in ("name", "number") or found[1][1] in ("|", "'")))


def has_list(found: list[tuple[str, str, bool]]) -> bool:
    """Whether a comma or semicolon stands outside of parentheses."""
    depth = 0
    for _, text, _ in found:
        depth += (text in ("(", "[")) - (text in (")", "]"))
        if text in (",", ";") and depth == 0:
            return True
    return False


def is_word(word: str, names: set[str]) -> bool:
    """Whether a name could be a word of English, or is one of the chapter's names."""
    if word in GREEK or word in ("xhat", "dxhat", "dLoss") or re.fullmatch(r"d[A-Za-np-z]", word):
        return False
    return word in names or word in FUNCTIONS or (len(word) > 2 and word.isalpha())


def names_of(source: str, docstring: str) -> set[str]:
    """Return the words that are names in the equations of a module.

    These are the names in its code, those on the left of a relation, and those of functions in its docstring.
    """
    tree = ast.parse(source)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for line in re.findall(r"^    (.*)$", docstring, re.MULTILINE):
        for equation in re.split(r" {2,}(?![=<])", line):
            names |= set(re.findall(r"^(?:d )?([A-Za-z]\w*)\S* *(?:=|<-|\+=)", equation))
        names |= set(re.findall(r"\b([A-Za-z]\w*)\(", line))                         # f(x)
        names |= set(re.findall(r"[(\[]([A-Za-z]+)[)\]]", line))                      # f(image), z[class]
        names |= set(re.findall(r"[(=] *([A-Za-z]+) [-+/] ", line))                   # = pixel / 255
        names |= set(re.findall(r" [-+/] ([A-Za-z]+)", line))                         # w - lr decay w
        names |= set(re.findall(r"\b[A-Z] ([a-z]+) [A-Z]\b", line))                   # P probs P^T
        names |= set(re.findall(r" (?:=|<-) ([A-Za-z]+) \(", line))                   # = peak (t + 1)
    return {name for name in names if len(name) > 1} - ENGLISH
