"""The gate in front of plugin files: what they may import and call.

A lint, not a sandbox: it catches accidents and says what a plugin asks for. Code that means harm
can pass it; what is not trusted belongs into WebAssembly.
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
    "unsafe_load_all UnsafeLoader CodeType FunctionType"
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
        self._modules: dict[str, str] = {}  # name in the source: module
        self._prose: set[int] = set()  # docstrings and other strings nobody uses
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._modules[alias.asname or alias.name.partition(".")[0]] = alias.name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self._modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                self._prose.add(id(node.value))

    def problem(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Import):
            return next((p for alias in node.names if (p := _import_problem(alias.name))), None)
        if isinstance(node, ast.ImportFrom):
            return _from_problem(node)
        if isinstance(node, ast.Call):
            return self._call_problem(node)
        if isinstance(node, ast.Attribute):
            return self._attribute_problem(node)
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
        if node.attr == "sleep" and self._module_of(node.value) == "time":
            return "Forbidden call 'time.sleep'"
        return None

    def _call_problem(self, call: ast.Call) -> str | None:
        function = call.func
        if isinstance(function, ast.Name) and function.id in _FORBIDDEN_CALLS:
            return None if function.id in self._modules else f"Forbidden call '{function.id}'"
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
