"""One setting: where it stands in YAML, its flags and variables, and how its value is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llm_proxy.config.errors import close_to

Kind = Literal[
    "text", "whole", "number", "seconds", "switch", "texts", "names", "aliases", "routes", "mapping"
]
Value = str | int | float | bool | tuple[str, ...] | Mapping[str, object]

TRUE_WORDS = ("1", "true", "yes", "on")
FALSE_WORDS = ("0", "false", "no", "off")


class WrittenInt(int):
    """An integer of a YAML file that remembers how it was written: `0123`, `1_000`."""

    written: str


class WrittenFloat(float):
    """A number of a YAML file that remembers how it was written: `1.10`, `1e3`."""

    written: str


def plainly(value: object) -> object:
    """`value` without the memory of how its numbers were written."""
    if isinstance(value, WrittenInt):
        return int(value)
    if isinstance(value, WrittenFloat):
        return float(value)
    if isinstance(value, dict):
        return {name: plainly(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plainly(part) for part in value]
    return value


def as_text(value: object, secret: bool = False) -> str:
    """The text that is meant by what YAML or JSON made of it.

    Raises ValueError where that is not what was written: YAML reads `0123`, `1.10`, `no` and
    `2024-01-31` as something else than text. A secret is not repeated in the message.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        written = getattr(value, "written", str(value))
        if str(plainly(value)) == written:
            return written
        if secret:
            raise ValueError("this is a number to YAML: write it in quotes")
        raise ValueError(f"{written} is a number to YAML: write it in quotes, '{written}'")
    if isinstance(value, (dict, list)) or value is None:
        raise ValueError("a text is needed here")
    kind = "true or false" if isinstance(value, bool) else "a date"
    raise ValueError(f"this is {kind} to YAML: write it in quotes")


