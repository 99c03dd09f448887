"""The first request of a cold process finds everything ready, however slow the disk is."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.conftest import program
from llm_proxy.rings.runtime.manager import PluginManager
from llm_proxy.rings.runtime.manifest import built_in
from llm_proxy.rings.runtime.warmup import lazy_imports
from llm_proxy.rings.services import store as state_store
from llm_proxy.rings.services import tokenizer
from llm_proxy.rings.services.store import StateStore
from rings.test_all_at_once import CHAT

# Seen by every Python that finds the folder on its path: each statement of SQLite takes its time.
SLOW_DISK = """
import sqlite3, time
_connect = sqlite3.connect

class Slow(sqlite3.Connection):
    def execute(self, *arguments):
        time.sleep(0.2)
        return super().execute(*arguments)
    def executemany(self, *arguments):
        time.sleep(0.2)
        return super().executemany(*arguments)

sqlite3.connect = lambda *a, **k: _connect(*a, **{**k, "factory": Slow})
"""

# As its guide has it: imports where they are used, and the store asked in the first request.
BUDGET = """
import asyncio
from core.plugin_engine import PluginContext
from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse


class Budget(BasePlugin):
    name = "budget"
    hook = PluginHook.PRE_FLIGHT
    timeout_ms = 10

    def __init__(self, config=None):
        super().__init__(config)
        self._lock = asyncio.Lock()
        self._spent = None
        self._saving = None

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        from core.pricing import estimate_cost_pre_flight
        from core.tokenizer import count_messages_tokens
        from fastapi.responses import JSONResponse

        store = ctx.state.extra.get("store")
        async with self._lock:
            if self._spent is None:
                self._spent = await store.get_state("budget:spent", None) or {}
                await store.get_state("budget:teams", {})
                await store.get_state("budget:guard_date", "")
            model = ctx.body["model"]
            tokens = count_messages_tokens(ctx.body["messages"], model)
            cost = estimate_cost_pre_flight(model, tokens)
            self._spent[ctx.session_id] = self._spent.get(ctx.session_id, 0.0) + cost
        self._saving = asyncio.create_task(store.set_state("budget:spent", self._spent))
        if ctx.body.get("user") == "cached":
            return PluginResponse.cache_hit(JSONResponse({"said": "cached"}))
        return PluginResponse.passthrough()
