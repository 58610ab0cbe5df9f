"""Other ways to write an answer, for measuring the answer check.

The rules know notation and no particular answer; one that does not apply to an answer gives nothing. They are not the
rules of distillstages.common.notation, and share no code with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

Form = tuple[str, str]
"""(name of the rule, text)."""

_FRACTION = re.compile(r"\\d?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
INTEGER = re.compile(r"-?\d+")
_GROUPED = re.compile(r"\d{1,3}(?:,(?:\\!)?\s*\d{3})+")
_NOT_A_VALUE = re.compile(r"(?<![\\a-z])[a-z](?![a-z])|[=,_(\[$]|\\\{|text|mbox|matrix|circ|\\(?:in|pm)(?![a-z])")
_DECIMAL = re.compile(r"-?\d*\.\d+")


def _frac(answer: str) -> Iterator[str]:
    for old, new in ((r"\frac", r"\dfrac"), (r"\frac", r"\tfrac"), (r"\dfrac", r"\frac")):
        if old in answer:
            yield answer.replace(old, new)
    if _FRACTION.search(answer):
        yield _FRACTION.sub(lambda m: f"\\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", answer)
        yield _FRACTION.sub(lambda m: f"\\frac {{{m[1] or m[2]}}} {{{m[3] or m[4]}}}", answer)


def _short_frac(answer: str) -> Iterator[str]:
    short = re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", answer)
    if short != answer:
        yield short


def whole_fraction(answer: str) -> tuple[str, int, int] | None:
    sign, rest = ("-", answer[1:]) if answer.startswith("-") else ("", answer)
    match = _FRACTION.fullmatch(rest.strip())
    return (sign, int(match[1] or match[2]), int(match[3] or match[4])) if match else None


def _slash(answer: str) -> Iterator[str]:
    if found := whole_fraction(answer):
        sign, above, below = found
        yield f"{sign}{above}/{below}"
        yield f"{sign}{above} / {below}"
        yield f"{sign}\\frac{{{2 * above}}}{{{2 * below}}}"


def _sign_of_fraction(answer: str) -> Iterator[str]:
    found = whole_fraction(answer)
    if found and found[0]:
        yield f"\\frac{{-{found[1]}}}{{{found[2]}}}"
        yield f"\\frac{{{found[1]}}}{{-{found[2]}}}"


def _decimal_of_fraction(answer: str) -> Iterator[str]:
    if found := whole_fraction(answer):
        sign, above, below = found
        rest = below
        for prime in (2, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            places = max(1, below.bit_length())
            scaled = str(Fraction(above, below) * 10**places).rjust(places + 1, "0")
            yield f"{sign}{scaled[:-places]}.{scaled[-places:].rstrip('0') or '0'}"


def _decimals(answer: str) -> Iterator[str]:
    if INTEGER.fullmatch(answer):
        yield f"{answer}.0"
        yield f"{answer}.00"
    if _DECIMAL.fullmatch(answer):
        value = Fraction(answer)
        yield answer + "0"
        yield f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
        yield f"{value.numerator}/{value.denominator}"
        yield answer.removeprefix("0") if answer.startswith("0.") else re.sub(r"\A(-?)\.", r"\g<1>0.", answer)


def _brackets(answer: str) -> Iterator[str]:
    if r"\left" in answer:
        yield re.sub(r"\\(?:left|right)\s*", "", answer)
        yield re.sub(r"\\(left|right)\s*", lambda m: r"\bigl" if m[1] == "left" else r"\bigr", answer)
    elif answer[0] in "([" and answer[-1] in ")]" and "cup" not in answer:
        yield f"\\left{answer[:-1]}\\right{answer[-1]}"
        yield f"\\left{answer[0]} {answer[1:-1]} \\right{answer[-1]}"


def _spaces(answer: str) -> Iterator[str]:
    if "text" not in answer and "mbox" not in answer:
        yield re.sub(r"(?<!\\)\s+(?![A-Za-z])|(?<![A-Za-z\\])\s+(?!\d)|(?<=[-+=,])\s+", "", answer)
        for space in (" ", r"\,", r"\ ", r"\;", "~"):
            # Around operators and after commas, not after an opening bracket, where the sign belongs to the number.
            yield re.sub(r"(?<=[\w)}])\s*([-+=])\s*(?![{}])", lambda m, s=space: f"{s}{m[1]}{s}", answer)
            if not _GROUPED.search(answer.replace(" ", "")):
                yield re.sub(r",\s*", lambda _, s=space: f",{s}", answer)
    yield f" {answer} "


def _thousands(answer: str) -> Iterator[str]:
    plain = re.sub(r"(?<=\d),(?:\\!)?\s*(?=\d{3})", "", answer)
    if re.fullmatch(r"(?:\\\$)?-?\d{4,}", plain):
        digits = re.sub(r"\D", "", plain)
        before = plain[: -len(digits)]
        yield before + digits
        grouped = f"{int(digits):,}"
        for comma in (",", "{,}", r",\!", r"{,}\!", ", \\!", r"\,", "\\ "):
            yield before + grouped.replace(",", comma)


def _degrees(answer: str) -> Iterator[str]:
    if answer.endswith(r"^\circ"):
        number = answer.removesuffix(r"^\circ")
        for unit in (r"^{\circ}", "°", r"\text{ degrees}", " degrees", r"\degree", r"^\circ.", r"\,^{\circ}", ""):
            yield number + unit


def _units(answer: str) -> Iterator[str]:
    match = re.fullmatch(r"(.*?\S)\s*\\(?:text|mbox)\s*\{\s*([a-z]+)\s*\}(\^2)?", answer)
    if match:
        number, unit, square = match.groups()
        yield number
        yield f"{number}\\ \\mathrm{{{unit}}}{square or ''}"
        yield f"{number} \\text{{ {unit}}}{'^{2}' if square else ''}"
        yield f"{number} {'square ' if square else ''}{unit}"
        yield f"{number}\\text{{ {'square ' if square else ''}{unit}}}"


def _money(answer: str) -> Iterator[str]:
    if answer.startswith(r"\$"):
        number = answer.removeprefix(r"\$")
        yield number
        yield f"${number}"
        yield f"{number} dollars"
        yield f"{number} \\text{{ dollars}}"
        yield f"\\text{{\\${number}}}"


def _words(answer: str) -> Iterator[str]:
    match = re.fullmatch(r"\\text\{(\(?)(\w+)\)?\}", answer)
    if match:
        bracket, word = match.groups()
        yield word
        for command in ("textbf", "mathrm", "mbox", "textit", "mathbf", "textrm"):
            yield f"\\{command}{{{word}}}"
        yield f"\\text{{ {word} }}"
        yield f"\\textbf{{\\text{{{word}}}}}"
        if bracket:
            yield f"({word})"
            yield f"\\textbf{{({word})}}"
            yield f"\\text{{{word}.}}"
        else:
            yield word.upper()
            yield f"\\text{{{word.capitalize()}}}"


def _list(answer: str) -> Iterator[str]:
    items = re.split(r",\s*", answer.removeprefix(r"\{").removesuffix(r"\}"))
    if len(items) > 1 and not re.search(r"[()\[\]$!]", answer) and not _GROUPED.fullmatch(answer):
        back = list(reversed(items))
        yield ", ".join(back)
        yield r"\{" + ", ".join(items) + r"\}"
        yield r"\left\{ " + ",\\ ".join(back) + r" \right\}"
        yield ", ".join(items[:-1]) + r" \text{ and } " + items[-1]
        yield ", ".join(items[:-1]) + " and " + items[-1]
        yield ", ".join(back[:-1]) + r", \text{or } " + back[-1]


def _interval(answer: str) -> Iterator[str]:
    body = answer.removeprefix(r"x \in ")
    if r"\infty" in body:
        yield re.sub(r"(?<!-)\\infty", lambda _: r"+\infty", answer)
        yield answer.replace(r"\infty", "∞")
    if r"\cup" in body:
        one, two = body.split(r" \cup ")
        yield f"{two} \\cup {one}"
        yield f"{one}\\cup{two}"
        yield f"{one} ∪ {two}"
    if body != answer or r"\cup" in body or (body[0] in "([" and (body[0], body[-1]) != ("(", ")")):
        yield body
        yield f"x \\in {body}"
        yield f"x\\in{body}"


def _named(answer: str) -> Iterator[str]:
    """A value with the name of what it is the value of."""
    if re.fullmatch(r"[a-z]\s*=\s*-?\d+", answer):
        yield answer.partition("=")[2].strip()
    elif not _NOT_A_VALUE.search(answer):
        yield f"n = {answer}"
        yield f"x={answer}"


def _roots(answer: str) -> Iterator[str]:
    if r"\sqrt" in answer:
        bare = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", answer)
        yield bare
        yield re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", bare)
        yield re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt \1", bare)
        yield re.sub(r"\\sqrt\{(\d+)\}", r"\\sqrt[2]{\1}", bare)
        yield re.sub(r"\\sqrt\{(\d+)\}", r"√{\1}", bare)
        yield re.sub(r"\\sqrt\{(\d+)\}", r"√\1", bare)
        yield re.sub(r"\\sqrt\{(\d+)\}", r"{\1}^{1/2}", bare)
        yield re.sub(r"(\d)\s*\\sqrt", r"\1 \\cdot \\sqrt", bare)
        yield re.sub(r"(\d)\s*\\sqrt", r"\1\\times\\sqrt", bare)
        whole = re.fullmatch(r"(\d+)\s*\\sqrt\{(\d+)\}", bare)
        if whole:
            yield f"\\sqrt{{{int(whole[1]) ** 2 * int(whole[2])}}}"
            yield f"{whole[1]}*sqrt({whole[2]})"


def _pi(answer: str) -> Iterator[str]:
    if r"\pi" in answer:
        yield answer.replace(r"\pi", "π")
        yield re.sub(r"(\d)\s*\\pi", r"\1 \\cdot \\pi", answer)


def _minus(answer: str) -> Iterator[str]:
    if "-" in answer:
        yield answer.replace("-", "−")


def _around(answer: str) -> Iterator[str]:
    yield answer + "."
    yield f"\\displaystyle {answer}"
    if "$" not in answer:
        yield f"${answer}$"
        yield f"${answer}$."
        yield f"\\( {answer} \\)"
        yield f"\\[{answer}\\]"
    if re.fullmatch(r"-?[\d.]+", answer):
        yield f"\\mathbf{{{answer}}}"
        yield f"{{{answer}}}"
        yield f"**{answer}**"
        yield f"\\text{{{answer}}}"


def _sum(answer: str) -> Iterator[str]:
    """Terms the other way round."""
    if re.fullmatch(r"[\w^\s+*-]+", answer) and re.search(r"\w\s*[-+]", answer):
        terms = re.findall(r"[-+]?\s*[^-+\s]+", answer if answer[0] == "-" else f"+{answer}")
        terms = [re.sub(r"\s", "", t) for t in terms]
        yield "".join(reversed(terms)).removeprefix("+")
        yield " ".join(f"{t[0]} {t[1:]}" for t in reversed(terms)).removeprefix("+ ")
        yield re.sub(r"\^(\d)", r"^{\1}", answer)


def _mixed(answer: str) -> Iterator[str]:
    match = re.fullmatch(r"(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}", answer)
    if match:
        whole, above, below = map(int, match.groups())
        yield f"\\frac{{{whole * below + above}}}{{{below}}}"
        yield f"{whole} {above}/{below}"
        yield f"{whole}\\ \\frac{{{above}}}{{{below}}}"
        yield f"{whole}\\tfrac{{{above}}}{{{below}}}"
        yield f"{whole} + \\frac{{{above}}}{{{below}}}"


def _base(answer: str) -> Iterator[str]:
    match = re.fullmatch(r"(\d+)_\{?(\d)\}?", answer)
    if match:
        number, base = match.groups()
        yield f"{number}_{{{base}}}"
        yield f"{number}_{base}"
        yield f"({number})_{{{base}}}"
        yield f"{number}_{{({base})}}"
        yield f"{number}_{{\\text{{{base}}}}}"


def _both_signs(answer: str) -> Iterator[str]:
    match = re.fullmatch(r"(\d+) \\pm (.*)", answer)
    if match:
        yield f"{match[1]} + {match[2]}, {match[1]} - {match[2]}"
        yield f"\\{{{match[1]} - {match[2]}, {match[1]} + {match[2]}\\}}"
        yield f"{match[1]}\\pm{match[2]}"
        yield f"{match[1]} ± {match[2]}"


def _matrix(answer: str) -> Iterator[str]:
    if "pmatrix" in answer:
        yield answer.replace("pmatrix", "bmatrix")
        yield answer.replace(r"\begin{pmatrix}", r"\left(\begin{matrix}").replace(
            r"\end{pmatrix}", r"\end{matrix}\right)"
        )
        yield re.sub(r"(\d+)/(\d+)", r"\\frac{\1}{\2}", answer)
        yield re.sub(r"(\d+)/(\d+)", r"\\dfrac{\1}{\2}", answer)
        yield re.sub(r"\s*(\\\\|&)\s*", r"\1", answer)
        yield re.sub(r"\\\\", r"\\\\[1ex]", answer)


RULES: dict[str, Callable[[str], Iterator[str]]] = {
    "frac and dfrac": _frac,
    "frac without braces": _short_frac,
    "slash, unreduced": _slash,
    "sign of a fraction": _sign_of_fraction,
    "decimal of a fraction": _decimal_of_fraction,
    "decimals": _decimals,
    "size of brackets": _brackets,
    "spaces": _spaces,
    "thousands": _thousands,
    "degrees": _degrees,
    "units": _units,
    "money": _money,
    "words": _words,
    "lists and sets": _list,
    "intervals": _interval,
    "name of the unknown": _named,
    "roots": _roots,
    "pi": _pi,
    "minus": _minus,
    "delimiters, full stop": _around,
    "order of a sum": _sum,
    "mixed numbers": _mixed,
    "bases": _base,
    "plus or minus": _both_signs,
    "matrices": _matrix,
}


def rewritings(answer: str) -> list[Form]:
    """Texts other than the answer that mean the same, each once."""
    found: dict[str, str] = {}
    for name, rule in RULES.items():
        for text in rule(answer):
            if text != answer:
                found.setdefault(text, name)
    return [(name, text) for text, name in found.items()]