@dataclass(frozen=True)
class Setting:
    path: str  # where it stands in YAML: "auth.api_keys"
    kind: Kind
    default: Value
    help: str
    flags: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    secret: bool = False
    flag_value: bool = True  # of a switch: what giving the flag means
    flag_help: str = ""  # what the flag does, where that is not what `help` says of the setting
    synonyms: tuple[tuple[str, str], ...] = ()  # other words for a choice, in lower case
    off_env: tuple[str, ...] = ()  # of a switch: variables that mean the contrary
    words: tuple[tuple[str, str], ...] = ()  # flags that stand for a value each
    also: tuple[str, ...] = ()  # other places in YAML that mean the same
    plugin_only: bool = False  # of a backend: nothing to a catalog row
    # The C++ engine has it, as the member of ServerConfig at the same path.
    engine: bool = True

    def from_text(self, text: str) -> Value:
        """The value of a variable or a flag. Raises ValueError saying what would be valid."""
        text = text.strip()
        if self.kind == "switch":
            word = text.lower()
            if word not in TRUE_WORDS + FALSE_WORDS:
                raise ValueError(
                    f"'{text}' is not a switch; use one of {', '.join(TRUE_WORDS + FALSE_WORDS)}"
                )
            return word in TRUE_WORDS
        if self.kind == "texts":
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if self.kind == "aliases" and text[:1] not in ("{", "["):
            return self.from_tree(_pairs(text))
        if self.kind in ("names", "aliases", "routes", "mapping"):
            try:
                return self.from_tree(json.loads(text))
            except json.JSONDecodeError:
                raise ValueError(f"must be JSON, {self._expected()}") from None
        if self.kind in ("whole", "seconds", "number"):
            try:
                return self.from_tree(int(text) if self.kind == "whole" else float(text))
            except ValueError as error:
                if "invalid literal" in str(error) or "could not convert" in str(error):
                    raise ValueError(f"'{text}' is not {self._expected()}") from None
                raise
        return self.from_tree(text)

    def from_tree(self, value: object) -> Value:
        """The value as YAML or JSON gives it. Raises ValueError saying what would be valid."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind == "text" and not isinstance(value, (dict, list)) and value is not None:
            if isinstance(value, bool) and self.is_choice(str(value)):
                return self._choice(str(value))
            text = as_text(value, self.secret)
            return self._choice(text) if self.choices else text
        if self.kind == "whole" and isinstance(value, int) and number:
            return int(self._in_range(int(value)))
        if self.kind in ("seconds", "number") and isinstance(value, (int, float)) and number:
            return self._in_range(float(value))
        if self.kind == "switch" and isinstance(value, bool):
            return value
        if self.kind == "texts":
            if isinstance(value, str):
                return self._all_known(self.from_text(value))
            if isinstance(value, (list, tuple)):
                return self._all_known(tuple(as_text(part, self.secret) for part in value))
            if number:
                return (as_text(value, self.secret),)
        if self.kind == "aliases" and isinstance(value, (list, dict)):
            return _aliases(value)
        if self.kind == "routes" and isinstance(value, dict):
            return _routes(value)
        if self.kind == "names" and isinstance(value, dict):
            names = {str(name): as_text(part) for name, part in value.items()}
            self._all_known(tuple(names.values()))
            return names
        if self.kind == "mapping" and isinstance(value, dict):
            return {str(name): plainly(part) for name, part in value.items()}
        shown = "nothing" if value is None else f"'{value}'" if not self.secret else "what is there"
        raise ValueError(f"{shown} is not {self._expected()}")

    def is_choice(self, text: str) -> bool:
        return text.lower() in {choice.lower() for choice in self.choices}

    def _choice(self, text: str) -> str:
        folded = {choice.lower(): choice for choice in self.choices}
        word = dict(self.synonyms).get(text.lower(), text.lower())
        if word not in folded:
            close = close_to(text.lower(), folded)
            raise ValueError(f"'{text}' is not one of {', '.join(self.choices)}{close}")
        return folded[word]

    def _all_known(self, texts: Value) -> Value:
        assert isinstance(texts, tuple)
        for text in texts:
            if self.choices and text not in self.choices:
                close = close_to(text, self.choices)
                raise ValueError(f"'{text}' is not one of {', '.join(self.choices)}{close}")
        return texts

    def _in_range(self, number: float) -> float:
        low, high = self.at_least, self.at_most
        if (
            (low is not None and number < low)
            or (high is not None and number > high)
            or number != number
        ):
            raise ValueError(f"{number} is not {self._expected()}")
        return number

    def _expected(self) -> str:
        bounds = ""
        if self.at_least is not None and self.at_most is not None:
            bounds = f" from {self.at_least:g} to {self.at_most:.15g}"
        elif self.at_least is not None:
            bounds = f" of at least {self.at_least:g}"
        return {
            "text": f"one of {', '.join(self.choices)}" if self.choices else "a text",
            "whole": f"a whole number{bounds}",
            "number": f"a number{bounds}",
            "seconds": f"a number of seconds{bounds}",
            "switch": "true or false",
            "texts": "a list of texts",
            "names": "a mapping of names to texts",
            "aliases": "a mapping of model names, or a list of {pattern, replacement}",
            "routes": "a mapping of model names to {elements: [MODEL, ...]}",
            "mapping": "a mapping",
        }[self.kind]


def _pairs(text: str) -> dict[object, object]:
    """{NAME: MODEL} of `NAME=MODEL,NAME=MODEL`."""
    out: dict[object, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, target = part.partition("=")
        if not equals:
            raise ValueError(
                f"'{part}' is not NAME=MODEL; several are written NAME=MODEL,NAME=MODEL or as JSON"
            )
        out[name.strip()] = target.strip()
    return out


def _aliases(value: list[object] | dict[object, object]) -> Mapping[str, object]:
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        for item in value:
            if not isinstance(item, dict) or set(item) != {"pattern", "replacement"}:
                raise ValueError("each alias of a list needs exactly 'pattern' and 'replacement'")
            pairs.append((item["pattern"], item["replacement"]))
    out: dict[str, object] = {}
    for key, replacement in pairs:
        name, target = as_text(key), as_text(replacement)
        if not name or not target:
            raise ValueError("an alias maps one model name to another")
        try:
            re.compile(name)
        except re.error as error:
            raise ValueError(f"'{name}' is no regular expression: {error}") from None
        plain = name.removeprefix("^").removesuffix("$")
        pattern = any(character in plain for character in r"*+?()[]{}|^$\\")
        out[name if pattern else plain] = target
    return out


def _routes(value: dict[object, object]) -> Mapping[str, object]:
    """{model: {elements, first_token}}. `policy` is taken and means nothing: the order counts."""
    out: dict[str, object] = {}
    for model, route in value.items():
        name = f"the route of '{model}'"
        if not isinstance(route, dict):
            raise ValueError(f"{name} must be {{elements: [MODEL, ...]}}")
        unknown = set(map(str, route)) - {"elements", "first_token", "policy"}
        if unknown:
            raise ValueError(f"{name} knows elements and first_token, not '{min(unknown)}'")
        elements = route.get("elements")
        if not isinstance(elements, list) or not elements:
            raise ValueError(f"{name} needs elements, a list of models in the order to try")
        if not all(isinstance(element, str) and element.strip() for element in elements):
            raise ValueError(f"{name}: each element must be a model, such as openai:gpt-4.1")
        first_token = route.get("first_token", 0)
        if isinstance(first_token, bool) or not isinstance(first_token, (int, float)):
            raise ValueError(f"{name}: first_token must be a number of seconds")
        if not 0 <= first_token <= 86400:
            raise ValueError(f"{name}: first_token must be from 0 to 86400")
        out[str(model)] = {
            "elements": [element.strip() for element in elements],
            "first_token": first_token,
        }
    return out
