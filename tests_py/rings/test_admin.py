"""The plugin routes of the admin API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_proxy.admin import plugin_answers as admin
from llm_proxy.assembly import make_server
from rings.test_all_at_once import CONFIG

MAX = "Max Tokens Enforcer"


@pytest.mark.parametrize(
    ("name", "config", "status", "said"),
    [
        (MAX, {"ceiling": 5}, 200, ""),
        (MAX, {"ceiling": "many"}, 422, "'ceiling' must be a number"),
        (MAX, {"ceiling": True}, 422, "'ceiling' must be a number"),
        (MAX, {"ceiling": 0}, 422, "from 1 to any"),
        (MAX, {"log_clamp": 1}, 422, "must be a boolean"),
        ("Tool Guard", {"action": "explode"}, 422, "one of strip, block"),
        ("nobody", {}, 404, "nobody"),
    ],
)
async def test_settings_are_held_to_the_plugins_schema(
    tmp_path: Path, name: str, config: dict[str, Any], status: int, said: str
) -> None:
    async with make_server(CONFIG, plugins_dir=tmp_path, plugins=[MAX]) as server:
        assert server.plugins is not None
        answer = await admin.configure(server.plugins, name, config)
        instance = server.plugins.generation.entries[0].instance
    assert answer[0] == status
    assert said in str(answer[1])
    assert instance.ceiling == (5 if status == 200 else 4096)


async def test_each_route_answers_as_the_clients_expect(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1\n")
    row = {"name": "a/b", "hook": "pre_flight", "entrypoint": "bad:run", "allow_inprocess": True}
    async with make_server(CONFIG, plugins_dir=tmp_path, plugins=[MAX]) as server:
        manager = server.plugins
        assert manager is not None
        assert (await admin.rollback(manager))[0] == 409
        assert len(admin.list_plugins(manager)[1]["plugins"]) == 30
        assert admin.plugin_stats(manager)[1][MAX]["invocations"] == 0
        toggled = await admin.toggle(manager, {"name": "A/B Model Router", "enabled": True})
        assert toggled == (200, {"name": "A/B Model Router", "enabled": True})
        assert (await admin.toggle(manager, {"name": "nobody", "enabled": True}))[0] == 404
        assert (await admin.toggle(manager, {"name": MAX}))[0] == 400
        assert (await admin.install(manager, {"name": "x"}))[0] == 400
        assert (await admin.install(manager, row))[0] == 422
        (tmp_path / "bad.py").write_text("async def run(ctx):\n    pass\n")
        assert await admin.install(manager, row) == (200, {"status": "installed", "name": "a/b"})
        removed = await admin.uninstall(manager, "a/b")
        assert removed == (200, {"status": "uninstalled", "name": "a/b"})
        assert (await admin.uninstall(manager, "a/b"))[0] == 404
        assert (await admin.hot_swap(manager))[1]["status"] == "success"
        assert (await admin.rollback(manager))[1] == {"status": "rolled_back"}
