"""The server as an object, with ring plugins from a manifest, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import textwrap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_proxy.assembly import make_server
from llm_proxy.rings.runtime.manager import RequiredPluginMissing
from llm_proxy.server import Server

ECHO = {"name": "echo", "type": "echo", "kind": "echo", "format": "openai-chat"}
CONFIG: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "io_threads": 1,
    "backends": [ECHO],
    "default_backend": "echo",
    "logging": {"access_log": False},
    "timeouts": {"drain": 5},
}

FUNCTIONS = """
    import asyncio
    import time as clock
    from core.plugin_engine import PluginContext

    async def shouts(ctx: PluginContext) -> None:
        ctx.body["messages"][-1]["content"] = ctx.body["messages"][-1]["content"].upper()

    async def suspends(ctx):
        await asyncio.sleep(0)

    async def fails(ctx):
        raise KeyError("inside")

    async def sleeps(ctx):
        await asyncio.sleep(60)

    async def computes(ctx):
        end = clock.monotonic() + 0.8
        while clock.monotonic() < end:
            pass
"""

CLASSES = """
    from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse

    class Guard(BasePlugin):
        name = "guard"
        hook = PluginHook.PRE_FLIGHT

        def __init__(self, config=None):
            super().__init__(config)
            self.word = self.config.get("word", "nothing")

        async def execute(self, ctx):
            if self.word in str(ctx.body["messages"]):
                return PluginResponse.block(451, "forbidden_word", "Not that word")
            return PluginResponse.passthrough()

    class Cache(BasePlugin):
        async def execute(self, ctx):
            reply = {"id": "cached", "object": "chat.completion", "created": 1, "model": "m",
                     "choices": [{"index": 0, "finish_reason": "stop",
                                  "message": {"role": "assistant", "content": "from the cache"}}],
                     "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
            return PluginResponse.cache_hit(reply)

    class Rewriter(BasePlugin):
        async def execute(self, ctx):
            ctx.response.body = ctx.response.body.replace(b"hello", b"goodbye")
            return PluginResponse.passthrough()
"""


def row(entrypoint: str, hook: str = "pre_flight", **more: Any) -> dict[str, Any]:
    return {"name": entrypoint.rpartition(":")[2], "hook": hook, "entrypoint": entrypoint, **more}


@pytest.fixture
def plugins(tmp_path: Path) -> Any:
    (tmp_path / "functions.py").write_text(textwrap.dedent(FUNCTIONS))
    (tmp_path / "classes.py").write_text(textwrap.dedent(CLASSES))

    def write(*rows: Mapping[str, Any]) -> Path:
        (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
        return tmp_path

    return write


def client(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{server.port}")


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


async def ask(server: Server, text: str = "hello", **more: Any) -> httpx.Response:
    async with client(server) as http:
        return await http.post("/v1/chat/completions", json=chat(text, **more))


def answer_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


async def test_it_serves_twice_in_one_process_and_leaves_no_thread() -> None:
    before = threading.active_count()
    for _ in range(2):
        async with make_server(CONFIG) as server:
            assert "hello" in answer_of(await ask(server))
    assert threading.active_count() == before
    assert server.port == 0


async def test_a_wrong_configuration_is_refused_and_can_be_followed_by_a_right_one() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        await make_server({**CONFIG, "nonsense": 1}).__aenter__()
    async with make_server(CONFIG) as server:
        with pytest.raises(ValueError, match="nonsense"):
            server.reload({**CONFIG, "nonsense": 1})
        assert "hello" in answer_of(await ask(server))


async def test_an_address_in_use_is_an_oserror() -> None:
    async with make_server(CONFIG) as server:
        with pytest.raises(OSError, match=str(server.port)):
            await make_server({**CONFIG, "port": server.port}).__aenter__()


async def test_plugins_of_every_kind_run_in_one_chain(plugins: Any) -> None:
    directory = plugins(
        row("functions:suspends", "ingress"),
        row("functions:shouts", "pre_flight"),
        row("classes:Guard", "routing", config={"word": "secret"}),
    )
    async with make_server(CONFIG, plugins_dir=directory) as server:
        assert "HELLO" in answer_of(await ask(server))
        assert server.plugins is not None
        stats = server.plugins.get_plugin_stats()
        assert {name: numbers["invocations"] for name, numbers in stats.items()} == {
            "suspends": 1,
            "shouts": 1,
            "Guard": 1,
        }


async def test_a_block_reaches_each_client_in_its_own_error_format(plugins: Any) -> None:
    directory = plugins(row("classes:Guard", config={"word": "hello"}))
    async with make_server(CONFIG, plugins_dir=directory) as server, client(server) as http:
        openai = await http.post("/v1/chat/completions", json=chat())
        anthropic = await http.post("/v1/messages", json=chat(max_tokens=9))
        streamed = await http.post("/v1/chat/completions", json=chat(stream=True))
        fine = await http.post("/v1/chat/completions", json=chat("good day"))
    for response in (openai, anthropic, streamed):
        assert response.status_code == 451
        assert response.json()["error"]["message"] == "Not that word"
    assert anthropic.json()["type"] == "error"
    assert openai.json()["error"]["code"] == "forbidden_word"
    assert fine.status_code == 200


async def test_a_cache_hit_answers_whole_and_streamed_in_each_format(plugins: Any) -> None:
    directory = plugins(row("classes:Cache"))
    async with make_server(CONFIG, plugins_dir=directory) as server, client(server) as http:
        whole = await http.post("/v1/chat/completions", json=chat())
        streamed = await http.post("/v1/chat/completions", json=chat(stream=True))
        anthropic = await http.post("/v1/messages", json=chat(max_tokens=9))
    assert answer_of(whole) == "from the cache"
    assert "from the cache" in streamed.text
    assert streamed.text.rstrip().endswith("data: [DONE]")
    assert anthropic.json()["content"][0]["text"] == "from the cache"


async def test_a_reply_plugin_changes_the_reply_of_each_format(plugins: Any) -> None:
    directory = plugins(row("classes:Rewriter", "post_flight"))
    async with make_server(CONFIG, plugins_dir=directory) as server, client(server) as http:
        openai = await http.post("/v1/chat/completions", json=chat())
        anthropic = await http.post("/v1/messages", json=chat(max_tokens=9))
    assert "goodbye" in answer_of(openai)
    assert "goodbye" in anthropic.json()["content"][0]["text"]


async def test_a_modified_request_keeps_what_no_plugin_touched(plugins: Any) -> None:
    directory = plugins(row("functions:shouts"))
    async with make_server(CONFIG, plugins_dir=directory) as server, client(server) as http:
        response = await http.post("/v1/messages", json=chat(max_tokens=9))
    assert "HELLO" in response.json()["content"][0]["text"]


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        (row("functions:fails"), 200),
        (row("functions:fails", fail_policy="closed"), 500),
        (row("functions:fails", "ingress"), 500),
        (row("functions:sleeps", timeout_ms=10), 200),
        (row("functions:sleeps", "routing", timeout_ms=10), 504),
    ],
)
async def test_a_failing_plugin_follows_its_fail_policy(
    plugins: Any, entry: dict[str, Any], status: int
) -> None:
    async with make_server(CONFIG, plugins_dir=plugins(entry)) as server:
        response = await ask(server)
    assert response.status_code == status
    assert "inside" not in response.text


async def test_one_bad_entry_affects_no_other(plugins: Any) -> None:
    directory = plugins(
        {"hook": "pre_flight"},
        {"name": "no entrypoint", "hook": "pre_flight"},
        row("functions:missing"),
        row("nowhere:thing"),
        row("functions:fails", "no_such_ring"),
        row("../outside:thing"),
        row("functions:shouts"),
    )
    async with make_server(CONFIG, plugins_dir=directory) as server:
        assert "HELLO" in answer_of(await ask(server))
        assert server.plugins is not None
        listed = {meta["name"]: meta for meta in server.plugins.list_plugins()}
    assert [meta["name"] for meta in listed.values() if meta["loaded"]] == ["shouts"]
    assert "no 'missing'" in listed["missing"]["problem"]
    assert "no file" in listed["thing"]["problem"] or "leads out" in listed["thing"]["problem"]


async def test_a_required_plugin_that_cannot_be_loaded_keeps_the_server_from_starting(
    plugins: Any,
) -> None:
    directory = plugins(row("functions:missing", required=True))
    with pytest.raises(RequiredPluginMissing, match="missing"):
        await make_server(CONFIG, plugins_dir=directory).__aenter__()


async def test_a_plugin_that_blocks_the_loop_does_not_stop_the_server(plugins: Any) -> None:
    directory = plugins(row("functions:computes"))
    async with make_server(CONFIG, plugins_dir=directory) as server:
        slow, fast = await asyncio.gather(ask(server), ask(server))
    assert (slow.status_code, fast.status_code) == (200, 200)


async def test_a_client_that_leaves_ends_its_plugins(plugins: Any) -> None:
    directory = plugins(row("functions:sleeps", timeout_ms=60_000))
    async with make_server(CONFIG, plugins_dir=directory) as server:
        with pytest.raises(httpx.ReadTimeout):
            async with client(server) as http:
                await http.post("/v1/chat/completions", json=chat(), timeout=0.2)
        assert server._lane is not None
        for _ in range(200):
            if not server._lane.running_tasks:
                break
            await asyncio.sleep(0.01)
        assert server._lane.running_tasks == 0
