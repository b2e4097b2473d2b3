"""The plain notation of the docstrings, typeset as MathML.

    mathml("dx_j = s y_j (dy_j - sum_i dy_i y_i)", names=set())

The docstrings write equations as plain text, because they are read in the source first. This notation is small:

    x_j  w_{k-1}  z'_l  beta1          subscripts and primes; a name of one letter, of digits, or a Greek name
    a b                                a product
    a / b   a/b                        a fraction: with blanks the product on the left is the numerator, without blanks
                                       only the number or name that touches the stroke; a sum as denominator reaches as
                                       far as its product
    a**b  A^T  S^2                     powers and the transpose
    sum_i  sqrt d  log p  f(x)         functions of what follows
    y[b, i]  (B, N, D)  [a; b]         entries, shapes, stacked rows
    d y / d x                          a derivative
    xhat                               x with a hat; dx and dxhat are gradients
    =  <-  ->  <=  ~  mod  x           relations and operators; x stands for times between two numbers or sizes

Nothing is guessed. A text that does not follow these rules raises `NotMathematics`, and the caller shows it as it is.
Every word must be a name that the notation or the chapter knows, so English is never set as a product of names. A
fraction whose denominator is not clear, as in `a / b c`, is refused.
"""

import re
from html import escape

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "lambda": "λ", "mu": "μ",
         "phi": "φ", "Phi": "Φ", "pi": "π", "sigma": "σ", "tau": "τ", "theta": "θ"}
FUNCTIONS = {"exp", "log", "sin", "cos", "tanh", "erf", "max", "min", "tr", "softmax", "sum", "sqrt", "ceil", "mean"}
KNOWN = {"Loss", "dLoss"}
RELATIONS = {"=": "=", "<-": "←", "->": "→", "<=": "≤", ">=": "≥", "<": "<", ">": ">", "~": "≈", "+=": "+="}
SUMS = {"+": "+", "-": "−", "*": "∗", "mod": "mod", "^": "^", "x": "×"}
SUM_SIGN = '<mo movablelimits="true">∑</mo>'
CLOSING = {"(": ")", "[": "]", "|": "|"}

TOKEN = re.compile(r"""
    (?P<number>\d+(?:,\d{3})*(?:\.\d+)?)
  | (?P<name>[A-Za-z]+\d*'*(?:_(?:\{[^{}]*\}|[A-Za-z0-9]+(?:_[A-Za-z0-9]+)*))?)
  | (?P<below>_[A-Za-z0-9]+)
  | (?P<string>"[a-z]+")
  | (?P<sign>\.\.\.|\.\.|\*\*|//|<-|->|<=|>=|\+=|[-+*/=<>~^()\[\],;:|'])
""", re.VERBOSE)


class NotMathematics(ValueError):
    """The text does not follow the plain notation."""


def mathml(text: str, names: set[str], display: bool = False) -> str:
    """Typeset an equation.

    Parameters
    ----------
    text : str, in the plain notation
    names : set of str, the names of more than one letter that the text may contain, besides those of the notation
    display : bool, whether it stands on a line of its own: fractions are then stacked

    Returns
    -------
    str : `math` elements. The line may be broken between them: before each relation outside of parentheses.

    Raises
    ------
    NotMathematics : if the text does not follow the notation
    """
    parser = Parser(tokens(text), names, display)
    parts = parser.sequence(top=True)
    if not parts:
        raise NotMathematics("nothing to typeset")
    if parser.token():
        raise NotMathematics(f"{text}: unexpected {parser.token()}")
    chunks: list[list[str]] = [[]]
    for is_relation, part in parts:
        if is_relation and chunks[-1]:
            chunks.append([])
        chunks[-1].append(part)
    style = ' displaystyle="true"' if display else ""
    return "<wbr>".join(f"<math{style}>{row(chunk)}</math>" for chunk in chunks)


def tokens(text: str) -> list[tuple[str, str, bool]]:
    """Split a text into (kind, text, whether a blank stands before it)."""
    found, position = [], 0
    while position < len(text):
        blank = text[position] == " "
        position += len(text[position:]) - len(text[position:].lstrip())
        if position == len(text):
            break
        match = TOKEN.match(text, position)
        if not match:
            raise NotMathematics(f"{text}: cannot read {text[position:]!r}")
        found.append((match.lastgroup or "", match[0], blank))
        position = match.end()
    return found


