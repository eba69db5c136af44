"""Whether text that a library will evaluate can do nothing but reckon with sizes."""

from __future__ import annotations

import ast
import re

#: What may be called by its name: how torch writes formulas of sizes.
_FUNCTIONS = re.compile(
    r"Symbol|Integer|Rational|Float|Add|Mul|Pow|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|FloatTrueDiv|"
    r"TruncToInt|TruncToFloat|FloorToInt|CeilToInt|RoundToInt|RoundDecimal|ToFloat|Identity|Max|Min|Eq|Ne|Lt|Le|Gt|Ge|"
    r"Equality|Unequality|LessThan|GreaterThan|StrictLessThan|StrictGreaterThan|And|Or|Not|Abs|Where|Piecewise|"
    r"ExprCondPair|PowByNatural|FloatPow|LShift|RShift|ModularIndexing|floor|ceiling|sqrt|OpaqueUnaryFn_[a-z0-9]+"
)
#: What may be called of `torch`, or of an input.
_ATTRIBUTES = {"size", "stride", "storage_offset", "sym_max", "sym_min", "sym_int", "sym_float", "sym_not", "sym_sqrt"}
_NODES = (
    *(ast.Expression, ast.Call, ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.keyword, ast.Load),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
_LONGEST = 1 << 16


def harmless(text: str) -> bool:
    """Whether text is an expression of numbers, symbols, sizes of inputs, and functions of these."""
    if len(text) > _LONGEST:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(isinstance(node, _NODES) and _allowed(node) for node in nodes)


def _allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        called = node.func
        named = isinstance(called, ast.Name) and _FUNCTIONS.fullmatch(called.id) is not None
        return named or isinstance(called, ast.Attribute)
    if isinstance(node, ast.Attribute):
        return node.attr in _ATTRIBUTES
    if isinstance(node, ast.Name):
        return "__" not in node.id
    return True
