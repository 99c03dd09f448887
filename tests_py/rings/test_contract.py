"""Third-party plugins as they are written for the contract, over HTTP: each cell of its tables."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_proxy.assembly import make_server
from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import PluginHook
from llm_proxy.server import Server
from rings.conftest import Bench, completion
from rings.test_all_at_once import CONFIG, until

RINGS = [hook.value for hook in PluginHook]
BEFORE = RINGS[:3]  # the rings that run before the backend is asked


def write(folder: Path, name: str, source: str) -> None:
    path = folder / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))


# ---- table 1.7: what each action does at each ring

DOER = """
    from fastapi.responses import JSONResponse
    from core.plugin_engine import PluginContext
    from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse


    def act(what, ctx):
        if what == "passthrough":
            return PluginResponse.passthrough()
        if what == "modify":
            messages = [{"role": "user", "content": "changed"}]
            return PluginResponse.modify({**ctx.body, "messages": messages})
        if what == "modify nothing":
            return PluginResponse(action="modify", body={})
        if what == "block":
            return PluginResponse.block(429, "too_much", "Slow down")
        if what == "block 200":
            return PluginResponse(action="block", status_code=200, message="No")
        if what == "cache_hit":
            return PluginResponse.cache_hit(JSONResponse(%s, headers={"x-from": "plugin"}))
        if what == "cache_hit dict":
            return PluginResponse.cache_hit(%s)
        if what == "raise":
            raise KeyError("inside of the plugin")
        if what == "http error":
            from fastapi import HTTPException
            raise HTTPException(418, "teapot")
        if what == "garbage":
            return {"action": "block"}
        if what == "bad action":
            return PluginResponse(action="explode")
        if what == "error by hand":
            ctx.error = "by hand"
            ctx.stop_chain = True
        return None


    class Doer(BasePlugin):
        name = "doer"
        ring = ""

        async def execute(self, ctx: PluginContext) -> PluginResponse:
            what = (ctx.body.get("user") or "").partition("|")
            return act(what[2], ctx) if what[0] == self.ring else PluginResponse.passthrough()


    class ingress(Doer):
        ring = "ingress"

    class pre_flight(Doer):
        ring = "pre_flight"

    class routing(Doer):
        ring = "routing"

    class post_flight(Doer):
        ring = "post_flight"

    class background(Doer):
        ring = "background"
