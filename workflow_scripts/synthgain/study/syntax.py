"""What of a module's source text counts in the code digest: its syntax tree, read as a program and not as prose.

Left out are comments, positions, docstrings and bare strings, and the text that only people read: descriptions of
config keys, and strings inside the arguments of `raise` and of logging and progress calls. Expressions in them stay,
since an exception may carry data. Import statements are gathered apart, sorted, so that neither their order nor a
project module's path counts.
The dump is our own, so that it does not depend on the Python version.
"""

import ast
import hashlib
import re
from collections.abc import Sequence
from typing import TypedDict

PACKAGE = "synthgain"
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
LOGGERS = {"logger", "logging"}
TEXT_METHODS = {"join", "format"}  # of a string constant: what goes in is text, what comes out too
VALIDATORS = {"model_validator", "field_validator"}
_MODULE_NAME = re.compile(rf"{PACKAGE}(\.[A-Za-z_]\w*)+")


class Facts(TypedDict):
    """What the digest needs to know of one file.

    tree: SHA-256 of the dump; links: (name in this module, name in the other or "", dotted name) of imports from the
    package; named: dotted names of the package that are text in the code, in order; packages: others that it imports;
    data: patterns of its data files; declares: "options", "registry" or "" for what it holds declarations of alone.
    """

    tree: str
    links: list[list[str]]
    named: list[str]
    packages: list[str]
    data: list[str]
    declares: str


def facts_of(source: bytes) -> Facts:
    """Return the facts of a module's source text."""
    tree = ast.parse(source)
    dump = _Dump()
    dump.node(tree)
    text = "".join([*dump.text, *sorted(dump.imports)])
    return {
        "tree": hashlib.sha256(text.encode()).hexdigest(),
        "links": sorted(dump.links),
        "named": dump.named,
        "packages": sorted(dump.packages),
        "data": _data_files(tree),
        "declares": _declares(tree),
    }


class _Dump:
    """Canonical text of a syntax tree (node types and fields, without empty ones), and what it imports."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.imports: set[str] = set()
        self.links: list[list[str]] = []
        self.named: list[str] = []
        self.packages: set[str] = set()

    def node(self, node: object) -> None:
        """Append the text of a node, a list of them, or a plain value."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_NAME.fullmatch(node.value):
            self.named.append(node.value)
            self.text.append("Module")
        elif isinstance(node, ast.Raise):
            self._raise(node)
        elif isinstance(node, ast.Call) and _is_told(node.func):
            self._call(node, keywords_are_text=True)
        elif isinstance(node, ast.Call) and _last_name(node.func) == "Field":  # a config key: its description is prose
            told = [keyword for keyword in node.keywords if keyword.arg != "description"]
            self.text.append("Field(")
            self.node([*node.args, *told])
        elif isinstance(node, ast.AST):
            self.text.append(type(node).__name__ + "(")
            for name in node._fields:
                value = getattr(node, name, None)
                if value is None or value == [] or name == "ctx" or (name == "kind" and isinstance(node, ast.Constant)):
                    continue  # ctx follows from where the node stands
                self.text.append(name + "=")
                self.node(value)
            self.text.append(")")
        elif isinstance(node, list):
            self._list(node)
        else:
            self.text.append(repr(node))

    def _list(self, items: Sequence[object]) -> None:
        self.text.append("[")
        for item in items:
            if isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant):
                continue  # docstrings and bare strings
            if isinstance(item, ast.Import | ast.ImportFrom):
                self._import(item)
                continue
            self.node(item)
            self.text.append(",")
        self.text.append("]")

    def _raise(self, node: ast.Raise) -> None:
        """An exception, whose class is written in capitals, gets words; a function that makes one gets data."""
        self.text.append("Raise(")
        call = node.exc
        if isinstance(call, ast.Call) and _last_name(call.func)[:1].isupper():
            self._call(call, keywords_are_text=False)
        else:
            self.node(call)
        self.text.append("from ")
        self.node(node.cause)
        self.text.append(")")

    def _call(self, node: ast.Call, keywords_are_text: bool) -> None:
        self.text.append("Told(")
        self.node(node.func)
        for argument in node.args:
            self.text.append(",")
            self._words(argument)
        for keyword in node.keywords:
            self.text.append(f",{keyword.arg}=")
            (self._words if keywords_are_text else self.node)(keyword.value)
        self.text.append(")")

    def _words(self, node: ast.AST | None) -> None:
        """Append what is left of an expression that makes a message when its text is taken away."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return
        if isinstance(node, ast.JoinedStr):
            self._all_words([value for value in node.values if isinstance(value, ast.FormattedValue)])
        elif isinstance(node, ast.FormattedValue):  # how a value is written is wording too
            self._words(node.value)
            self.text.append(";")
        elif isinstance(node, ast.BinOp):
            self.text.append(type(node.op).__name__)
            self._all_words([node.left, node.right])
        elif isinstance(node, ast.IfExp):
            self.text.append("if ")
            self.node(node.test)
            self._all_words([node.body, node.orelse])
        elif isinstance(node, ast.BoolOp):
            self.text.append(type(node.op).__name__)
            self._all_words(node.values)
        elif isinstance(node, ast.List | ast.Tuple):
            self._all_words(node.elts)
        elif isinstance(node, ast.Call) and _is_text_method(node.func):
            self._all_words([*node.args, *(keyword.value for keyword in node.keywords)])
        else:
            self.node(node)

    def _all_words(self, nodes: Sequence[ast.AST]) -> None:
        self.text.append("(")
        for node in nodes:
            self._words(node)
        self.text.append(")")

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            dotted = f"{module}.{alias.name}" if module else alias.name
            if dotted.split(".")[0] == PACKAGE:
                self.links.append([alias.asname or alias.name.split(".")[0], alias.name if module else "", dotted])
            else:
                self.imports.add(f"import {dotted} as {alias.asname};")
                self.packages.add(dotted.split(".")[0])


def _last_name(node: ast.expr) -> str:
    """Return the name that is called: `c` of `a.b.c(…)`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_told(function: ast.expr) -> bool:
    """True for calls whose text goes to the log: a logger's methods, `warnings.warn`, `Progress` and its `advance`."""
    if isinstance(function, ast.Name):
        return function.id == "Progress"
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr == "advance":
        return True
    of = function.value
    if function.attr in LOG_METHODS:
        return (isinstance(of, ast.Name) and of.id in LOGGERS) or (
            isinstance(of, ast.Call) and _last_name(of.func) == "getLogger"
        )
    return function.attr == "warn" and isinstance(of, ast.Name) and of.id == "warnings"


