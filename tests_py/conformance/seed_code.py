"""Takes code blocks out of a guide that was saved as plain text: indentation and blank lines are
gone, and the last line of a block runs into the prose after it. Python's own grammar gives nearly
all of the
indentation back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_OPENERS = ("except", "finally", "else", "elif")
_PARTNERS = {
    "except": ("try", "except"),
    "finally": ("try", "except", "else"),
    "else": ("if", "elif", "for", "try", "except"),
    "elif": ("if", "elif"),
}


def cut(text: str, begin: str, end: str, after: str = "") -> str:
    """The text from `begin` (its first place behind `after`) up to, not including, `end`."""
    start = text.index(begin, text.index(after) if after else 0)
    return text[start : text.index(end, start + 1)]


@dataclass
class _Block:
    word: str
    level: int


@dataclass
class _Restorer:
    """Reads statement by statement; `dedents` names the few whose place the grammar leaves open."""

    dedents: dict[str, int]
    out: list[str] = field(default_factory=list)
    blocks: list[_Block] = field(default_factory=list)
    level: int = 0
    ended: bool = False  # the statement before cannot be followed by another of its block

    def add(self, statement: list[str]) -> None:
        first = statement[0]
        word = re.match(r"@|\w+", first)
        self._place(first, word.group() if word else "")
        self.out.append("    " * self.level + first)
        self.out += ["    " * (self.level + 1) + line for line in statement[1:]]
        self.ended = word is not None and word.group() in ("return", "raise")
        if statement[-1].endswith(":"):
            name = re.sub(r"^async ", "", first).split("(")[0].split()[0].rstrip(":")
            self.blocks.append(_Block(name, self.level))
            self.level += 1
            self.ended = False

    def comment(self) -> None:
        """A comment between statements stands at the level of its function."""
        if self.out and not self.out[-1].endswith(":"):
            self._to(self._body_level())

    def _place(self, first: str, word: str) -> None:
        for start, level in self.dedents.items():
            if first.startswith(start):
                self._to(level)
                return
        if word in _OPENERS:
            while self.blocks and self.blocks[-1].word not in _PARTNERS[word]:
                self._pop()
            self._pop()
        elif re.match(r"(async )?def |class |@", first):
            self._to(self._definition_level(first))
        elif self.ended and self.blocks and self.blocks[-1].word not in ("def",):
            self._pop()

    def _definition_level(self, first: str) -> int:
        if first.startswith("class"):
            return 0
        in_class = any(block.word == "class" for block in self.blocks)
        if first.startswith("@"):
            return 1 if in_class else 0
        if "(self" in first or first.rstrip().endswith("("):
            return 1 if in_class else 0
        return self._body_level() if self.blocks else 0

    def _body_level(self) -> int:
        functions = [block.level + 1 for block in self.blocks if block.word == "def"]
        return functions[0] if functions else 0

    def _to(self, level: int) -> None:
        while self.blocks and self.level > level:
            self._pop()

    def _pop(self) -> None:
        if self.blocks:
            self.level = self.blocks.pop().level


def restored(block: str, dedents: dict[str, int] | None = None, level: int = 0) -> str:
    """`block` as Python source. `level`: 1 for the methods of a class that stands elsewhere."""
    restorer = _Restorer(dedents or {})
    if level:
        restorer.blocks.append(_Block("class", 0))
        restorer.level = 1
    statement: list[str] = []
    for line in block.strip().splitlines():
        text = line.strip()
        if not statement and (not text or text.startswith("#")):
            restorer.comment()
            continue
        statement.append(text)
        if _is_whole("\n".join(statement)):
            restorer.add(statement)
            statement = []
    if statement:
        raise ValueError(f"the block ends inside a statement: {statement}")
    return "\n".join(restorer.out) + "\n"


def _is_whole(statement: str) -> bool:
    """All brackets and triple quotes are closed."""
    if statement.count('"""') % 2:
        return False
    without_text = re.sub(r'""".*?"""|"[^"\n]*"|\'[^\'\n]*\'|#.*', "", statement, flags=re.DOTALL)
    return sum(map(without_text.count, "([{")) == sum(map(without_text.count, ")]}"))
