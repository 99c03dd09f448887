"""No file, class or function of the product grows beyond what a reader can hold in mind."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from repo import ROOT, tracked

FILE_LINES = 700
CLASS_METHODS = 40
FUNCTION_LINES = 80

# What is larger: (path, name, or "" for the file) → (allowed size, reason). The size in a row may
# only shrink; a row whose subject fits the limits has to go.
LARGER: dict[tuple[str, str], tuple[int, str]] = {
    ("cpp/exchange/exchange.h", "Exchange"): (128, "to be carved into attempt, race and stages"),
    ("cpp/http/chunked_decoder.cc", "ChunkedDecoder::next"): (83, "one switch over its states"),
    ("cpp/net/socket_stream.h", "SocketStream"): (45, "18 of them are the interface ByteStream"),
    ("cpp/python/bind_native_plugins.cc", "bind_native_plugins"): (86, "one line a bound name"),
    ("cpp/session/client_session.cc", ""): (854, "framing of the reply to leave it"),
    ("cpp/session/client_session.h", "ClientSession"): (56, "framing of the reply to leave it"),
}


# --- C++, without a compiler ----------------------------------------------------------------------

# Comments and literals, whose braces and parentheses mean nothing.
_OPAQUE = re.compile(
    r"//[^\n]*|/\*.*?\*/"
    r'|R"(?P<mark>[^\s()\\]{0,16})\(.*?\)(?P=mark)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'"
    r"|^[ \t]*#(?:\\\n|[^\n])*",
    re.S | re.M,
)
_ENDS_A_SIGNATURE = re.compile(r"(?:\)|\bconst|\bnoexcept|\boverride|\bfinal|\btry|->[^()]*)\s*$")


def _blank(found: re.Match[str]) -> str:
    """As many lines, and something that stays an operand."""
    return " " + "\n" * found.group().count("\n")


def _without_templates(head: str) -> str:
    while (less := re.sub(r"<[^<>]*>", "", head)) != head:
        head = less
    return head


def _is_method(head: str) -> bool:
    head = _without_templates(re.sub(r"^\s*(?:public|private|protected)\s*:", "", head))
    if re.match(r"\s*(?:using|typedef|friend|static_assert|class|struct|enum)\b", head):
        return False
    before, parenthesis, after = head.partition("(")
    if not parenthesis or after.lstrip().startswith("*"):
        return False
    return bool(re.search(r"\boperator\W*$", before)) or (
        "=" not in before and bool(re.search(r"\w\s*$", before))
    )


def _cpp(text: str) -> Iterator[tuple[str, int, str]]:
    """("class", methods, name) and ("function", lines, name) of a source or header."""
    text = _OPAQUE.sub(_blank, text)
    # Open braces: what each encloses, its name, the line where its head began, its methods.
    scopes: list[list[object]] = []
    head, began, line = "", 1, 1
    for character in text:
        if not head.strip():
            began = line
        if character == "\n":
            line += 1
        kind = str(scopes[-1][0]) if scopes else "namespace"
        if kind in ("function", "values"):
            if character == "{":
                scopes.append(["values", "", line, 0])
            elif character == "}":
                _, name, start, _ = scopes.pop()
                if kind == "function":
                    yield "function", line - int(str(start)) + 1, str(name)
                    head = ""
            continue
        if character == "{":
            plain = _without_templates(head)
            if re.search(r"\bnamespace\b|\bextern\s*$", plain):
                scopes.append(["namespace", "", began, 0])
            elif re.search(r"\benum\b", plain):
                scopes.append(["values", "", began, 0])
            elif "(" not in plain and (
                named := re.search(r"\b(?:class|struct|union)\b(?:\s+alignas\s*)?\s*(\w*)", plain)
            ):
                scopes.append(["class", named.group(1), began, 0])
            elif "(" in plain and _ENDS_A_SIGNATURE.search(plain):
                if kind == "class" and _is_method(head):
                    scopes[-1][3] = int(str(scopes[-1][3])) + 1
                words = re.search(r"([\w:~]+|operator\W+?)\s*\(", plain)
                scopes.append(["function", words.group(1) if words else "", began, 0])
            else:  # an initializer, also one of a constructor's members
                scopes.append(["values", "", began, 0])
                head += "0"
                continue
            head = ""
        elif character == "}":
            if scopes and scopes[-1][0] == "class":
                yield "class", int(str(scopes[-1][3])), str(scopes[-1][1])
            if scopes:
                scopes.pop()
            head = ""
        elif character == ";":
            if kind == "class" and _is_method(head):
                scopes[-1][3] = int(str(scopes[-1][3])) + 1
            head = ""
        else:
            head += character


def _python(text: str) -> Iterator[tuple[str, int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            methods = [
                n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            yield "class", len(methods), node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield "function", (node.end_lineno or node.lineno) - node.lineno + 1, node.name


LIMITS = {"file": FILE_LINES, "class": CLASS_METHODS, "function": FUNCTION_LINES}


def too_large(path: Path, text: str) -> Iterator[tuple[str, int, str]]:
    """What of a file is beyond a limit: its name ("" for the file itself), its size, its kind."""
    sizes = [("file", text.count("\n"), "")]
    sizes += _python(text) if path.suffix == ".py" else _cpp(text)
    for kind, size, name in sizes:
        if size > LIMITS[kind]:
            yield name, size, kind


PRODUCT = tracked("cpp/*.h", "cpp/*.cc", "python/*.py")


@pytest.mark.parametrize("path", PRODUCT, ids=[str(p.relative_to(ROOT)) for p in PRODUCT])
def test_nothing_is_too_large(path: Path) -> None:
    where = str(path.relative_to(ROOT))
    for name, size, kind in too_large(path, path.read_text()):
        allowed, _ = LARGER.get((where, name), (LIMITS[kind], ""))
        assert size <= allowed, f"{kind} {name or where} has {size}, {allowed} are allowed"


def test_every_exception_is_still_needed() -> None:
    for (where, name), (_, reason) in LARGER.items():
        path = ROOT / where
        assert reason
        assert name in {found for found, _, _ in too_large(path, path.read_text())}, (where, name)


# --- the measure itself ---------------------------------------------------------------------------

LONG_CPP = """
namespace a {
struct Small { int x = f(1); void (*pointer)(int); std::function<void(int)> call; };
class Large : public Small {
 public:
  Large() : x_{1}, y_(2) {}
  %s
  bool operator()(int) const;
 private:
  std::array<int, 3> x_{1, 2, 3};
};
std::string Large::text(int brace) const {
  const char open = '{';
  const auto raw = R"x({{{)x";  // {
  %s
}
}  // namespace a
"""


def test_a_planted_giant_is_found() -> None:
    methods = "\n  ".join(f"virtual int m{i}(Span<int> s = {{}}) = 0;" for i in range(39))
    text = LONG_CPP % (methods, "\n  ".join("if (open) { use(); }" for _ in range(78)))
    assert list(too_large(Path("x.cc"), text)) == [
        ("Large", 41, "class"),
        ("Large::text", 82, "function"),
    ]
    small = LONG_CPP % (methods.split("\n", 1)[1], "\n".join("use();" for _ in range(76)))
    assert list(too_large(Path("x.cc"), small)) == []
    assert list(too_large(Path("x.h"), "\n" * 701)) == [("", 701, "file")]
    python = "class A:\n" + "".join(f"  def m{i}(self): ...\n" for i in range(41))
    python += "async def f():\n" + "  pass\n" * 80
    assert sorted(too_large(Path("x.py"), python)) == [("A", 41, "class"), ("f", 81, "function")]
