"""One notation for answers: what LaTeX and people write in several ways is written in one, and its meaning stays.

`tidy` is a list of rules, each of them true of notation in general and of no particular answer: dfrac is frac,
\\left( is (, 10{,}080 is 10080, √20 is \\sqrt{20}. No rule computes, and none may give two different numbers the same
text; the tests hold every rule against that. Quantities are read from the tidied text by `quantities`, everything else
by math-verify.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_UNICODE: Final = str.maketrans(
    {
        "−": "-",
        "﹣": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": r"\div ",
        "±": r"\pm ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "°": r"^{\circ}",
        "¢": r"\text{ cents}",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "ℝ": r"\mathbb{R}",
        "∅": r"\emptyset ",
        "′": "'",
        "%": r"\%",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
        "\u200b": "",
        "\u2060": "",
        "\ufeff": "",
    }
    | {digit: f"^{{{value}}}" for value, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {digit: f"_{{{value}}}" for value, digit in enumerate("₀₁₂₃₄₅₆₇₈₉")}
    | {
        sign: rf"\frac{{{above}}}{{{below}}}"
        for sign, above, below in (
            ("½", 1, 2), ("⅓", 1, 3), ("⅔", 2, 3), ("¼", 1, 4), ("¾", 3, 4), ("⅕", 1, 5), ("⅛", 1, 8)
        )
    }
)  # fmt: skip
_ADJACENT_SCRIPTS: Final = re.compile(r"([\^_])\{(\d+)\}\1\{(\d+)\}")

_GROUPED: Final = re.compile(r"(?<=\d)(?:\{,\}|,\s*\\!|\\!\s*,)\s*(?:\\!\s*)?(?=\d{3}(?!\d))")
_SPACE: Final = re.compile(r"(?<!\\)\\(?:[,;:> ]|quad(?![A-Za-z])|qquad(?![A-Za-z])|thinspace(?![A-Za-z]))|~")
_NO_SPACE: Final = re.compile(r"(?<!\\)\\!")
_SIZE: Final = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|m?left|m?right)(?![A-Za-z])\s*"
)
_BRACKETS: Final = {
    "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "langle": "(", "rangle": ")"
}  # fmt: skip
_BRACKET: Final = re.compile(rf"\\({'|'.join(_BRACKETS)})(?![A-Za-z])\s*")
_UPRIGHT = (
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|textup|emph|mbox|hbox|mathrm|mathsf|operatorname)\s*\{"
)
_UPRIGHT_TEXT: Final = re.compile(_UPRIGHT + r"([^{}]*)\}")
_NESTED_TEXT: Final = re.compile(_UPRIGHT + r"\s*\\text\{([^{}]*)\}\s*\}")
_STYLED: Final = re.compile(r"\\(?:underline|mathbf|mathit|mathnormal|boldsymbol|bm|pmb)\s*(?=\{)")
_NUMBER_AS_TEXT: Final = re.compile(r"\\text\{\s*([-+]?\s?(?:\\?\$)?[\d.,]*\d(?:\\%)?)\s*\}")
_NUMBER_THEN_WORDS: Final = re.compile(r"\\text\{\s*([-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+))\s+([^{}]+)\}")

_FRAC: Final = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_FRAC_BARE_TOP: Final = re.compile(r"\\frac\s*(\d)\s*(?=[\d{])")
_FRAC_BARE_BOTTOM: Final = re.compile(r"\\frac\s*(\{[^{}]*\})\s*(\d)")
_ROOT_SIGN: Final = re.compile(r"√\s*(?:(\d+(?:\.\d+)?)|(?=\{)|\(([^()]*)\))")
_ROOT_WORD: Final = re.compile(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)")
_ROOT_BARE: Final = re.compile(r"\\sqrt\s*(\d)")
_SQUARE_ROOT: Final = re.compile(r"\\sqrt\s*\[\s*2\s*\]\s*(?=\{)")

_DEGREES: Final = re.compile(
    r"(?:\{\s*\})?\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\s*\\degree(?![A-Za-z])|(?<=\d)\^\s*\{?o\}?\Z"
)
_PLUS_INFINITY: Final = re.compile(r"(\A|[(\[,={])\s*\+\s*\\infty(?![A-Za-z])")
_ROW_HEIGHT: Final = re.compile(r"(\\\\)\s*\[\s*-?[\d.]+\s*(?:ex|em|pt|mm|cm|in)\s*\]")
_BASE: Final = re.compile(
    r"_\s*\{\s*(?:\\text\{)?\s*\(?\s*(?:base[ -]?)?(\d{1,2}|[a-z]+)\s*\)?\s*\}?\s*\}|_\s*(\d)(?!\d)"
)
_BASE_WORDS: Final = re.compile(
    r"(?<=[\dA-F)])\s*(?:\\text\{)?\s*\(?\s*(?:in\s+)?base[ -](\d{1,2}|[a-z]+)\s*\)?\s*\}?\Z"
)
_BASED_BRACKETS: Final = re.compile(r"\A\(\s*(\d[\dA-F]*)\s*\)(?=_\{)")
_BASES: Final = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "sixteen": 16,
}  # fmt: skip
_BLANKS: Final = re.compile(r"\s+")
_WRAPPED: Final = re.compile(
    r"\$\$([^$]+)\$\$|\$((?:\\\$|[^$])+)\$|\\\((.+)\\\)|\\\[(.+)\\\]|\*\*([^*]+)\*\*", re.DOTALL
)


def _unicode(text: str) -> str:
    """Signs for what LaTeX has commands for; x²³ is one exponent. A % or a sign that is escaped already stays."""
    text = text.replace(r"\%", "%").translate(_UNICODE)
    while (joined := _ADJACENT_SCRIPTS.sub(r"\1{\2\3}", text)) != text:
        text = joined
    return text


def _unwrap(text: str) -> str:
    """Delimiters, emphasis, braces and a full stop around the whole do not belong to the answer."""
    for _ in range(6):
        before = text
        text = text.strip()
        if text.endswith((".", ",", ";")) and not text.endswith(("..", "\\,", "\\;")):
            text = text[:-1]
        if match := _WRAPPED.fullmatch(text):
            text = next(g for g in match.groups() if g is not None)
        if text.startswith("{") and _closes(text) == len(text) - 1:
            text = text[1:-1]
        if text == before:
            break
    return text


def _closes(text: str) -> int:
    """The place of the brace that closes the first one, or -1."""
    depth = 0
    for place, char in enumerate(text):
        if char in "{}" and (place == 0 or text[place - 1] != "\\"):
            depth += 1 if char == "{" else -1
            if depth == 0:
                return place
    return -1


def _groups(text: str) -> str:
    """10{,}080 and 10,\\!080 are one number. A bare comma may separate the entries of a list, and stays."""
    return _GROUPED.sub("", text)


def _spaces(text: str) -> str:
    """All spaces are one blank."""
    return _BLANKS.sub(" ", _SPACE.sub(" ", _NO_SPACE.sub("", text)))


def _sizes(text: str) -> str:
    """How tall a bracket or a fraction is drawn says nothing."""
    return _SIZE.sub("", text)


def _brackets(text: str) -> str:
    """Brackets by their names; those of a vector are those of a tuple."""
    return _BRACKET.sub(lambda m: _BRACKETS[m[1]], text)


def _fonts(text: str) -> str:
    """Upright fonts are \\text, others nothing; \\text around a number, i or e is nothing."""
    text = _STYLED.sub("", text)
    text = _UPRIGHT_TEXT.sub(lambda m: m[1] if m[1] in ("i", "e") else f"\\text{{{m[1]}}}", text)
    for _ in range(3):
        text = _NESTED_TEXT.sub(r"\\text{\1}", text)
    text = _NUMBER_AS_TEXT.sub(r"\1", text)
    return _NUMBER_THEN_WORDS.sub(r"\1 \\text{\2}", text) if text.startswith(r"\text") else text


def _fractions(text: str) -> str:
    """\\dfrac is \\frac; \\frac43 is \\frac{4}{3}, as TeX reads it."""
    text = _FRAC_BARE_TOP.sub(r"\\frac{\1}", _FRAC.sub(r"\\frac", text))
    return _FRAC_BARE_BOTTOM.sub(r"\\frac\1{\2}", text)


def _roots(text: str) -> str:
    """√20, sqrt(20), \\sqrt[2]{20} and \\sqrt2."""
    text = _ROOT_SIGN.sub(lambda m: r"\sqrt" + (f"{{{m[1] or m[2]}}}" if m[1] or m[2] else ""), text)
    text = _ROOT_WORD.sub(r"\\sqrt{\1}", text)
    return _ROOT_BARE.sub(r"\\sqrt{\1}", _SQUARE_ROOT.sub(r"\\sqrt", text))


def _degrees(text: str) -> str:
    """90°, 90^\\circ, 90\\degree."""
    return _DEGREES.sub(r"^{\\circ}", text)


def _infinity(text: str) -> str:
    """A plus before infinity where no sum is."""
    return _PLUS_INFINITY.sub(r"\1\\infty", text)


def _rows(text: str) -> str:
    """The height of a matrix's row."""
    return _ROW_HEIGHT.sub(r"\1 ", text)


