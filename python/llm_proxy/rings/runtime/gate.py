"""The gate in front of plugin files: what they may import and call.

A lint, not a sandbox: it catches accidents and says what a plugin asks for. Code that means harm
can pass it; what is not trusted belongs into WebAssembly.

A module may be used through its attributes only: as a value it could go under another name, which
no list of names would find again.
"""

from __future__ import annotations

import ast
import hashlib


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FORBIDDEN_MODULES = _names(
    "os subprocess shutil socket ctypes multiprocessing signal sys builtins __builtins__ requests "
    "urllib sqlite3"
)
ALLOWED_MODULES = _names(
    # what plugins of this kind have always been allowed
    "json re math datetime hashlib base64 typing dataclasses enum logging asyncio aiohttp yaml "
    "collections time core fastapi onnxruntime numpy transformers huggingface_hub "
    # and the rest of the library that can neither reach the system nor run text as code
    "__future__ abc bisect cmath contextlib contextvars copy decimal difflib fractions functools "
    "heapq hmac html itertools numbers operator random secrets statistics string struct textwrap "
    "types unicodedata uuid warnings weakref zlib zoneinfo pydantic starlette httpx "
    "typing_extensions"
)
# Submodules of `core` a plugin has business with.
CORE_MODULES = _names("plugin_sdk plugin_engine tokenizer pricing wasm_runner cache stream_faker")
FORBIDDEN_AST_NODES: tuple[type[ast.AST], ...] = (ast.Import, ast.ImportFrom, ast.Call)

# Names of the language itself: called, or only mentioned, for then they could be called elsewhere.
_FORBIDDEN_NAMES = _names("exec eval __import__ compile open breakpoint __builtins__ __loader__")
_FORBIDDEN_CALLS = _FORBIDDEN_NAMES | _names("globals input")
_FORBIDDEN_METHODS = _names("system popen")
# Attributes that lead from any object to the interpreter's inside.
_INSIDE = _names(
    "__subclasses__ __globals__ __builtins__ __code__ __loader__ __bases__ __base__ __mro__ "
    "__self__ __closure__ __getattribute__ __import__ __spec__ "
    "f_globals f_builtins f_locals f_back gi_frame cr_frame ag_frame tb_frame"
)
_FORBIDDEN_ATTRIBUTES = _INSIDE | _names(
    "create_subprocess_shell create_subprocess_exec subprocess_exec subprocess_shell unsafe_load "
    "unsafe_load_all UnsafeLoader CodeType FunctionType "
    # what makes an object of the name in a text
    "ImportString PyObject import_string import_module resolve_name ForwardRef get_type_hints "
    "dictConfig fileConfig"
)
# Modules that allowed modules have imported themselves.
_MODULES = FORBIDDEN_MODULES | _names(
    "importlib inspect io pathlib tempfile pickle codecs linecache runpy bltns threading"
)
_SAFE_LOADERS = _names("SafeLoader CSafeLoader BaseLoader CBaseLoader")


class PluginSecurityError(Exception):
    """A plugin file asks for what the gate refuses; it is not loaded."""


def compute_plugin_sha256(source: str) -> str:
    return hashlib.sha256(source.encode("utf-8")).hexdigest()


