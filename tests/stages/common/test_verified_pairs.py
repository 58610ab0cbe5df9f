"""Pairs of answers that were written down after the rules of notation, to see what those do not know."""

from __future__ import annotations

import asyncio

import pytest

from distillstages.common.verify import Verdict, Verifier

SAME = [
    (r"\frac{1}{2}", r"\displaystyle\frac{1}{2}"),
    (r"\frac{1}{2}", r"50\%"),
    (r"-\frac{\pi}{6}", r"-\pi/6"),
    (r"\frac{3\sqrt{3}}{4}", r"\frac34\sqrt3"),
    (r"\frac{3\sqrt{3}}{4}", r"0.75\sqrt{3}"),
    (r"\frac{3\sqrt{3}}{4}", "3√3/4"),
    (r"3\sqrt{13}", r"3 \sqrt {13}"),
    ("6 - 5i", "6-5 i"),
    ("6 - 5i", r"6 - 5\mathrm{i}"),
    (r"x \in [-2,7]", r"-2 \le x \le 7"),
    (r"x \in [-2,7]", "[-2, 7]"),
    ("(3,4]", r"3 < x \le 4"),
    (r"(2,\infty)", "x > 2"),
    (r"1 \pm \sqrt{19}", r"x = 1 \pm \sqrt{19}"),
    ("1,-2", "x = 1, -2"),
    ("1,-2", r"x=1 \text{ or } x=-2"),
    ("1,-2", r"1 \text{ and } -2"),
    ("3, 5, 7", r"3,5,\text{ and }7"),
    (r"10,\!080", "10080.00"),
    (r"\$32,\!348", r"\$32,348.00"),
    ("58,500", "58{,}500"),
    ("58,500", r"58500 \text{ people}"),
    (r"864 \mbox{ inches}^2", r"864 \text{ sq in}"),
    (r"864 \mbox{ inches}^2", r"864\,\text{in}^2"),
    (r"15\mbox{ cm}^2", r"15~\mathrm{cm}^2"),
    (r"15\mbox{ cm}^2", r"15\,cm^2"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^\circ"),
    (r"\frac{270}7\text{ degrees}", r"\left(\frac{270}{7}\right)^\circ"),
    (r"5.4 \text{ cents}", "5.4¢"),
    ("p - q", "p-q"),
    ("(a+5)(b+2)", "(b+2)(a+5)"),
    ("(a+5)(b+2)", "ab+2a+5b+10"),
    ("5r^5", "5 r^{5}"),
    (r"\frac{11+9a}{20}", r"\frac{9a+11}{20}"),
    (r"\frac{11+9a}{20}", r"\frac{11}{20}+\frac{9}{20}a"),
    (r"864 \pi", "864π"),
    (r"\frac{20000}{\pi}", r"20000/\pi"),
    ("y = 2x + 3", "2x+3"),
    ("y = -2x", "y+2x=0"),
    (r"\text{ellipse}", r"\text{an ellipse}"),
    (r"\text{ellipse}", "Ellipse"),
    (r"\text{(C)}", r"\mathrm{(C)}"),
    (r"\text{(C)}", "C)"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\left(\begin{array}{c} 1/5 \\ -18/5 \end{array}\right)"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}"),
    (r"\{1\pm\sqrt{5},-2\}", r"-2, 1+\sqrt5, 1-\sqrt5"),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1-\sqrt{5}, 1+\sqrt{5}\}"),
    (r"120^\circ", "120^o"),
    (r"120^\circ", r"m\angle ABC = 120^\circ"),
    (".35625", "0.35625"),
    (".35625", r"\frac{57}{160}"),
    ("1.25", r"1\frac14"),
    ("0.15", r"\frac{3}{20}"),
    ("4210_{5}", r"4210_{\text{five}}"),
    ("4210_{5}", "4210_5."),
    (r"(0,9) \cup (9,36)", r"(9,36)\cup(0,9)"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(r,\theta) = (3, \pi/2)"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"\left\langle 3, \frac{\pi}{2} \right\rangle"),
    (r"11 \sqrt{5} + 11", r"11(\sqrt{5}+1)"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    (r"-\sqrt{3}", "-1.7320508"),
    ("2k", r"2 \cdot k"),
    ("6r^2-4r-24", "2(3r^2-2r-12)"),
    ("x^3+3x-6", "-6+3x+x^3"),
    (r"18+2\pi", r"2(\pi+9)"),
    ("16", r"16\text{ units}"),
    ("4", r"4 \text{ solutions}"),
    (r"\text{Navin}", r"\textbf{Navin}"),
    ("2", "2^1"),
    ("1440", "1{,}440"),
    ("26000", "26,000"),
    ("26000", r"2.6 \times 10^4"),
    (".0000672", r"6.72 \times 10^{-5}"),
    (r"\pi", "3.14159265"),
    (r"\cot x", r"\cot(x)"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    (r"\cot x", r"\frac{1}{\tan x}"),
    ("5x - 7y + 11z + 4 = 0", "-5x+7y-11z-4=0"),
    (r"137 \frac{1}{2}", r"137\tfrac12"),
    ("12", r"12 \text{ o'clock}"),
    ("42", r"\textbf{42}"),
    ("42", r"\underline{42}"),
    ("42", r"\mathbf{42}."),
    (r"\frac43", "4/3"),
    (r"\frac43", r"1.\overline{3}"),
    (r"\frac43", "1.3333333"),
    ("9", "3^2"),
    ("-256", "- 256"),
    ("240", r"240 \text{ ways}"),
    ("(6,31,-1)", "(6, 31, -1)."),
    ("2516_8", "2516_8"),
    (r"\{3,5\}", r"\lbrace 3,5 \rbrace"),
    ("3", "+3"),
    ("5", "5;"),
    ("5", "05"),
    ("5", r"5\;\text{m}"),
]
OTHER = [
    ("(3,4]", "[3,4)"),
    ("(3,4]", "(3,4)"),
    (r"x \in [-2,7]", "(-2,7)"),
    (r"\frac{3\sqrt{3}}{4}", r"\frac{3\sqrt{3}}{2}"),
    ("p - q", "q - p"),
    ("(a+5)(b+2)", "(a+2)(b+5)"),
    ("1,-2", "1"),
    ("1,-2", "1, 2"),
    ("3, 5, 7", "3, 5"),
    ("3, 5, 7", "3, 5, 7, 9"),
    ("y = 2x + 3", "y = 3x + 2"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} -18/5 \\ 1/5 \end{pmatrix}"),
    ("5", "5.5"),
    (r"\text{even}", r"\text{odd}"),
    (r"11 \sqrt{5} + 11", r"11\sqrt{5}"),
    (r"\cot x", r"\tan x"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}"),
    (r"\frac{1}{2}", "1, 2"),
    ("6 - 5i", "6+5i"),
    ("0", r"\emptyset"),
    (r"(0,9) \cup (9,36)", "(0,36)"),
    ("2k", "k^2"),
    (r"120^\circ", r"60^\circ"),
    ("5", "-5"),
    (r"\pi", "3.14"),
    (r"\pi", r"\frac{22}{7}"),
    ("100", "1,00"),
    ("3.21", "3,21"),
    ("0.15", "15"),
    ("4", r"\text{four or five}"),
    ("12", "1 2"),
    ("23", "2 3"),
    ("23", "2,3"),
    ("6", r"2 \cdot 4"),
    ("5x - 7y + 11z + 4 = 0", "5x - 7y + 11z - 4 = 0"),
    ("3.21", "3.2"),
    ("326.5", "326"),
    ("2", "x=3"),
    ("10", "1.0"),
    ("2^{10}", "2^{11}"),
    (r"\sqrt{5}", "5"),
    (r"\text{ellipse}", r"\text{circle}"),
]
NOT_UNDERSTOOD = [
    (r"(-\infty, 2) \cup (3, \infty)", r"x < 2 \text{ or } x > 3"),
    (r"\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix}", "(-2,-14,-7)"),
    (r"\text{even}", r"\text{Even function}"),
]
"""The same to a reader, and rejected: better than the other error."""


@pytest.fixture(scope="module")
def judged() -> dict[tuple[str, str], Verdict]:
    async def judge() -> dict[tuple[str, str], Verdict]:
        async with Verifier(workers=1) as verifier:
            return {(a, b): await verifier.verdict(a, f"\\boxed{{{b}}}") for a, b in SAME + OTHER + NOT_UNDERSTOOD}

    return asyncio.run(judge())


def test_the_same_in_other_notation_is_accepted(judged: dict[tuple[str, str], Verdict]) -> None:
    assert [pair for pair in SAME if not judged[pair].accepted] == []


def test_something_else_is_rejected(judged: dict[tuple[str, str], Verdict]) -> None:
    assert [pair for pair in OTHER if judged[pair].accepted] == []


def test_what_is_not_understood_is_rejected_as_wrong(judged: dict[tuple[str, str], Verdict]) -> None:
    assert {judged[pair].reason for pair in NOT_UNDERSTOOD} == {"WrongAnswer"}
