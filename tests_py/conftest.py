"""What every Python test shares: a clean environment and the place of the recorded traffic."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import planted
from oracle.corpus import CORPUS
from repo import SHARED

_PREFIXES = ("LLM_PROXY_", "APP_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "OLLAMA_")
_NAMES = ("API_KEYS", "CONFIG_FILE", "DISABLE_AUTH", "LLM_BACKEND", "MODEL_ALIASES", "LOG_LEVEL")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key or setting of the developer's own shell reaches a test."""
    for name in list(os.environ):
        secret = name.endswith(("_API_KEY", "_API_BASE_URL"))
        ours = name.startswith(_PREFIXES) and name != "LLM_PROXY_SANITIZED"
        if secret or ours or name in _NAMES:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def no_key_shows_in_what_proxies_say() -> Iterator[None]:
    """All that proxies said in this run is searched for the keys planted in its configurations."""
    handler = planted.listen()
    planted.keep_errors()
    yield
    planted.forget_errors()
    logging.getLogger().removeHandler(handler)
    handler.close()
    found = list(planted.found())
    shutil.rmtree(planted.FOLDER)
    assert not found, "a key shows:\n" + "\n".join(found[:20])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded provider traffic beside the repository, where there is one."""
    _need(SHARED / "corpus")
    return SHARED


@pytest.fixture(scope="session")
def recorded_traffic() -> Path:
    """The corpus alone, wherever LLM_PROXY_CORPUS says it is."""
    _need(CORPUS)
    return CORPUS


def _need(folder: Path) -> None:
    if not folder.is_dir():
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("../shared is not here: recorded provider traffic is not part of the repository")
