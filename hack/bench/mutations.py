"""Small changes of a Python function that a programmer could make by mistake: one comparison, operator or constant."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterator

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
}  # fmt: skip


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """The node, changed."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        changed = copy.deepcopy(node)
        changed.ops[0] = _COMPARISONS[type(node.ops[0])]()
        yield changed
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield ast.BinOp(copy.deepcopy(node.left), _OPERATORS[type(node.op)](), copy.deepcopy(node.right))
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, copy.deepcopy(node.values))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant) and not isinstance(node.value, str):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(ast.Constant(None))


class _Replace(ast.NodeTransformer):
    def __init__(self, place: int, change: ast.AST) -> None:
        self.place, self.change, self.seen = place, change, -1

    def visit(self, node: ast.AST) -> ast.AST:
        self.seen += 1
        return self.change if self.seen == self.place else self.generic_visit(node)


def mutants(code: str, count: int, seed: str) -> list[str]:
    """At most `count` different mutants of a module, drawn by the seed."""
    tree = ast.parse(code)
    places: list[tuple[int, ast.AST]] = []

    class Number(ast.NodeVisitor):
        seen = -1

        def visit(self, node: ast.AST) -> None:
            self.seen += 1
            places.extend((self.seen, change) for change in _changes(node))
            self.generic_visit(node)

    Number().visit(tree)
    random.Random(seed).shuffle(places)
    made = []
    for place, change in places[:count]:
        mutant = _Replace(place, change).visit(copy.deepcopy(tree))
        made.append(ast.unparse(ast.fix_missing_locations(mutant)))
    return made
