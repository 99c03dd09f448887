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

_FORBIDDEN_CALLS = _names("exec eval __import__ compile open")
_FORBIDDEN_METHODS = _names("system popen create_subprocess_shell create_subprocess_exec")
# Attributes that lead from any object to the interpreter's inside.
_FORBIDDEN_ATTRIBUTES = _names(
    "__subclasses__ __globals__ __builtins__ __code__ __loader__ __bases__ __mro__"
)


class PluginSecurityError(Exception):
    """A plugin file asks for what the gate refuses; it is not loaded."""


def compute_plugin_sha256(source: str) -> str:
    return hashlib.sha256(source.encode("utf-8")).hexdigest()


def ast_scan(source: str, plugin_name: str) -> bool:
    """True, or PluginSecurityError naming the plugin, the line and what is refused."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise PluginSecurityError(f"Syntax error in plugin '{plugin_name}': {error}") from error
    for node in ast.walk(tree):
        problem = _problem(node)
        if problem:
            line = getattr(node, "lineno", 0)
            raise PluginSecurityError(f"{problem} in plugin '{plugin_name}', line {line}")
    return True


def _problem(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import):
        return next((p for alias in node.names if (p := _import_problem(alias.name))), None)
    if isinstance(node, ast.ImportFrom):
        return _from_problem(node)
    if isinstance(node, ast.Call):
        return _call_problem(node.func)
    if isinstance(node, ast.Attribute) and node.attr in _FORBIDDEN_ATTRIBUTES:
        return f"Forbidden attribute '{node.attr}'"
    if isinstance(node, ast.Attribute) and node.attr.lstrip("_") in ("os", "sys"):
        return f"Forbidden access to a module through '.{node.attr}'"
    if isinstance(node, ast.Name) and node.id in ("__builtins__", "__loader__"):
        return f"Forbidden name '{node.id}'"
    if isinstance(node, ast.Name) and node.id in ("eval", "exec", "__import__"):
        return f"Forbidden call '{node.id}'"
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
    if module == "time" and "sleep" in names:
        return "Forbidden call 'time.sleep'"
    bad = [name for name in names if name in FORBIDDEN_MODULES or name == "importlib"]
    return f"Forbidden import '{bad[0]}'" if bad else None


def _call_problem(function: ast.expr) -> str | None:
    if isinstance(function, ast.Name) and function.id in _FORBIDDEN_CALLS:
        return f"Forbidden call '{function.id}'"
    if isinstance(function, ast.Attribute):
        if function.attr in _FORBIDDEN_METHODS:
            return f"Forbidden call '.{function.attr}'"
        if (
            function.attr == "sleep"
            and isinstance(function.value, ast.Name)
            and function.value.id == "time"
        ):
            return "Forbidden call 'time.sleep'"
    return None