def _bases(text: str) -> str:
    """52_8, (52)_{8}, 52_{\\text{eight}} and 52 (base 8) are 52_{8}."""

    def written(match: re.Match[str]) -> str:
        name = match[1] or (match[2] if match.re is _BASE else "")
        value = _BASES.get(name, name)
        return f"_{{{value}}}" if str(value).isdigit() else match[0]

    if re.match(r"\(?\s*\d", text):
        text = _BASE_WORDS.sub(written, _BASE.sub(written, text))
        text = _BASED_BRACKETS.sub(r"\1", text)
    return text


RULES: Final[tuple[Callable[[str], str], ...]] = (
    _unicode, _unwrap, _groups, _spaces, _sizes, _brackets, _fonts, _unwrap, _degrees, _fractions, _roots,
    _infinity, _rows, _bases,
)  # fmt: skip


@lru_cache(maxsize=4096)
def tidy(text: str) -> str:
    """The same answer in one notation. Never raises; linear in the text's length for texts of 2,000 characters."""
    for rule in RULES:
        text = rule(text)
    return text.strip()


_ARTICLE: Final = re.compile(r"\A(?:an?|the)\s+(?=[a-z]{3}[a-z ]*\.?\Z)")
_NOT_BETWEEN_DIGITS: Final = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_TEXT: Final = re.compile(r"\\text\{([^{}]*)\}")


def words(text: str) -> str:
    """A tidied answer as bare words: case, dollars, fonts, a full stop, an article before words, brackets around one
    letter and blanks (but those between digits) do not matter."""
    text = _ARTICLE.sub("", _TEXT.sub(r"\1", text).strip().lower())
    text = _NOT_BETWEEN_DIGITS.sub("", text.replace("$", "")).rstrip(".")
    return re.sub(r"\A\(([a-z])\)\Z", r"\1", text)