def _is_text_method(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in TEXT_METHODS
        and isinstance(function.value, ast.Constant | ast.JoinedStr)
    )


def _data_files(tree: ast.Module) -> list[str]:
    """Return the patterns of a module-level `DATA_FILES = (…)`, relative to the module's folder."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "DATA_FILES" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return []


def _declares(tree: ast.Module) -> str:
    """Return what a module declares and nothing else: "options" (classes, types), "registry" (tables of names too), "".

    Fields of classes are in slices, names choose modules of the closure; any other number or function is code.
    """
    statements = [node for node in tree.body if not _is_bare(node)]
    if not all(isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | _ASSIGNMENTS) for node in statements):
        return ""
    if not all(_is_declared(node) for node in ast.walk(tree)):
        return ""
    values = [node.value for node in statements if isinstance(node, _ASSIGNMENTS)]
    # A name, a subscript (`Literal[…]`, `Annotated[…]`) or a union of such is a type.
    if all(isinstance(value, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp) for value in values):
        return "options"
    inner = (node for value in values if value is not None for node in ast.walk(value))
    named = all(node.value is None or isinstance(node.value, str) for node in inner if isinstance(node, ast.Constant))
    return "registry" if named else ""


_ASSIGNMENTS = ast.Assign | ast.AnnAssign


def _is_bare(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_declared(node: ast.AST) -> bool:
    """False for functions other than validators, and for what a class holds besides fields."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        marks = {_last_name(mark.func if isinstance(mark, ast.Call) else mark) for mark in node.decorator_list}
        return bool(marks & VALIDATORS) and marks <= {*VALIDATORS, "classmethod", "staticmethod"}
    if isinstance(node, ast.ClassDef):
        held = [inner for inner in node.body if not (_is_bare(inner) or isinstance(inner, ast.Pass | ast.FunctionDef))]
        return all(_is_field(inner) for inner in held)
    return not isinstance(node, ast.Lambda)


def _is_field(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)] == ["model_config"]
    return isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.dump(node.annotation)
