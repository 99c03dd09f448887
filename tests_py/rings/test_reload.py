"""A configuration read anew: the ring plugins follow, or all stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.answers import Answer
from e2e.upstream import Upstream, answering
from llm_proxy.assembly import make_server
from llm_proxy.rings.runtime.swap import SwapRefused
from llm_proxy.server import Server
from rings.test_all_at_once import CHAT, CONFIG, ask
from rings.test_streams import serving

MAX, BLOCKS = "Max Tokens Enforcer", "Topic Blocklist"


def loaded(server: Server) -> set[str]:
    assert server.plugins is not None
    return {meta["name"] for meta in server.plugins.list_plugins() if meta["loaded"]}


async def test_a_reload_refreshes_names_settings_tenants_and_backends() -> None:
    async with make_server(CONFIG, plugins=[MAX]) as server:
        assert loaded(server) == {MAX}
        assert server.plugins is not None
        backends = [*CONFIG["backends"], {**CONFIG["backends"][0], "name": "echo.2"}]
        server.reload({**CONFIG, "backends": backends})
        shared: dict[str, Any] = {"pricing": {"m": {"input": 7, "output": 9}}}
        await server.reload_plugins([MAX, BLOCKS], {"config": shared})
        assert loaded(server) == {MAX, BLOCKS}
        assert server.plugins.state.config == shared
        pool = await server.plugins.services.store.get_pool()
        assert [endpoint.id for endpoint in pool] == ["echo", "echo.2"]
        assert (await ask(server, "/v1/chat/completions", CHAT)).status_code == 200
        assert server.plugins.get_plugin_stats(MAX)["invocations"] == 1


async def test_a_reload_that_is_refused_leaves_the_old_plugins_and_settings(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(json.dumps({"plugins": [{"name": MAX}]}))
    options: dict[str, Any] = {"config": {"a": 1}}
    async with make_server(CONFIG, plugins_dir=tmp_path, plugin_options=options) as server:
        row = {"name": "broken", "hook": "pre_flight", "entrypoint": "nowhere:run"}
        manifest.write_text(json.dumps({"plugins": [{"name": MAX}, row]}))
        with pytest.raises(SwapRefused, match="broken"):
            await server.reload_plugins([BLOCKS], {"config": {"a": 2}})
        assert loaded(server) == {MAX}
        assert server.plugins is not None
        assert server.plugins.state.config == {"a": 1}
        assert (await ask(server, "/v1/chat/completions", CHAT)).status_code == 200


async def test_a_reload_gives_a_server_that_had_none_its_first_plugins() -> None:
    async with make_server(CONFIG) as server:
        await server.reload_plugins()
        assert server.plugins is None
        await server.reload_plugins([MAX])
        assert loaded(server) == {MAX}


async def test_what_is_said_to_plugins_is_not_said_upstream(tmp_path: Path) -> None:
    said = {"x-expected-schema": "{}", "x-llm-proxy-shadow": "1", "x-other": "2"}
    async with (
        Upstream(answering(Answer("Hi"))) as upstream,
        serving(upstream, "openai", tmp_path, plugins=["Schema Enforcer"]) as (_, http),
    ):
        answer = await http.post("/v1/chat/completions", json=CHAT, headers=said)
        assert answer.status_code == 200
        assert "x-other" in upstream.last.headers
        assert not {"x-expected-schema", "x-llm-proxy-shadow"} & set(upstream.last.headers)