def ast_scan(source: str, plugin_name: str) -> bool:
    """True, or PluginSecurityError naming the plugin, the line and what is refused."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PluginSecurityError(f"Syntax error in plugin '{plugin_name}': {error}") from error
    scan = _Scan(tree)
    for node in ast.walk(tree):
        problem = scan.problem(node)
        if problem:
            line = getattr(node, "lineno", 0)
            raise PluginSecurityError(f"{problem} in plugin '{plugin_name}', line {line}")
    return True


class _Scan:
    """What one source calls its modules, and what is wrong with a node of it."""

    def __init__(self, tree: ast.AST) -> None:
        self._modules: dict[str, str] = {}  # name in the source: module, or what is of one
        self._imported: set[str] = set()  # names that are surely modules
        self._prose: set[int] = set()  # docstrings and other strings nobody uses
        self._through: set[int] = (
            set()
        )  # modules of whom an attribute is asked, or whether they are
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self._modules[name] = alias.name
                    self._imported.add(name)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self._modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                self._prose.add(id(node.value))
            self._through.update(map(id, _asked(node)))
        while self._follow_aliases(tree):
            pass

    def _follow_aliases(self, tree: ast.AST) -> bool:
        """Notes what assignments name after a module or a part of one. True: there was news."""
        news = False
        for node in ast.walk(tree):
            for target, value in _assigned(node):
                module = next(filter(None, map(self._module_of, _parts(value))), None)
                for part in _parts(target):
                    if module and isinstance(part, ast.Name) and part.id not in self._modules:
                        self._modules[part.id] = module
                        news = True
        return news

    def problem(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Import):
            return next((p for alias in node.names if (p := _import_problem(alias.name))), None)
        if isinstance(node, ast.ImportFrom):
            return _from_problem(node)
        if isinstance(node, ast.Call):
            return self._call_problem(node)
        if isinstance(node, ast.Attribute):
            return self._attribute_problem(node)
        if isinstance(node, ast.Name) and node.id in self._imported:
            kept = isinstance(node.ctx, ast.Load) and id(node) not in self._through
            return f"Forbidden use of the module '{node.id}' as a value" if kept else None
        if isinstance(node, ast.Name) and node.id in _FORBIDDEN_NAMES:
            own = node.id in self._modules  # `from re import compile`
            read = isinstance(node.ctx, ast.Load)
            return f"Forbidden name '{node.id}'" if read and not own else None
        if isinstance(node, ast.MatchClass):
            hidden = next((name for name in node.kwd_attrs if name in _FORBIDDEN_ATTRIBUTES), None)
            return f"Forbidden attribute '{hidden}'" if hidden else None
        text = _text(node)
        if text and "__" in text and id(node) not in self._prose:
            found = next((name for name in _INSIDE if name in text), None)
            return f"Forbidden attribute '{found}' in a text" if found else None
        return None

    def _module_of(self, node: ast.expr) -> str | None:
        """The module a name or a chain of attributes begins at, if it is one."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return self._modules.get(node.id) if isinstance(node, ast.Name) else None

    def _attribute_problem(self, node: ast.Attribute) -> str | None:
        if node.attr in _FORBIDDEN_ATTRIBUTES:
            return f"Forbidden attribute '{node.attr}'"
        bare = node.attr.lstrip("_")
        if bare in ("os", "sys") or (bare in _MODULES and self._module_of(node.value)):
            return f"Forbidden access to a module through '.{node.attr}'"
        if node.attr == "__dict__" and self._module_of(node.value):
            return "Forbidden access to a module through '.__dict__'"
        if node.attr == "sleep" and self._module_of(node.value) == "time":
            return "Forbidden call 'time.sleep'"
        return None

    def _call_problem(self, call: ast.Call) -> str | None:
        function = call.func
        if isinstance(function, ast.Name) and function.id in _FORBIDDEN_CALLS:
            return None if function.id in self._modules else f"Forbidden call '{function.id}'"
        named = getattr(function, "attr", getattr(function, "id", ""))
        if named in _BY_NAME and (problem := self._by_name_problem(named, call)):
            return problem
        if not isinstance(function, ast.Attribute):
            return None
        if function.attr in _FORBIDDEN_METHODS:
            return f"Forbidden call '.{function.attr}'"
        if function.attr in ("load", "load_all") and self._module_of(function) == "yaml":
            given = [*call.args[1:], *(k.value for k in call.keywords if k.arg == "Loader")]
            names = {getattr(loader, "attr", getattr(loader, "id", "")) for loader in given}
            if not names & _SAFE_LOADERS:
                return f"Forbidden call 'yaml.{function.attr}' without a safe loader"
        return None

    def _by_name_problem(self, named: str, call: ast.Call) -> str | None:
        """Attributes that are asked for by a text: as if they stood in the source."""
        of_module = bool(call.args) and self._module_of(call.args[0]) is not None
        if named == "vars":
            return "Forbidden access to a module through 'vars'" if of_module else None
        texts = call.args if named in _GETTERS else call.args[1:2]
        for node in texts:
            text = _text(node)
            if text is None and of_module:
                return f"Forbidden access to a module through '{named}'"
            for part in (text or "").split("."):
                bare = part.lstrip("_")
                hidden = bare in ("os", "sys") or (of_module and bare in _MODULES)
                if hidden or part in _FORBIDDEN_ATTRIBUTES or (of_module and part == "__dict__"):
                    return f"Forbidden access to '{part}' through '{named}'"
        return None


# Functions that take the name of an attribute; the second kind give a function that does.
_GETTERS = _names("attrgetter methodcaller")
_BY_NAME = _names("getattr setattr delattr vars") | _GETTERS


def _asked(node: ast.AST) -> list[ast.expr]:
    """What a node does not keep as a value: an attribute of it is asked for, or whether it is."""
    if isinstance(node, ast.Attribute):
        return [node.value]
    if isinstance(node, ast.Compare) and all(
        isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops
    ):
        return [node.left, *node.comparators]
    if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
        return [node.test]
    return [node.operand] if isinstance(node, ast.UnaryOp) else []


def _assigned(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Assign):
        return [(target, node.value) for target in node.targets]
    if isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        return [(node.target, node.value)]
    if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        return [(node.target, node.iter)]
    return []


def _parts(node: ast.expr) -> list[ast.expr]:
    """What a value may be, or be made of, as far as names go."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return [part for item in node.elts for part in _parts(item)]
    if isinstance(node, ast.BoolOp):
        return [part for value in node.values for part in _parts(value)]
    if isinstance(node, ast.IfExp):
        return _parts(node.body) + _parts(node.orelse)
    if isinstance(node, ast.Starred):
        return _parts(node.value)
    if isinstance(node, ast.NamedExpr):
        return _parts(node.value)
    return _parts(node.value) if isinstance(node, ast.Subscript) else [node]


def _text(node: ast.AST) -> str | None:
    """A text as the source spells it, or puts it together from such texts."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None or right is None else left + right
    if isinstance(node, ast.JoinedStr):
        parts = [_text(v.value if isinstance(v, ast.FormattedValue) else v) for v in node.values]
        return "".join(part or "" for part in parts)
    return None


def _import_problem(module: str) -> str | None:
    root, _, rest = module.partition(".")
    if root in FORBIDDEN_MODULES:
        return f"Forbidden import '{module}'"
    if root not in ALLOWED_MODULES:
        return f"Import of '{module}' is not on the allow-list"
    if root == "core" and rest.partition(".")[0] not in CORE_MODULES:
        return f"Forbidden import '{module}'"
    return None


def _from_problem(node: ast.ImportFrom) -> str | None:
    if node.level:
        return "Forbidden relative import"
    module = node.module or ""
    names = [alias.name for alias in node.names]
    if module == "core":
        return next((p for name in names if (p := _import_problem(f"core.{name}"))), None)
    problem = _import_problem(module)
    if problem:
        return problem
    if module == "time" and ("sleep" in names or "*" in names):
        return "Forbidden call 'time.sleep'"
    bad = [n for n in names if n.lstrip("_") in _MODULES or n in _FORBIDDEN_ATTRIBUTES]
    return f"Forbidden import '{bad[0]}'" if bad else None
