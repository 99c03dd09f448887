"""Notices packages in an answer that no registry knows: names a model made up."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import quote

import httpx

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import reply_json, reply_messages, text_of

_COMMANDS = (
    ("pypi", re.compile(
        r"\b(?:(?:python[\d.]*\s+-m\s+)?pip[\d.]*\s+install|uv\s+pip\s+install|uv\s+add"
        r"|poetry\s+add|pipenv\s+install|pdm\s+(?:add|install))\s+(?=([^\n]*))")),
    ("npm", re.compile(
        r"\b(?:npm\s+(?:install|add|i)|yarn\s+add|pnpm\s+(?:install|add|i))\s+(?=([^\n]*))")),
)  # fmt: skip
_REQ_RE = re.compile(
    r"^[ \t]*([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)"
    r"(?:\[[\w, -]*\])?[ \t]*==[ \t]*[\w.*+!-]+",
    re.MULTILINE,
)
_END = re.compile(r"&&|[;|#`)]|\s[<>]|\s--\s")
_TAKES_VALUE = frozenset(
    (
        *("-r", "--requirement", "-c", "--constraint", "-e", "--editable", "-f", "--find-links"),
        *("-i", "--index-url", "--extra-index-url", "--registry", "-t", "--target", "--prefix"),
        *("-G", "--group", "--optional"),
    )
)
_FILES = (".txt", ".whl", ".gz", ".zip", ".tgz", ".toml", ".cfg", ".py", ".js", ".json")
_PYPI_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_NPM_NAME = re.compile(r"(?:@[a-z0-9][a-z0-9._-]{0,98}/)?[a-z0-9][a-z0-9._-]{0,98}")
_SPECIFIER = re.compile(r"\[|[=<>!~^;,]")

# (ecosystem, name) → (known to the registry, when it was asked)
_CACHE: OrderedDict[tuple[str, str], tuple[bool, float]] = OrderedDict()
_CACHE_MAX = 4096


def _pep503(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _registry_url(ecosystem: str, name: str) -> str:
    if ecosystem == "pypi":
        return f"https://pypi.org/pypi/{quote(_pep503(name), safe='')}/json"
    return f"https://registry.npmjs.org/{quote(name, safe='@')}"


def _cache_put(key: tuple[str, str], exists: bool) -> None:
    _CACHE[key] = (exists, time.monotonic())
    _CACHE.move_to_end(key)
    while len(_CACHE) > _CACHE_MAX:
        _CACHE.popitem(last=False)


def _extract_packages(text: str) -> list[tuple[str, str]]:
    """(ecosystem, name) of each package the text says to install, once, in their order."""
    found: dict[tuple[str, str], None] = {}
    for ecosystem, pattern in _COMMANDS:
        for hit in pattern.finditer(text):
            for name in _arguments(_END.split(hit[1], maxsplit=1)[0], ecosystem):
                found[ecosystem, name] = None
    for hit in _REQ_RE.finditer(text):
        found["pypi", _pep503(hit[1])] = None
    return list(found)


def _arguments(words: str, ecosystem: str) -> list[str]:
    names = []
    skip = False
    for word in words.split():
        word = word.strip("\"'*,\\")
        if skip or word.startswith("-"):
            skip = not skip and word in _TAKES_VALUE
            continue
        if not word or "://" in word or word.startswith((".", "/", "~", "$", "%", "{", "git+")):
            continue
        if word.lower().endswith(_FILES):
            continue
        if ecosystem == "pypi":
            name = _SPECIFIER.split(word, maxsplit=1)[0].partition("@")[0]
            if _PYPI_NAME.fullmatch(name):
                names.append(_pep503(name))
        else:
            name = word[:1] + word[1:].partition("@")[0]
            if _NPM_NAME.fullmatch(name):
                names.append(name)
    return names


async def _registry_exists(client: Any, ecosystem: str, name: str, ttl: float) -> bool | None:
    """Whether the registry knows the package; None: it did not say."""
    key = (ecosystem, name)
    known = _CACHE.get(key)
    if known is not None and time.monotonic() - known[1] < ttl:
        _CACHE.move_to_end(key)
        return known[0]
    try:
        status = (await client.get(_registry_url(ecosystem, name))).status_code
    except (httpx.HTTPError, OSError):
        return None
    if status not in (200, 404, 410):
        return None
    _cache_put(key, status == 200)
    return bool(status == 200)


class AiDependencyGuard(BasePlugin):
    name = "ai_dependency_guard"
    hook = PluginHook.POST_FLIGHT
    version = "1.0.0"
    timeout_ms = 2500

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.registry_check = bool(self.config.get("registry_check", True))
        self.block = bool(self.config.get("block_on_hallucination", False))
        self.limit = int(self.config.get("max_packages_per_response", 20))
        self.seconds = float(self.config.get("registry_timeout_ms", 1500)) / 1000
        self.ttl = float(self.config.get("cache_ttl_s", 3600))
        self.ecosystems = frozenset(self.config.get("ecosystems", ["pypi", "npm"]))
        self.blocklist = {_pep503(str(name)) for name in self.config.get("blocklist") or ()}
        self.client: Any = None

    async def on_load(self) -> None:
        if self.registry_check and self.client is None:
            self.client = httpx.AsyncClient(timeout=self.seconds)

    async def on_unload(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            await client.aclose()

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        replies = reply_messages(reply_json(ctx))
        text = "\n".join(text_of(message.get("content")) for message in replies)
        asked = [row for row in _extract_packages(text) if row[0] in self.ecosystems]
        flagged = await self._judge(asked[: self.limit])
        if not flagged:
            return PluginResponse.passthrough()
        ctx.metadata["_depguard_flagged"] = True
        ctx.metadata["_depguard_packages"] = flagged
        names = ", ".join(f"{row['name']} ({row['reason']})" for row in flagged)
        if self.block:
            message = f"The answer names packages that should not be installed: {names}"
            return PluginResponse.block(403, "hallucinated_dependency", message)
        self.logger.warning("An answer names packages that should not be installed: %s", names)
        return PluginResponse.passthrough()

    async def _judge(self, asked: list[tuple[str, str]]) -> list[dict[str, str]]:
        listed = {row for row in asked if _pep503(row[1]) in self.blocklist}
        rest = [row for row in asked if row not in listed]
        missing: set[tuple[str, str]] = set()
        if self.registry_check and self.client is not None and rest:
            known = await asyncio.gather(
                *(_registry_exists(self.client, *row, self.ttl) for row in rest)
            )
            missing = {row for row, exists in zip(rest, known, strict=True) if exists is False}
        return [
            {"name": name, "ecosystem": ecosystem, "reason": reason}
            for ecosystem, name in asked
            for reason in (_reason((ecosystem, name), listed, missing),)
            if reason
        ]


def _reason(
    row: tuple[str, str], listed: set[tuple[str, str]], missing: set[tuple[str, str]]
) -> str:
    return "blocklist" if row in listed else "not_found" if row in missing else ""