def row(parts: list[str]) -> str:
    """Return parts as one element."""
    return parts[0] if len(parts) == 1 else f"<mrow>{''.join(parts)}</mrow>"


def operator(sign: str, form: str = "infix") -> str:
    return f'<mo form="{form}">{escape(sign)}</mo>'


class Parser:
    """Reads tokens from left to right; every method returns the MathML of what it has read."""

    def __init__(self, found: list[tuple[str, str, bool]], names: set[str], display: bool) -> None:
        self.found, self.names, self.stacked = found, names, display
        self.at, self.previous_bare, self.in_bars = 0, "", False

    # ---- the tokens ----

    def token(self, ahead: int = 0) -> str:
        return self.found[self.at + ahead][1] if self.at + ahead < len(self.found) else ""

    def kind(self, ahead: int = 0) -> str:
        return self.found[self.at + ahead][0] if self.at + ahead < len(self.found) else ""

    def blank(self, ahead: int = 0) -> bool:
        """Whether a blank stands before a token."""
        return self.at + ahead < len(self.found) and self.found[self.at + ahead][2]

    def take(self) -> str:
        self.at += 1
        return self.found[self.at - 1][1]

    def expect(self, sign: str) -> None:
        if self.token() != sign:
            raise NotMathematics(f"expected {sign!r}, found {self.token()!r}")
        self.at += 1

    # ---- lists and relations ----

    def sequence(self, top: bool = False, slices: bool = False) -> list[tuple[bool, str]]:
        """Read expressions between commas, semicolons and relations. Returns pairs (is a relation, MathML)."""
        parts: list[tuple[bool, str]] = []
        expects_operand = False
        while self.token() and self.token() not in (")", "]") and not (self.in_bars and self.token() == "|"):
            sign = self.token()
            if sign in RELATIONS:
                if expects_operand or (not parts and not top):
                    raise NotMathematics(f"an expression is missing before {sign!r}")
                parts.append((True, operator(RELATIONS[self.take()])))
                expects_operand = True
            elif sign in (",", ";"):
                if expects_operand or not parts:
                    raise NotMathematics(f"an expression is missing before {sign!r}")
                last = ' rspace="0"' if self.token(1) in (")", "]") else ""
                parts.append((False, f'<mo separator="true"{last}>{self.take()}</mo>'))
                expects_operand = not slices and self.token() != ")"         # (D,) is a shape
            elif sign == ":" and slices:
                parts.append((False, f'<mo lspace="0" rspace="0">{self.take()}</mo>'))
                expects_operand = False
            else:
                if parts and not expects_operand and not parts[-1][1].startswith("<mo"):
                    raise NotMathematics(f"unexpected {sign!r}")
                parts.append((False, self.expression()))
                expects_operand = False
        if expects_operand and not (top and parts[-1][0]):
            raise NotMathematics("an expression is missing at the end")
        return parts

    def expression(self) -> str:
        """Read a sum of products."""
        parts = []
        if self.token() in ("-", "+"):
            parts.append(operator(SUMS[self.take()], "prefix"))
        parts.append(self.product())
        while self.token() in SUMS and self.is_infix():
            sign = self.take()
            space = ' lspace="0.35em" rspace="0.35em"' if sign == "mod" else ""
            parts.append(f'<mo form="infix"{space}>{SUMS[sign]}</mo>')
            parts.append(self.product())
        return row(parts)

    def is_infix(self) -> bool:
        """Whether the next token is an operator between two operands, and not a name or the sign of a factor."""
        if self.token() == "x":                                    # 3 x 3, k x k, H x W: times; x W: a name
            before, after = self.token(-1), self.token(1)
            return (self.kind(-1) == self.kind(1) == "number"
                    or (before == after and len(after) == 1 and after.isalpha())
                    or (len(before) == len(after) == 1 and (before + after).isupper()))
        if self.token() in ("mod", "^", "*"):
            return self.blank() and self.blank(1)
        return True

    def product(self) -> str:
        """Read factors side by side, and fractions."""
        factors = [self.factor()]
        while True:
            if self.token() == "/" and self.blank() and self.blank(1):
                factors = self.fraction(factors)
                if self.starts_factor():
                    raise NotMathematics("what is the denominator? write parentheses")
            elif self.token() == "//" and self.blank() and self.blank(1):
                factors = [self.floor(factors)]
            elif SUM_SIGN in factors[-1][:100] and self.token() == "-" and self.blank() and not self.blank(1):
                self.at += 1                                          # sum_k -q_k: the sign of a term
                factors += [operator(SUMS["-"], "prefix"), self.factor()]
            elif self.starts_factor():
                if re.match("<mo[ >]", factors[-1]) or (self.found[self.at][1] in ("(", "[", "|") and not self.blank()):
                    factors.append(self.factor())
                else:
                    factor = self.factor()
                    wide = any(re.search(r"<mi>[^<]{2,}</mi>", part) for part in (factors[-1], factor))
                    factors += [f'<mspace width="{0.28 if wide else 0.17}em"/>', factor]
            else:
                return row(factors)

    def starts_factor(self) -> bool:
        if self.token() in ("(", "[", "...", ".."):
            return True
        if self.token() == "|":
            return not self.in_bars and self.blank() and not self.blank(1)
        if self.kind() == "name" and not self.blank() and self.kind(-1) in ("name", "string"):
            raise NotMathematics(f"two names touch: {self.token(-1)}{self.token()}")     # the layer's
        return self.kind() in ("number", "name", "string") and not (self.token() in SUMS and self.is_infix())

    def fraction(self, factors: list[str]) -> list[str]:
        """Read a denominator. Sums on the left stay before the fraction: sum_i a_i / b is a sum of fractions."""
        self.at += 1
        start = max((i + 1 for i, factor in enumerate(factors) if SUM_SIGN in factor[:100]), default=0)
        before, numerator = factors[:start], factors[start:]
        above, bare_above = row(numerator), self.previous_bare if len(numerator) == 1 else ""
        below = self.product() if self.token().startswith("sum") else self.signed()
        bare_below, self.previous_bare = self.previous_bare, ""
        if not self.stacked:
            return [*before, f'<mrow>{above}<mo lspace="0.1em" rspace="0.1em">/</mo>{below}</mrow>']
        return [*before, f"<mfrac>{bare_above or above}{bare_below or below}</mfrac>"]

    def floor(self, numerator: list[str]) -> str:
        self.at += 1
        above, bare_above = row(numerator), self.previous_bare
        below = self.factor()
        self.previous_bare = ""
        inside = (f"<mfrac>{(len(numerator) == 1 and bare_above) or above}{below}</mfrac>" if self.stacked
                  else f"{above}<mo>/</mo>{below}")
        return f'<mrow><mo form="prefix">⌊</mo>{inside}<mo form="postfix">⌋</mo></mrow>'

    def signed(self) -> str:
        """Read a factor that may have a minus sign, such as an exponent."""
        if self.token() == "-":
            self.at += 1
            parts = [operator(SUMS["-"], "prefix"), self.factor()]
            self.previous_bare = ""
            return row(parts)
        return self.factor()

    # ---- factors ----

    def factor(self) -> str:
        """Read a name, number, function or group with what is attached to it: primes, entries, powers, a fraction."""
        derivative = self.derivative()
        if derivative:
            return derivative
        base, bare = self.base()
        while True:
            if self.token() == "[" and not self.blank():
                base, bare = row([base, self.group()[0]]), ""
            elif self.token() == "(" and not self.blank() and self.is_call(base):
                base, bare = row([base, self.group(is_call=True)[0]]), ""
            elif self.kind() == "below" and not self.blank() and base.endswith("</mo></mrow>"):
                base, bare = f"<msub>{base}{self.subscript(self.take()[1:])}</msub>", ""
            elif self.token() == "'" and not self.blank():
                self.at += 1
                base, bare = f"<msup>{base}<mo>′</mo></msup>", ""
            elif self.token() == "**":
                self.at += 1
                exponent = self.within_line(self.signed)
                base, bare = self.power(base, self.previous_bare or exponent), ""
            elif self.token() == "^" and not self.blank() and not self.blank(1):
                self.at += 1
                base, bare = self.power(base, self.within_line(self.factor)), ""
            elif self.token() == "/" and not self.blank() and not self.blank(1):
                self.at += 1
                below = self.within_line(self.factor) if not self.stacked else self.factor()
                bare_below = self.previous_bare
                if self.stacked:
                    base, bare = f"<mfrac>{bare or base}{bare_below or below}</mfrac>", ""
                else:
                    base, bare = f'<mrow>{base}<mo lspace="0.1em" rspace="0.1em">/</mo>{below}</mrow>', ""
            else:
                self.previous_bare = bare
                return base

    def is_call(self, base: str) -> bool:
        return not base.endswith(("</mn>", "</mo></mrow>"))

    def within_line(self, read) -> str:
        """Read with fractions on one line: in exponents, subscripts, shapes and entries."""
        stacked, self.stacked = self.stacked, False
        try:
            return read()
        finally:
            self.stacked = stacked

    @staticmethod
    def power(base: str, exponent: str) -> str:
        """Put an exponent on a factor; one that has a subscript gets both at one place."""
        if base.startswith("<msub>") and base.endswith("</msub>") and base.count("<msub>") == 1:
            return f"<msubsup>{base[6:-7]}{exponent}</msubsup>"
        return f"<msup>{base}{exponent}</msup>"

    def derivative(self) -> str:
        """Read `d y / d x`. Elsewhere d is a name."""
        ahead = self.found[self.at:self.at + 8]
        texts = [text for _, text, _ in ahead]
        if not texts or texts[0] != "d" or "/" not in texts[2:4]:
            return ""
        stroke = texts.index("/")
        if texts[stroke + 1:stroke + 2] != ["d"] or self.kind(stroke + 2) != "name":
            return ""
        self.at += 1
        above = [self.base()[0] for _ in range(stroke - 1)]
        self.at += 2
        below = self.base()[0]
        upper, lower = (f"<mrow><mi>d</mi>{space}{row(parts)}</mrow>" for space, parts in
                        (('<mspace width="0.08em"/>', above), ('<mspace width="0.08em"/>', [below])))
        if self.stacked:
            return f"<mfrac>{upper}{lower}</mfrac>"
        return f'<mrow>{upper}<mo lspace="0.1em" rspace="0.1em">/</mo>{lower}</mrow>'

    def base(self) -> tuple[str, str]:
        """Read one number, name, function or group. Returns its MathML, and that without its parentheses or ""."""
        kind, text = self.kind(), self.token()
        if text in ("(", "["):
            return self.group()
        if text == "|":
            return self.absolute()
        if text in ("...", ".."):
            self.at += 1
            return "<mi>…</mi>", ""
        if kind == "number":
            number = f"<mn>{self.take()}</mn>"
            if self.kind() == "name" and not self.blank():          # 2p: a product without a blank
                if not re.fullmatch("[A-Za-z]", self.token()) or (self.token(1) and not self.blank(1)
                                                                   and self.token(1) not in ")],;:"):
                    raise NotMathematics(f"unclear: {text}{self.token()}")                   # 16x16, 4e-44
                factor, _ = self.base()
                return f"<mrow>{number}{factor}</mrow>", ""
            return number, ""
        if kind == "string":
            return f"<mtext>{escape(self.take())}</mtext>", ""
        if kind != "name":
            raise NotMathematics(f"expected an expression, found {text!r}")
        if text == "sqrt":
            self.at += 1
            factor = self.base_with_index()
            return f"<msqrt>{self.previous_bare or factor}</msqrt>", ""
        if text == "ceil" and self.token(1) == "(":
            self.at += 1
            inside = self.within_line(lambda: self.group()[1])
            left, right = ('<mo form="prefix" stretchy="false">⌈</mo>', '<mo form="postfix" stretchy="false">⌉</mo>')
            return f"<mrow>{left}{inside}{right}</mrow>", ""
        if text == "sum" or text.startswith("sum_"):
            self.at += 1
            sign = SUM_SIGN
            under = text[4:]
            return (f"<munder>{sign}{self.subscript(under)}</munder>" if under else sign), ""
        return self.name(self.take()), ""

    def base_with_index(self) -> str:
        """Read the argument of a root: a number, a name or a group."""
        factor, self.previous_bare = self.base()
        return factor

    def absolute(self) -> tuple[str, str]:
        self.expect("|")
        self.in_bars = True
        parts = self.sequence()
        if not parts:
            raise NotMathematics("nothing between bars")
        inside = row([part for _, part in parts])
        self.expect("|")
        self.in_bars = False
        bars = f'<mrow><mo form="prefix" stretchy="true">|</mo>{inside}<mo form="postfix" stretchy="true">|</mo></mrow>'
        if self.kind() == "below":
            bars = f"<msub>{bars}{self.subscript(self.take()[1:])}</msub>"
        return bars, ""

    def group(self, is_call: bool = False) -> tuple[str, str]:
        """Read (...) or [...]. The second result is the content alone, if it is one expression in parentheses.

        A fraction needs no parentheses, unless it is the argument of a function.
        """
        opening = self.take()
        start = self.at
        is_list = self.is_list(opening)
        read = lambda: self.sequence(slices=opening == "[")          # noqa: E731
        parts = self.within_line(read) if is_list else read()
        if not parts:
            raise NotMathematics("empty parentheses")
        if self.token() != CLOSING[opening]:
            raise NotMathematics(f"{opening} is not closed")
        end = self.at
        self.at += 1
        inside = row([part for _, part in parts])
        low = "" if re.search("<mfrac|<munder|<msqrt", inside) else ' stretchy="false"'
        closing = f'<mo form="postfix"{low}>{CLOSING[opening]}</mo>'
        whole = f'<mrow><mo form="prefix"{low}>{opening}</mo>{inside}{closing}</mrow>'
        lone = opening == "(" and len(parts) == 1
        bare = inside if lone else ""
        if lone and self.stacked and not is_call and inside.startswith("<mfrac>") and self.is_one_fraction(start, end):
            whole = inside                                             # (1/D) sum: the stroke groups already
        return whole, bare

    def is_one_fraction(self, start: int, end: int) -> bool:
        """Whether a group may lose its parentheses: it is a fraction, and no power or further fraction follows."""
        texts = [text for _, text, _ in self.found[start:end]]
        depth, strokes = 0, 0
        for text in texts:
            depth += (text in ("(", "[")) - (text in (")", "]"))
            strokes += text in ("/",) and depth == 0
        return strokes == 1 and self.token() not in ("**", "^")

    def is_list(self, opening: str) -> bool:
        """Whether the group that begins here is a list, a shape or an index."""
        if opening == "[":
            return True
        depth = 0
        for _, text, _ in self.found[self.at:]:
            depth += (text in ("(", "[")) - (text in (")", "]"))
            if depth < 0:
                return False
            if text in (",", ";") and depth == 0:
                return True
        return False

    # ---- names ----

    def name(self, text: str) -> str:
        """Return a name with its subscript and primes; refuse a word that is not known as a name."""
        stem, _, below = text.partition("_")
        stem, primes = stem.rstrip("'"), stem.count("'")
        is_long = len(stem.removeprefix("d").removesuffix("hat")) > 1 and stem not in GREEK
        if is_long and len(below) > 2 and below[0] != "{":
            stem, below = text, ""                                   # class_token: a name of the code
        digits = re.fullmatch(r"([A-Za-z]+)(\d+)", stem)
        if digits and not below and (len(digits[1]) == 1 or digits[1] in GREEK):
            stem, below = digits[1], digits[2]                       # beta1, c0
        base = self.plain_name(stem)
        if primes:
            base = f"<msup>{base}<mo>{'′' * primes}</mo></msup>"
        return f"<msub>{base}{self.subscript(below)}</msub>" if below else base

    def plain_name(self, stem: str) -> str:
        if stem in GREEK:
            return f"<mi>{GREEK[stem]}</mi>"
        if stem == "inf":
            return "<mi>∞</mi>"
        gradient = re.fullmatch(r"(d?)([A-Za-z])hat", stem)
        if gradient and (gradient[2] == "x" or stem in self.names):
            letter = f'<mover accent="true"><mi>{gradient[2]}</mi><mo>^</mo></mover>'
            return f"<mrow><mi>d</mi>{letter}</mrow>" if gradient[1] else letter
        if len(stem) == 1:
            return f"<mi>{stem}</mi>"
        if len(stem) == 2 and stem[0] == "d" and stem != "do":
            return f"<mrow><mi>d</mi><mi>{stem[1]}</mi></mrow>"
        if stem in FUNCTIONS or stem in KNOWN or stem in self.names or (stem[0] == "d" and stem[1:] in self.names):
            return f"<mi>{stem}</mi>"
        raise NotMathematics(f"unknown name {stem!r}")

    def subscript(self, text: str) -> str:
        """Return the MathML of a subscript: letters side by side, a number, a word, or an expression in braces."""
        if text.startswith("{"):
            inner = Parser(tokens(text[1:-1]), self.names, False)
            return row([part for _, part in inner.sequence()])
        if text.isdigit():
            return f"<mn>{text}</mn>"
        if len(text) <= 2:
            return row([f"<mi>{letter}</mi>" if letter.isalpha() else f"<mn>{letter}</mn>" for letter in text])
        return f"<mi>{text}</mi>"