"""


@pytest.fixture(scope="module")
def doers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doers")
    reply = repr(completion("from the plugin"))
    write(folder, "doer", DOER % (reply, reply))
    rows = [{"name": r, "hook": r, "entrypoint": f"doer:{r}", "timeout_ms": 500} for r in RINGS]
    (folder / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    return folder


OK = (200, "hello")
CHANGED = (200, "changed")
MADE = (200, "from the plugin")
BLOCK = (429, "too_much")
FAILED = (500, "plugin_error")
# Action: what the client sees, ring by ring.
CELLS: dict[str, tuple[tuple[int, str], ...]] = {
    "passthrough": (OK, OK, OK, OK, OK),
    "nothing": (OK, OK, OK, OK, OK),
    "modify": (CHANGED, CHANGED, CHANGED, OK, OK),
    "modify nothing": (OK, OK, OK, OK, OK),
    "block": (BLOCK, BLOCK, BLOCK, BLOCK, OK),
    "block 200": ((403, "plugin_block"),) * 4 + (OK,),
    "cache_hit": (MADE, MADE, MADE, MADE, OK),
    "cache_hit dict": (MADE, MADE, MADE, MADE, OK),
    "raise": (FAILED, OK, FAILED, OK, OK),
    "http error": (FAILED, OK, FAILED, OK, OK),
    "garbage": (FAILED, OK, FAILED, OK, OK),
    "bad action": (FAILED, OK, FAILED, OK, OK),
    "error by hand": ((403, "by hand"), (403, "by hand"), (503, "by hand"), (403, "by hand"), OK),
}
PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")


def request_of(path: str, user: str, stream: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "user": user, "stream": stream}
    if path.endswith("responses"):
        return {**body, "input": "hello"}
    if path.endswith("messages"):
        del body["user"]
        body |= {"max_tokens": 9, "metadata": {"user_id": user}}
    return {**body, "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", PATHS)
async def test_each_action_does_at_each_ring_what_the_table_says(
    doers: Path, path: str, stream: bool
) -> None:
    wrong = []
    async with (
        make_server(CONFIG, plugins_dir=doers) as server,
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
    ):
        for action, expected in CELLS.items():
            for ring, (status, said) in zip(RINGS, expected, strict=True):
                if stream and ring == "post_flight":
                    continue  # streams have their own table
                body = request_of(path, f"{ring}|{action}", stream)
                answer = await http.post(f"http://127.0.0.1:{server.port}{path}", json=body)
                if answer.status_code != status or said not in _told(answer, path, said):
                    wrong.append((ring, action, answer.status_code, answer.text[:300]))
                if "inside of the plugin" in answer.text:
                    wrong.append((ring, action, "tells the client what Python said"))
    assert wrong == []


def _told(answer: httpx.Response, path: str, said: str) -> str:
    """The text of a good answer; of an error, what the format has a place for."""
    if answer.status_code == 200:
        return answer.text
    error = answer.json()["error"]
    if path.endswith("messages"):  # this format's errors have a type of its own and no code
        words = {429: "too_much", 403: "plugin_block", 500: "plugin_error"}
        return f"{error['message']} {words.get(answer.status_code)}"
    return f"{error['message']} {error.get('code')} {error.get('type')}"


# ---- plugins as others write them

THIRD = {
    "counting": """
        import asyncio
        from collections import defaultdict
        from core.plugin_engine import PluginContext
        from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse


        class Counting(BasePlugin):
            name = "counting"
            hook = PluginHook.PRE_FLIGHT
            version = "2.1.0"
            author = "somebody"
            timeout_ms = 200

            def __init__(self, config=None):
                super().__init__(config)
                self.lock = asyncio.Lock()
                self.seen = defaultdict(int)
                self.tasks = set()
                self.saved = []
                self.order = []

            async def on_load(self):
                self.loaded = True

            async def execute(self, ctx: PluginContext) -> PluginResponse:
                async with self.lock:
                    self.order.append("in")
                    count = self.seen[ctx.session_id] + 1
                    await asyncio.sleep(0)
                    self.seen[ctx.session_id] = count
                    self.order.append("out")
                task = asyncio.create_task(self.save(ctx.session_id, count))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
                self.logger.info("seen %s", count)
                return PluginResponse.passthrough()

            async def save(self, session, count):
                await asyncio.sleep(0.01)
                self.saved.append((session, count))

            async def on_unload(self):
                self.saved.append("unloaded")
    """,
    "in_place": """
        async def rewrite(ctx):
            for message in ctx.body.get("messages", []):
                if isinstance(message.get("content"), str):
                    message["content"] = message["content"].replace("hello", "bonjour")
            ctx.body["temperature"] = 0.25
            ctx.metadata["rewritten"] = True
    """,
    "sniffer": """
        seen = []

        async def look(ctx):
            rotator = ctx.metadata.get("rotator")
            pool = await rotator.store.get_pool()
            breaker = await rotator.circuit_manager.get_breaker(pool[0].id)
            await rotator._add_log("looked", level="SECURITY")
            await rotator.store.set_state("look", [1])
            await ctx.state.extra.get("store").set_state("other", {"a": 1})
            identity = await rotator.zt_manager.verify_tailscale_identity(ctx.request.client.host)
            masked = rotator.security.mask_pii("ann@example.org")
            seen.append({
                "host": ctx.request.client.host,
                "agent": ctx.request.headers.get("User-Agent"),
                "authorization": ctx.request.headers.get("authorization"),
                "method": ctx.request.method,
                "path": ctx.request.url.path,
                "pool": [(e.id, e.metadata["provider"]) for e in pool],
                "breaker": await breaker.can_execute(),
                "state": await rotator.store.get_state("look", None),
                "other": await ctx.state.extra["store"].get_state("other", None),
                "identity": identity["status"],
                "restored": rotator.security.sanitize_response(masked),
                "vault": len(rotator.security.pii_vault),
                "weight": rotator.routing_cost_weight,
                "priority": rotator.priority_mode,
                "cache": ctx.state.cache.make_key(ctx.body, "t"),
                "keys": sorted(k for k in ctx.metadata if not k.startswith("__")),
                "error": ctx.error,
                "stop": ctx.stop_chain,
                "req_id": ctx.metadata["req_id"],
                "rewritten": ctx.metadata.get("rewritten"),
            })
    """,
    "reply": """
        from fastapi.responses import Response

        async def stamp(ctx):
            if not hasattr(ctx.response, "body"):
                return
            headers = dict(ctx.response.headers)
            headers.pop("content-length", None)
            headers["X-Stamped"] = "yes"
            ctx.response = Response(
                content=ctx.response.body.replace(b"bonjour", b"BONJOUR"),
                status_code=ctx.response.status_code,
                headers=headers,
                media_type="application/json",
            )
    """,
}
THIRD_ROWS = [
    {"name": "Rewrite", "hook": "ingress", "entrypoint": "in_place:rewrite"},
    {"name": "Counting Things", "hook": "pre_flight", "entrypoint": "counting:Counting"},
    {"name": "Look", "hook": "routing", "entrypoint": "sniffer:look", "fail_policy": "closed"},
    {"name": "Stamp", "hook": "post_flight", "entrypoint": "reply:stamp"},
]


@pytest.fixture
async def third(tmp_path: Path) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    for name, source in THIRD.items():
        write(tmp_path, name, source)
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": THIRD_ROWS}))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        base = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(trust_env=False, base_url=base, timeout=20) as http:
            yield server, http


async def test_the_list_says_of_a_plugin_what_its_class_says(
    third: tuple[Server, httpx.AsyncClient],
) -> None:
    plugins = third[0].plugins
    assert plugins is not None
    meta = plugins.get_plugin("Counting Things")
    assert meta is not None
    assert (meta["version"], meta["author"]) == ("2.1.0", "somebody")


async def test_plugins_of_others_run_unchanged_for_many_requests_at_once(
    third: tuple[Server, httpx.AsyncClient],
) -> None:
    server, http = third
    assert server.plugins is not None
    body = {"model": "m", "messages": [{"role": "user", "content": "hello you"}]}
    headers = {"user-agent": "me", "authorization": "Bearer secret"}
    replies = await asyncio.gather(
        *(
            http.post(
                "/v1/chat/completions", json=body, headers={**headers, "x-session-id": f"s{n % 4}"}
            )
            for n in range(40)
        )
    )
    for reply in replies:
        assert reply.status_code == 200, reply.text
        assert "BONJOUR you" in reply.text
        assert reply.headers["x-stamped"] == "yes"
    (counting,) = [e.instance for e in server.plugins.generation.entries if e.instance]
    assert counting.loaded
    assert counting.seen == {f"s{n}": 10 for n in range(4)}
    assert counting.order == ["in", "out"] * 40  # the lock held
    await until(lambda: len(counting.saved) == 40)
    assert sorted(counting.saved) == sorted((f"s{n}", c) for n in range(4) for c in range(1, 11))
    assert counting.stats["invocations"] == 40
    assert counting.stats["version"] == "2.1.0"
    assert counting.stats["total_latency_ms"] > 0
    told = ("errors", "blocks", "timeouts")
    assert [counting.stats[key] for key in told] == [0, 0, 0]
    look = next(e.call for e in server.plugins.generation.entries if e.name == "Look")
    seen = look.__globals__["seen"]  # type: ignore[attr-defined]
    assert len({row["req_id"] for row in seen}) == 40
    first = seen[0]
    expected = {
        "host": "127.0.0.1",
        "agent": "me",
        "authorization": None,  # a plugin has no business with a client's key
        "method": "POST",
        "path": "/v1/chat/completions",
        "pool": [("echo", "echo")],
        "breaker": True,
        "state": [1],
        "other": {"a": 1},
        "identity": "unverified",
        "restored": "ann@example.org",
        "vault": 1,
        "weight": 0.3,
        "priority": False,
        "error": None,
        "stop": False,
        "rewritten": True,
    }
    assert {key: first[key] for key in expected} == expected
    supplied = {"rotator", "req_id", "api_key", "_key_prefix", "_cache_control", "_user_roles"}
    assert supplied | {"_request_start_time"} <= set(first["keys"])


async def test_class_and_function_plugins_are_told_apart_and_their_timeouts_hold(
    bench: Bench, tmp_path: Path
) -> None:
    source = """
        import asyncio
        from core.plugin_sdk import BasePlugin

        class Slow(BasePlugin):
            timeout_ms = %s
            async def execute(self, ctx):
                await asyncio.sleep(30)

        async def slow(ctx):
            await asyncio.sleep(30)
    """
    write(tmp_path, "slow", source % 40)
    write(tmp_path, "plain", source.replace("timeout_ms = %s", "pass"))
    rows = {
        # entry: the limit that holds, in ms
        "class says": ({"entrypoint": "slow:Slow"}, 40),
        "manifest says": ({"entrypoint": "slow:Slow", "timeout_ms": 20}, 20),
        "nobody says, class": ({"entrypoint": "plain:Slow"}, 50),
        "nobody says, function": ({"entrypoint": "plain:slow"}, 500),
        "manifest says, function": ({"entrypoint": "slow:slow", "timeout_ms": 30}, 30),
    }
    manifest = [{"name": n, "hook": "pre_flight", **row} for n, (row, _) in rows.items()]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": manifest}))
    await bench.manager.load_plugins()
    assert {m["name"]: m["timeout_ms"] for m in bench.manager.list_plugins() if m["loaded"]} == {
        name: limit for name, (_, limit) in rows.items()
    }
    ctx = await bench.request(bench.context({"messages": []}))
    assert ctx.error == "Plugin manifest says, function timed out"
    assert not ctx.stop_chain
    for stats in bench.manager.get_plugin_stats().values():
        assert (stats["timeouts"], stats["errors"], stats["invocations"]) == (1, 1, 1)


# ---- table 1.8: the fail policy, ring by ring, as the pages of the documentation promise it


@pytest.mark.parametrize("policy", [None, "open", "closed"])
@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("how", ["raises", "times out", "answers nonsense"])
async def test_a_failure_follows_the_policy_of_its_row_or_of_its_ring(
    bench: Bench, tmp_path: Path, ring: str, policy: str | None, how: str
) -> None:
    source = """
        import asyncio
        from core.plugin_sdk import BasePlugin

        class Bad(BasePlugin):
            async def execute(self, ctx):
                if self.config["how"] == "raises":
                    raise ZeroDivisionError("x")
                if self.config["how"] == "times out":
                    await asyncio.sleep(30)
                return "nonsense"

        async def after(ctx):
            ctx.metadata["after"] = True
    """
    write(tmp_path, "bad", source)
    bad = {"name": "Bad", "hook": ring, "entrypoint": "bad:Bad", "timeout_ms": 10}
    bad |= {"config": {"how": how}, **({"fail_policy": policy} if policy else {})}
    rows = [bad, {"name": "After", "hook": ring, "entrypoint": "bad:after"}]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    await bench.manager.load_plugins()
    ctx: PluginContext = bench.context({"messages": []})
    await bench.manager.execute_ring(PluginHook(ring), ctx)
    closed = policy == "closed" or (policy is None and ring in ("ingress", "routing"))
    assert ctx.stop_chain is closed
    assert bool(ctx.metadata.get("after")) is not closed
    assert ctx.error  # said in either case
    assert "timed out" in ctx.error or how != "times out"
    stats = bench.manager.get_plugin_stats("Bad")
    assert (stats["errors"], stats["consecutive_errors"]) == (1, 1)


async def test_ten_failures_in_a_row_quarantine_a_plugin_and_a_closed_one_then_refuses(
    bench: Bench, tmp_path: Path
) -> None:
    write(tmp_path, "bad", "async def run(ctx):\n    raise OSError('x')\n")
    rows = [
        {"name": p, "hook": "pre_flight", "entrypoint": "bad:run", "fail_policy": p}
        for p in ("open", "closed")
    ]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    await bench.manager.load_plugins()
    for _ in range(12):
        ctx = await bench.request(bench.context({"messages": []}))
        assert ctx.stop_chain
    stats = bench.manager.get_plugin_stats()
    assert [row["invocations"] for row in stats.values()] == [10, 10]
    assert all(row["quarantined"] for row in stats.values())
    assert ctx.metadata["_block_error_type"] == "plugin_quarantined"


# ---- manifests, as they are found in the wild

ENTRIES: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"type": "python", "version": 1, "priority": -5.5, "unknown": True}, None),
    ({"hook": "PRE_FLIGHT"}, None),
    ({"hook": "lunch"}, "'hook'"),
    ({"entrypoint": None}, "'entrypoint' is missing"),
    ({"entrypoint": "good"}, "folder.module:Name"),
    ({"entrypoint": "good:run:run"}, "folder.module:Name"),
    ({"entrypoint": "good:nobody"}, "has no 'nobody'"),
    ({"entrypoint": "nowhere:run"}, "no file"),
    ({"entrypoint": "..good:run"}, "leads out"),
    ({"entrypoint": "good:sync"}, "neither a BasePlugin class nor an async function"),
    ({"entrypoint": "good:NoConfig"}, "config"),
    ({"entrypoint": "good:FailsToLoad"}, "on_load failed"),
    ({"entrypoint": "broken:run"}, "Syntax error"),
    ({"entrypoint": "spy:run"}, "Forbidden import"),
    ({"entrypoint": "dies:run"}, "ZeroDivisionError"),
    ({"type": "lua"}, "'type'"),
    ({"priority": "high"}, "'priority' must be a number"),
    ({"fail_policy": "shut"}, "'fail_policy'"),
    ({"config": [1]}, "'config' must be a mapping"),
    ({"name": None}, "'name' is missing"),
    ({"sha256": "0" * 64}, "not the file that was pinned"),
]


async def test_one_bad_entry_concerns_no_other_and_is_listed_with_its_reason(
    bench: Bench, tmp_path: Path
) -> None:
    write(
        tmp_path,
        "good",
        """
        from core.plugin_sdk import BasePlugin

        async def run(ctx):
            ctx.metadata["ran"] = ctx.metadata.get("ran", 0) + 1

        def sync(ctx):
            pass

        class NoConfig(BasePlugin):
            def __init__(self):
                pass

        class FailsToLoad(BasePlugin):
            async def on_load(self):
                raise LookupError("on_load failed")
        """,
    )
    write(tmp_path, "broken", "def run(:\n")
    write(tmp_path, "spy", "import subprocess\nasync def run(ctx): pass\n")
    write(tmp_path, "dies", "1 / 0\n")
    base = {"hook": "pre_flight", "entrypoint": "good:run"}
    rows = [{"name": f"p{n}", **base, **entry} for n, (entry, _) in enumerate(ENTRIES)]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": [*rows, "no mapping"]}))
    await bench.manager.load_plugins()
    metas = {m["name"]: m for m in bench.manager.list_plugins() if m["source"] == "bundled"}
    for number, (entry, problem) in enumerate(ENTRIES):
        meta = metas.get(f"p{number}") or metas[f"#{number}"]
        assert meta["loaded"] is (problem is None), (entry, meta["problem"])
        assert problem is None or problem in meta["problem"], (entry, meta["problem"])
    ctx = await bench.request(bench.context({"messages": []}))
    assert ctx.metadata["ran"] == sum(problem is None for _, problem in ENTRIES)


async def test_plugins_run_by_priority_and_file_order_installed_ones_among_them(
    bench: Bench, tmp_path: Path
) -> None:
    source = "async def {0}(ctx):\n    ctx.metadata.setdefault('order', []).append('{0}')\n"
    write(tmp_path, "order", "".join(source.format(name) for name in "abcdef"))

    def row(name: str, *priority: float) -> dict[str, Any]:
        made: dict[str, Any] = {"name": name, "hook": "pre_flight", "entrypoint": f"order:{name}"}
        return {**made, "allow_inprocess": True, **({"priority": priority[0]} if priority else {})}

    bundled = [row("a"), row("b", 5), row("c"), row("d", -1), row("e", 7)]
    installed = [row("f", 6), {**row("e", 4), "entrypoint": "order:f"}]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": bundled}))
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed/manifest.yaml").write_text(json.dumps({"plugins": installed}))
    await bench.manager.load_plugins()
    ctx = await bench.request(bench.context({"messages": []}))
    assert ctx.metadata["order"] == ["d", "f", "b", "f", "a", "c"]


async def test_rows_put_into_rings_by_hand_run_and_are_counted(tmp_path: Path) -> None:
    """As plugin authors test their plugins with the engine."""
    from core.plugin_engine import PluginContext as Context
    from core.plugin_engine import PluginHook as Hook
    from core.plugin_engine import PluginManager, PluginState
    from core.plugin_sdk import BasePlugin, PluginResponse

    class Blocks(BasePlugin):
        name = "blocks"

        async def execute(self, ctx: Any) -> PluginResponse:
            return PluginResponse.block(402, "pay", "Pay first")

    async def marks(ctx: Any) -> None:
        ctx.metadata["marked"] = ctx.state.extra["mark"]

    manager = PluginManager(plugins_dir=str(tmp_path))
    manager.rings[Hook.PRE_FLIGHT] = [
        {
            "type": "python",
            "func": marks,
            "name": "marks",
            "timeout_ms": 100,
            "fail_policy": "open",
        },
        {"type": "class", "instance": Blocks(config={"a": 1}), "name": "blocks"},
        {"type": "python", "func": marks, "name": "never"},
    ]
    ctx = Context(body={"messages": []}, session_id="x", state=PluginState(extra={"mark": 7}))
    await manager.execute_ring(Hook.PRE_FLIGHT, ctx)
    assert ctx.metadata["marked"] == 7
    assert (ctx.stop_chain, ctx.error) == (True, "Pay first")
    assert ctx.metadata["_block_status"] == 402
    assert ctx.metadata["_block_error_type"] == "pay"
    stats = manager.get_plugin_stats()
    assert [stats[n]["invocations"] for n in ("marks", "blocks")] == [1, 1]
    assert stats["blocks"]["blocks"] == 1
    assert set(stats["marks"]["latency_percentiles"]) == {"p50", "p95", "p99"}
    assert manager.get_plugin_stats("nobody") == {}
    assert PluginManager._percentiles([1.0, 2.0, 3.0, 4.0]) == {"p50": 3.0, "p95": 4.0, "p99": 4.0}
    assert (manager.PLUGIN_CB_THRESHOLD, manager.PLUGIN_CB_COOLDOWN) == (10, 60.0)
    assert manager.installed_dir == tmp_path / "installed"
    assert manager.manifest_path == tmp_path / "manifest.yaml"
    await manager.close()
