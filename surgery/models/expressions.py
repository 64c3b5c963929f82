"""Expressions of sizes in archives of torch.export: which of them are plain arithmetic on numbers of moderate size.

torch evaluates them with sympy, which computes `Pow(10, Pow(10, 10))` exactly. So the size of every number is bounded
from the expression's tree before sympy sees it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

_CALLABLE = re.compile(  # of sympy, and of torch.utils._sympy.functions
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Min|Max|Abs|And|Or|Not|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality"
    r"|(Strict)?(Less|Greater)Than|floor|ceiling|FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilDiv"
    r"|LShift|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|(Ceil|Floor|Trunc|Round)ToInt|TruncToFloat"
    r"|RoundDecimal|ToFloat|Identity|IsNonOverlappingAndDenseIndicator"
)
_SYMBOL = re.compile(r"[a-z]+\d+|oo|int_oo|inf", re.ASCII)
_ARITHMETIC = (
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.keyword, ast.Load,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip
_POWERS = {"Pow", "PowByNatural", "FloatPow", "pow"}
_SHIFTS = {"LShift", "RoundDecimal"}
_PRODUCTS = {"Mul", "mul"}
_LONGEST = 4000
_BITS = 4096
"""The largest number of bits of a number in an expression. Products of all sizes of a network stay far below."""
_SIZE = 63
"""Bits of a symbol: the size of a tensor is a 64-bit number."""


def is_arithmetic(text: str) -> bool:
    """Whether `text` is an expression of numbers, symbols and the functions that shapes are computed with."""
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable():
        return False
    try:
        tree = ast.parse(text, mode="eval").body
        return all(map(_is_known, ast.walk(tree))) and _bits(tree) <= _BITS
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_known(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and bool(_CALLABLE.fullmatch(node.func.id))
    if isinstance(node, ast.Name):
        return bool(_SYMBOL.fullmatch(node.id) or _CALLABLE.fullmatch(node.id))
    if isinstance(node, ast.Constant):
        value = node.value
        return isinstance(value, (int, float)) or (isinstance(value, str) and bool(_SYMBOL.fullmatch(value)))
    return isinstance(node, _ARITHMETIC)


def _bits(node: ast.AST) -> float:
    """A bound for the bits of the value of an expression."""
    if isinstance(node, ast.Constant):
        return node.value.bit_length() if isinstance(node.value, int) else _SIZE
    if isinstance(node, ast.Name):
        return _SIZE
    if isinstance(node, ast.Call):
        # `precision=` of a Float is a number of bits itself.
        parts = [_bits(argument) for argument in node.args]
        parts += [2 ** _bits(keyword.value) for keyword in node.keywords]
        assert isinstance(node.func, ast.Name)
        name = node.func.id
    else:
        parts = [_bits(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        operator = type(node.op) if isinstance(node, ast.BinOp) else None
        name = {ast.Pow: "Pow", ast.LShift: "LShift", ast.Mult: "Mul"}.get(operator, "")
    return _limited(_combined(name, parts))


def _combined(name: str, parts: Sequence[float]) -> float:
    """A bound for the bits of the result of the operation `name` on numbers of so many bits."""
    if len(parts) == 2 and name in _POWERS:
        return parts[0] * 2 ** min(parts[1], _SIZE)
    if len(parts) == 2 and name in _SHIFTS:
        return parts[0] + 4 * 2 ** min(parts[1], _SIZE)
    # A sum of n numbers has at most n bits more than the longest; everything else makes no longer numbers than a sum.
    return sum(parts) if name in _PRODUCTS else max(parts, default=1) + len(parts)


def _limited(bits: float) -> float:
    if bits > _BITS:
        raise ValueError("a number of too many digits")
    return bits


def bits_of_node(node: Mapping[str, Any], sizes: MutableMapping[str, float]) -> bool:
    """Whether the result of a node that computes a size stays moderate; notes its bits in `sizes` under its name.

    `node` is a node of an exported graph as JSON, with `inputs` and `outputs`.
    """
    parts = [_bits_of_argument(argument["arg"], sizes) for argument in node["inputs"]]
    total = _combined(node["target"].rpartition(".")[2], parts)
    for output in node["outputs"]:
        for kind, value in output.items():
            if kind.startswith("as_sym") and isinstance(value, dict) and "as_name" in value:
                sizes[value["as_name"]] = total
    return total <= _BITS


def _bits_of_argument(argument: Mapping[str, Any], sizes: Mapping[str, float]) -> float:
    [(kind, value)] = argument.items()
    if kind.startswith("as_sym") and isinstance(value, dict):
        name = value.get("as_name")
        number = value.get("as_int")
        return sizes.get(name, _SIZE) if isinstance(name, str) else number.bit_length() if number else 1
    # Two bits for a real exponent: square roots and their inverses are the powers of networks.
    return value.bit_length() if isinstance(value, int) else 2 if isinstance(value, float) and abs(value) < 4 else _SIZE
