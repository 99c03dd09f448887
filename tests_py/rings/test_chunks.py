"""`on_chunk`: a plugin of the reply ring hears a stream's text while it comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from e2e.answers import Answer, chat_stream
from e2e.upstream import Stall, Upstream, answering, stream
from rings.test_all_at_once import until
from rings.test_streams import (
    BACKENDS,
    ENDS,
    EVERYWHERE,
    HEAD,
    SAID,
    leaves_while,
    serving,
    text_of,
    told,
)

HEARS = (
    HEAD
    + """
class Plugin(BasePlugin):
    hook = PluginHook.POST_FLIGHT
    async def on_load(self):
        self.heard, self.seen = [], []
    async def on_chunk(self, ctx, text):
        self.heard.append(text)
        ctx.metadata["heard"] = ctx.metadata.get("heard", "") + text
    async def execute(self, ctx):
        self.seen.append((ctx.metadata.get("heard"), json.loads(ctx.response.body)))
"""
)
STOPS = (
    HEAD
    + """
class Plugin(BasePlugin):
    hook = PluginHook.POST_FLIGHT
    async def on_chunk(self, ctx, text):
        ctx.metadata["heard"] = ctx.metadata.get("heard", "") + text
        if "there" in ctx.metadata["heard"]:
            return PluginResponse.block(451, "too_dear", "that was too dear")
"""
)


@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_all_of_a_streams_text_is_heard_in_order_and_passes_as_it_is(
    frontend: str, backend: str, tmp_path: Path
) -> None:
    async with (
        Upstream(answering(Answer(SAID), every=3)) as upstream,
        serving(upstream, backend, tmp_path, HEARS) as (server, http),
    ):
        status, raw = await told(http, frontend)
        assert server.plugins is not None
        plugin = server.plugins.generation.entries[0].instance
    assert status == 200
    assert text_of(frontend, raw) == SAID
    assert ENDS[frontend] in raw
    assert "".join(plugin.heard) == SAID
    ((heard, body),) = plugin.seen
    assert heard == SAID == body["choices"][0]["message"]["content"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("frontend", ["chat", "messages", "responses", "gemini"])
async def test_a_block_ends_the_stream_where_it_is(
    frontend: str, backend: str, tmp_path: Path
) -> None:
    async with (
        Upstream(answering(Answer(SAID * 20), every=3)) as upstream,
        serving(upstream, backend, tmp_path, STOPS) as (_, http),
    ):
        _, raw = await told(http, frontend)
    assert "that was too dear" in raw
    assert ENDS[frontend] not in raw


async def test_a_block_closes_an_upstream_that_has_more_to_say(tmp_path: Path) -> None:
    events = list(chat_stream(Answer(SAID)))
    async with (
        Upstream(lambda _: stream([*events[:-2], Stall()])) as upstream,
        serving(upstream, "openai", tmp_path, STOPS) as (server, http),
    ):
        _, raw = await told(http, "chat")
        asked = await upstream.request(0)
        await asyncio.wait_for(asked.gone.wait(), 10)
        await until(lambda: server.stats()["active"] == 0)
    assert "that was too dear" in raw
    assert "[DONE]" not in raw


async def test_one_that_fails_costs_the_stream_nothing_and_is_counted(tmp_path: Path) -> None:
    source = STOPS.replace('ctx.metadata["heard"] = ', "raise KeyError; x = ")
    async with (
        Upstream(answering(Answer(SAID), every=5)) as upstream,
        serving(upstream, "openai", tmp_path, source) as (server, http),
    ):
        _, raw = await told(http, "chat")
        assert server.plugins is not None
        entries = {entry.name: entry for entry in server.plugins.generation.entries}
    assert text_of("chat", raw) == SAID
    assert entries["it: on_chunk"].record.errors >= 1
    assert entries["it"].record.errors == 0


async def test_what_comes_while_a_plugin_thinks_is_the_next_piece(tmp_path: Path) -> None:
    source = HEARS.replace("self.heard.append(text)", "self.heard.append(text); await self.slow()")
    source += """
    async def slow(self):
        import asyncio
        for _ in range(50):
            await asyncio.sleep(0)
"""
    async with (
        Upstream(answering(Answer(SAID * 10), every=2)) as upstream,
        serving(upstream, "openai", tmp_path, source) as (server, http),
    ):
        _, raw = await told(http, "chat")
        assert server.plugins is not None
        plugin = server.plugins.generation.entries[0].instance
    assert text_of("chat", raw) == SAID * 10
    assert "".join(plugin.heard) == SAID * 10


async def test_a_client_that_leaves_cancels_who_listens(tmp_path: Path) -> None:
    await leaves_while("on_chunk(self, ctx, text)", tmp_path)