"""
STATS = "/api/v1/plugins/stats"
ADMIN = "an-admin-key-of-this-test"


async def first_answer(
    folder: Path, rows: list[dict[str, Any]], *flags: str
) -> tuple[httpx.Response, dict[str, Any]]:
    """The first answer of a new process on a slow disk, and what its plugins counted."""
    (folder / "sitecustomize.py").write_text(SLOW_DISK)
    (folder / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    (folder / "budget.py").write_text(BUDGET)
    with sqlite3.connect(folder / "state.db") as database:  # an installation that has been running
        database.execute(state_store._SCHEMA)
        database.execute("INSERT OR REPLACE INTO state VALUES ('budget:spent', '{\"old\": 1.0}')")
    environment = {
        "LLM_PROXY_PLUGINS_STATE": str(folder / "state.db"),
        "LLM_PROXY_PLUGINS_DIR": str(folder),
        "LLM_PROXY_ADMIN_KEYS": ADMIN,
        "LLM_PROXY_ACCESS_LOG": "false",
        "LLM_PROXY_IO_THREADS": "1",
        "LLM_BACKEND": "echo",
    }
    async with (
        cold(folder, environment, *flags) as proxy,
        httpx.AsyncClient(trust_env=False, base_url=proxy.url, timeout=30) as http,
    ):
        answer = await http.post("/v1/chat/completions", json={**CHAT, "model": "echo"})
        stats = await http.get(STATS, headers={"authorization": f"Bearer {ADMIN}"})
    return answer, stats.json()


def cold(folder: Path, environment: dict[str, str], *flags: str) -> Any:
    search = ":".join([str(folder), *(path for path in sys.path if path)])
    return program(*flags, environment={**environment, "PYTHONPATH": search}, folder=folder)


@pytest.mark.parametrize("name", built_in())
async def test_the_first_request_through_each_plugin_is_served(name: str, tmp_path: Path) -> None:
    answer, stats = await first_answer(tmp_path, [{"name": name, "enabled": True}])
    assert answer.status_code == 200, answer.text
    assert name in stats
    assert {row["timeouts"] + row["errors"] for row in stats.values()} == {0}


async def test_a_plugin_that_asks_the_store_in_its_first_request_is_in_time(tmp_path: Path) -> None:
    row = {
        "name": "Budget",
        "hook": "pre_flight",
        "entrypoint": "budget:Budget",
        "timeout_ms": 10,
        "fail_policy": "closed",
    }
    answer, stats = await first_answer(tmp_path, [row])
    assert answer.status_code == 200, answer.text
    assert stats["Budget"]["timeouts"] == 0


class SlowDisk(sqlite3.Connection):
    """A disk that answers when `turn` allows it."""

    turn = threading.Event()

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        assert SlowDisk.turn.wait(10)
        return super().execute(*arguments)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    connect = sqlite3.connect
    SlowDisk.turn = threading.Event()
    monkeypatch.setattr(
        state_store.sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=SlowDisk)
    )
    return SlowDisk.turn


async def test_a_swap_is_not_refused_for_a_slow_disk(
    tmp_path: Path, slow_disk: threading.Event
) -> None:
    (tmp_path / "budget.py").write_text(BUDGET)
    manager = PluginManager(tmp_path, state_file=tmp_path / "state.db")
    asyncio.get_running_loop().call_later(0.2, slow_disk.set)
    row = {"name": "Budget", "hook": "pre_flight", "entrypoint": "budget:Budget"}
    await manager.install_plugin({**row, "allow_inprocess": True, "fail_policy": "closed"})
    assert [meta["name"] for meta in manager.list_plugins() if meta["loaded"]] == ["Budget"]
    await manager.generation.unload()
    await manager.close()


async def test_a_ready_store_answers_without_a_disk(
    tmp_path: Path, slow_disk: threading.Event
) -> None:
    slow_disk.set()
    before = StateStore(tmp_path / "state.db")
    await before.set_state("key", [1])
    before.close()
    store = StateStore(tmp_path / "state.db")
    await store.ready()
    slow_disk.clear()
    for key, value in (("key", [1]), ("nothing", None)):
        step = store.get_state(key)
        with pytest.raises(StopIteration) as said:  # it does not even suspend
            step.send(None)
        assert said.value.value == value
    slow_disk.set()
    store.close()


async def test_what_memory_cannot_hold_is_read_from_the_file(tmp_path: Path) -> None:
    values = {f"key-{n}": "x" * 1000 for n in range(20)}
    store = StateStore(tmp_path / "state.db")
    for key, value in values.items():
        await store.set_state(key, value)
    store.close()
    small = StateStore(tmp_path / "state.db", memory_limit=5000)
    await small.ready()
    assert small._size <= 5000
    for key, value in values.items():
        assert await small.get_state(key) == value
    await small.set_state("key-3", "new")
    assert await small.get_state("key-3") == "new"
    assert await small.get_state("nothing", "none") == "none"
    assert small._size <= 5000
    small.close()


def test_imports_inside_functions_are_found_wherever_they_stand() -> None:
    source = (
        "import json\n"
        "class A:\n"
        "    async def run(self):\n"
        "        import a.b as c\n"
        "        if True:\n"
        "            from d.e import f, g\n"
        "            from .near import h\n"
        "            from .. import far\n"
    )
    assert list(lazy_imports(source, "pack.sub")) == [
        ("a.b", ()),
        ("d.e", ("f", "g")),
        ("pack.sub.near", ("h",)),
        ("pack", ("far",)),
    ]
    assert list(lazy_imports("def broken(:")) == []
    assert [name for name, _ in lazy_imports(source)] == ["a.b", "d.e"]


async def test_a_vocabulary_that_does_not_come_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tiktoken fetches a vocabulary when it is first asked for: never in a request."""
    (tmp_path / "tiktoken").mkdir()
    (tmp_path / "tiktoken" / "__init__.py").write_text(
        "import threading\n"
        "may = threading.Event()\n"
        "class Encoding:\n"
        "    def encode(self, text, **more):\n"
        "        return list(text)\n"
        "def get_encoding(name):\n"
        "    assert may.wait(10)\n"
        "    return Encoding()\n"
    )
    (tmp_path / "tiktoken" / "model.py").write_text(
        "def encoding_name_for_model(model):\n    return 'o200k_base'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("tiktoken", "tiktoken.model"):  # what is imported here is forgotten afterwards
        monkeypatch.setitem(sys.modules, name, tokenizer)
        del sys.modules[name]
    monkeypatch.setattr(tokenizer, "PREPARE_SECONDS", 0.05)
    monkeypatch.setattr(tokenizer, "_encodings", {})
    monkeypatch.setattr(tokenizer, "_preparing", None)
    await tokenizer.prepare()
    began = time.monotonic()
    assert tokenizer.count_tokens("x" * 40) == 10
    assert time.monotonic() - began < 1
    import tiktoken

    tiktoken.may.set()
    preparing = tokenizer._preparing
    assert preparing is not None
    preparing.join(10)
    assert tokenizer.is_tiktoken_available()
    assert tokenizer.count_tokens("x" * 40) == 40
