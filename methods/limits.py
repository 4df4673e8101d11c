"""Limits between several options and the batch, checked before a method is built, even planned.

A method states them as literals, so that they can be read without importing it: `refuses` and
`warns` are pairs of a condition that is wrong and what to say then. A condition, and what stands in
braces in a message, is an expression of option names, `batch_size` (of all processes),
`local_batch` (of one) and constants. No torch here: planning a grid imports this module.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rules = tuple[tuple[str, str], ...]

OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def value(expression: str, names: Mapping[str, Any]) -> Any:
    """Return the value of an expression: names, constants, + - * //, comparisons, and, or, not.

    Raises ValueError for a name that is not there and for anything else, a call above all.
    """

    def of(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name) and node.id in names:
            return names[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](of(node.left), of(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OPERATORS:
            return OPERATORS[type(node.ops[0])](of(node.left), of(node.comparators[0]))
        if isinstance(node, ast.BoolOp):
            stop = isinstance(node.op, ast.Or)
            found: Any = None
            for part in node.values:
                found = of(part)
                if bool(found) == stop:
                    break
            return found
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not of(node.operand)
        raise ValueError(f"'{ast.unparse(node)}' in the limit '{expression}' is not understood")

    return of(ast.parse(expression, mode="eval").body)


def broken(
    rules: Iterable[tuple[str, str]], options: Mapping[str, Any], batch_size: int, ranks: int = 1
) -> list[str]:
    """Return the messages of the rules whose condition holds, one line each."""
    names = {**options, "batch_size": batch_size, "local_batch": batch_size // ranks}
    return [
        re.sub(r"{([^}]*)}", lambda found: str(value(found[1], names)), message)
        for condition, message in rules
        if value(condition, names)
    ]
