"""WebAssembly plugins: what a guest gets, what its answers do, and where it is stopped."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_proxy import _core
from llm_proxy.assembly import make_server
from llm_proxy.rings.context import Headers, PluginContext, Reply
from llm_proxy.rings.runtime import wasm_runner
from llm_proxy.rings.runtime.swap import SwapRefused
from llm_proxy.rings.runtime.wasm_runner import (
    GuestPool,
    WasmError,
    WasmLimits,
    WasmPlugin,
    WasmRunner,
    parse_answer,
)
from llm_proxy.rings.sdk import PluginHook, PluginResponse
from repo import ROOT
from rings.conftest import Bench, completion
from rings.test_all_at_once import CONFIG, ask

pytest.importorskip("extism_sys", reason="the extra 'wasm' is not installed")

LAB = ROOT / "tests_py/wasm/lab.wasm"
EXAMPLES = ROOT / "plugins_examples/wasm_guests"
FUZZED = int(os.environ.get("LLM_PROXY_WASM_FUZZ", "10000"))


def row(name: str = "Guest", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "wasm",
        "hook": "pre_flight",
        "entrypoint": "wasm/guest",
        "timeout_ms": 300,
        "limits": {"memory_mb": 16, "instances": 2},
        **more,
    }


class Guests(Bench):
    """A manager whose directory holds guests."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.directory = directory
        (directory / "wasm").mkdir()

    async def start(self, *rows: dict[str, Any], guest: Path = LAB) -> None:
        shutil.copy(guest, self.directory / "wasm/guest.wasm")
        (self.directory / "manifest.yaml").write_text(json.dumps({"plugins": list(rows)}))
        await self.manager.load_plugins()
        for meta in self.manager.list_plugins():
            assert not meta["enabled"] or meta["loaded"], meta["problem"]


@pytest.fixture
async def guests(tmp_path: Path) -> AsyncIterator[Guests]:
    made = Guests(tmp_path)
    yield made
    await made.manager.generation.unload()
    await made.manager.close()


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def says(answer: Any) -> dict[str, Any]:
    """A body that makes the lab guest answer with exactly these bytes."""
    raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return {"say": raw.hex(), **chat()}


# ---- limits

STOPPED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # what it does: its row, the request, what the error says
    "loops": ({"limits": {"fuel": None}}, {"mode": "loop"}, "timed out"),
    "loops without a word on fuel": ({"timeout_ms": 20_000}, {"mode": "loop"}, "fuel"),
    "burns its fuel": ({"limits": {"fuel": 1_000_000}}, {"mode": "loop"}, "fuel"),
    "allocates": ({}, {"mode": "allocate"}, "oom"),
    "traps": ({}, {"mode": "trap"}, "wasm backtrace"),
    "recurses without end": ({}, {"mode": "deep"}, "wasm backtrace"),
    "reports a failure": ({}, {"mode": "fail"}, "no, thank you"),
    "says nothing": ({}, {"mode": "silent"}, "no JSON"),
    "says no JSON": ({}, says(b"\xff\xfe{"), "no JSON"),
    "says no object": ({}, says([1]), "list, not an object"),
    "modifies nothing": ({}, says({"action": "modify"}), "without"),
    "hits with nothing": ({}, says({"action": "cache_hit"}), "without"),
}


@pytest.mark.parametrize("policy", ["open", "closed"])
@pytest.mark.parametrize("what", STOPPED)
async def test_a_guest_is_stopped_at_each_limit_and_its_policy_holds(
    guests: Guests, what: str, policy: str
) -> None:
    more, body, said = STOPPED[what]
    await guests.start(row(fail_policy=policy, **more))
    ctx = await guests.request(guests.context({**chat(), **body}))
    assert said in str(ctx.error)
    assert ctx.stop_chain is (policy == "closed")
    stats = guests.manager.get_plugin_stats("Guest")
    assert (stats["errors"], stats["timeouts"]) == (1, int(what == "loops"))
    ctx = await guests.request(guests.context(says({"action": "allow"})))
    assert (ctx.error, ctx.stop_chain) == (None, False)  # and it serves the next request


async def test_a_looping_guest_delays_neither_the_lane_nor_another_guest(guests: Guests) -> None:
    loops = row("Loops", config={"mode": "loop"}, timeout_ms=400, limits={"fuel": None})
    await guests.start(loops, row("Passes", hook="ingress", config={"say": b"{}".hex()}))
    started = [asyncio.ensure_future(guests.request(guests.context(chat()))) for _ in range(3)]
    beats = 0
    while not all(task.done() for task in started):
        ctx = guests.context(chat())
        await guests.manager.execute_ring(PluginHook.INGRESS, ctx)
        assert ctx.error is None
        beats += 1
        await asyncio.sleep(0)
    assert beats > 50
    assert guests.manager.get_plugin_stats("Loops")["timeouts"] == 3


async def test_a_guest_that_failed_forgets_what_it_knew(guests: Guests) -> None:
    await guests.start(row(limits={"instances": 1}))
    counts = []
    for mode in ("count", "count", "trap", "count"):
        ctx = await guests.request(guests.context(chat(mode=mode)))
        counts.append(ctx.body.get("calls"))
    assert counts == [1, 2, None, 1]


async def test_many_calls_at_once_each_get_their_own_answer(guests: Guests) -> None:
    await guests.start(row(limits={"instances": 4}))
    bodies = [says({"action": "modify", "body": {"n": n}}) for n in range(200)]
    contexts = await asyncio.gather(*(guests.request(guests.context(body)) for body in bodies))
    assert [ctx.body for ctx in contexts] == [{"n": n} for n in range(200)]
    threads = guests.instance("Guest").runner._threads
    assert 1 <= len(threads._threads) <= 4


def test_a_call_under_way_survives_the_unloading_of_its_guest() -> None:
    pool = GuestPool(LAB.read_bytes(), WasmLimits(timeout_ms=200), {})
    seen: list[str] = []

    def loop() -> None:
        try:
            pool.call("handle", b'{"mode":"loop"}')
        except WasmError as error:
            seen.append(str(error))

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    pool.close()
    for thread in threads:
        thread.join()
    assert len(seen) == 2
    with pytest.raises(WasmError, match="unloaded"):
        pool.call("echo", b"")


# ---- fuzzing


def _fuzzed(number: int) -> bytes:
    """Half well-formed answers with odd values, half damaged ones."""
    chance = random.Random(number)
    odd = [None, True, -1, 0, 200, 403, 10**30, 1e308, "", "x", "\ud800", "\r\nX: y", [], [[]], {},
           {"body": {}}, {"status_code": "no", "body": 1}, {"messages": None},
           {"messages": [None, {"content": 1}]}, {"headers": {"a\nb": "c", "d": 5}, "body": ""},
           {"status_code": 204, "headers": {"x": "y\r\nz"}, "body": "é"}]  # fmt: skip
    keys = ["body", "status_code", "error_type", "message", "reason", "clean_prompt", "response"]
    actions = ["passthrough", "allow", "modify", "MODIFIED", "block", "cache_hit", "?", None, 7]
    answer: dict[str, Any] = {"action": chance.choice(actions)}
    for key in keys:
        if chance.random() < 0.5:
            answer[key] = chance.choice(odd)
    raw = bytearray(
        json.dumps(answer, ensure_ascii=chance.random() < 0.5).encode("utf-8", "replace")
    )
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
    if chance.random() < 0.1:
        raw = bytearray(b"[" * chance.randint(1, 20_000)) + raw
    if chance.random() < 0.1:
        raw = bytearray(chance.randbytes(chance.randint(0, 300)))
    return bytes(raw)


async def test_no_output_of_a_guest_harms_the_host(
    guests: Guests, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "llm_proxy.plugins")  # thousands of tracebacks
    rows = (row(), row("Reply", hook="post_flight"))
    await guests.start(*rows)
    ends = {"passed": 0, "failed": 0, "blocked": 0, "answered": 0}
    for number in range(FUZZED):
        body = says(_fuzzed(number))
        ctx = await guests.request(guests.context(body))
        ends[_end(ctx)] += 1
        after = guests.context(body)
        after.response = Reply(json.dumps(completion("well")).encode())
        await guests.manager.execute_ring(PluginHook.POST_FLIGHT, after)
        assert after.response is not None
        if number % 5 == 4:  # else a streak of failures would put the guest into quarantine
            for entry in guests.manager.generation.entries:
                assert entry.record.invocations == 5
                entry.record = _core.PluginRecord()
    assert min(ends.values()) > 0, ends


def _end(ctx: PluginContext) -> str:
    if ctx.metadata.get("_block_status"):
        assert 400 <= ctx.metadata["_block_status"] <= 599
        return "blocked"
    if ctx.response is not None:
        assert isinstance(ctx.response, Reply) and 200 <= ctx.response.status_code <= 599
        lines = [*ctx.response.headers, *ctx.response.headers.values()]
        assert not any("\n" in line or "\r" in line for line in lines)
        return "answered"
    assert isinstance(ctx.body, dict)
    return "failed" if ctx.error else "passed"


# ---- the protocol

ANSWERS: list[tuple[Any, dict[str, Any]]] = [
    ({"action": "passthrough"}, {"action": "passthrough"}),
    ({}, {"action": "passthrough"}),
    ({"action": None}, {"action": "passthrough"}),
    ({"action": "ALLOW"}, {"action": "passthrough"}),
    ({"action": "dance"}, {"action": "passthrough"}),
    ({"action": "Modified", "body": {"a": 1}}, {"action": "modify", "body": {"a": 1}}),
    ({"action": "modify", "clean_prompt": "x"}, {"body": {"_wasm_clean_prompt": "x"}}),
    (
        {"action": "block"},
        {"status_code": 403, "error_type": "wasm_block", "message": "Blocked by WASM plugin"},
    ),
    ({"action": "block", "reason": "because"}, {"message": "because"}),
    ({"action": "block", "message": "m", "reason": "r"}, {"message": "m"}),
    ({"action": "block", "status_code": 418, "error_type": "tea"}, {"status_code": 418}),
    ({"action": "block", "status_code": 200}, {"status_code": 403}),
    ({"action": "block", "status_code": "429"}, {"status_code": 403}),
    ({"action": "block", "status_code": 99999}, {"status_code": 403}),
    ({"action": "cache_hit", "response": {"id": 1}}, {"response": {"id": 1}}),
]


@pytest.mark.parametrize(("said", "expected"), ANSWERS)
def test_an_answer_means_what_the_protocol_says(said: Any, expected: dict[str, Any]) -> None:
    made = parse_answer(json.dumps(said))
    assert {key: getattr(made, key) for key in expected} == expected


async def test_a_guest_gets_body_metadata_session_and_configuration_but_no_objects(
    guests: Guests,
) -> None:
    await guests.start(row(config={"mode": "input", "depth": 3}))
    ctx = guests.context(chat(), api_key="k", odd=object(), deep=[{"a": float("nan")}])
    ctx = await guests.request(ctx)
    seen = json.loads(bytes.fromhex(ctx.body["input"]))
    assert seen["body"] == chat()
    assert seen["session_id"] == "s"
    assert seen["config"] == {"mode": "input", "depth": 3}
    assert seen["metadata"] == {"api_key": "k", "deep": [{"a": None}]}
    assert "response" not in seen


async def test_a_clean_prompt_becomes_the_last_message_of_the_user(guests: Guests) -> None:
    await guests.start(row())
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    for content, after in (
        ("dirty", "clean"),
        (parts, [{**parts[0], "text": "clean"}, parts[1], {**parts[2], "text": ""}]),
    ):
        body = says({"action": "modify", "clean_prompt": "clean"})
        body["messages"] = [{"role": "user", "content": content}, {"role": "assistant"}]
        ctx = await guests.request(guests.context(body))
        assert ctx.body["messages"][0]["content"] == after
        assert ctx.body["model"] == "m"
        assert ctx.metadata["_wasm_clean_prompt"] == "clean"


async def test_a_guest_sees_the_reply_and_may_change_or_refuse_it(guests: Guests) -> None:
    await guests.start(row("Reads", hook="post_flight", config={"mode": "input"}))
    ctx = guests.context(chat())
    reply = Reply(json.dumps(completion("well")).encode(), 201, Headers({"x-a": "b"}))
    ctx.response = reply
    await guests.manager.execute_ring(PluginHook.POST_FLIGHT, ctx)
    seen = json.loads(bytes.fromhex(ctx.body["input"]))["response"]
    assert seen["body"] == completion("well")
    assert (seen["status_code"], seen["headers"]) == (201, {"x-a": "b"})
    await guests.start(row("Writes", hook="post_flight"))
    for said, status, text in (
        ({"choices": []}, 201, '{"choices":[]}'),
        ({"status_code": 202, "body": "plain"}, 202, "plain"),
    ):
        ctx = guests.context(says({"action": "modify", "response": said}))
        ctx.response = reply
        await guests.manager.execute_ring(PluginHook.POST_FLIGHT, ctx)
        assert ctx.error is None
        assert (ctx.response.status_code, ctx.response.body.decode()) == (status, text)
        assert ctx.response.headers["x-a"] == "b"


# ---- files, pins, swaps


@pytest.mark.parametrize(
    "entrypoint",
    ["wasm/guest", "wasm.guest", "wasm/guest.wasm", "plugins/wasm/guest.wasm"],
)
async def test_each_spelling_of_the_entrypoint_finds_the_file(
    guests: Guests, entrypoint: str
) -> None:
    await guests.start(row(entrypoint=entrypoint))


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"entrypoint": "wasm/nobody"}, "no file"),
    ({"entrypoint": "../../etc/passwd"}, "leads out"),
    ({"sha256": "00"}, "not the file that was pinned"),
    ({"hook": "lunch"}, "'hook'"),
    ({"limits": {"memory_mb": -1}}, "limits.memory_mb"),
    ({"limits": {"teeth": 1}}, "limits.teeth"),
    ({"entrypoint": "wasm/text"}, "Unable to compile"),
    ({"entrypoint": "wasm/no_handle"}, "exports no function 'handle'"),
    ({"entrypoint": "wasm/wasi"}, "wasi_snapshot_preview1"),
]
_HEAD = b"\0asm\x01\0\0\0"
_TYPE = b"\x01\x05\x01\x60\x00\x01\x7f"  # () -> i32
_WASI = b"\x02\x24\x01\x16wasi_snapshot_preview1\x09sched_yie\x00\x00"


@pytest.mark.parametrize(("wrong", "said"), BROKEN)
async def test_a_guest_that_cannot_be_loaded_says_why_and_the_others_run(
    guests: Guests, wrong: dict[str, Any], said: str
) -> None:
    folder = guests.directory / "wasm"
    (folder / "text.wasm").write_text("text")
    (folder / "no_handle.wasm").write_bytes(_HEAD)
    (folder / "wasi.wasm").write_bytes(_HEAD + _TYPE + _WASI + b"\x07\x0a\x01\x06handle\x00\x00")
    shutil.copy(LAB, folder / "guest.wasm")
    rows = [row("Bad", **wrong), row("Good")]
    (guests.directory / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    await guests.manager.load_plugins()
    bad, good = (guests.manager.get_plugin(name) for name in ("Bad", "Good"))
    assert bad is not None and not bad["loaded"] and said in bad["problem"]
    assert good is not None and good["loaded"]


async def test_a_pinned_guest_loads_and_an_installed_one_needs_no_leave(guests: Guests) -> None:
    digest = hashlib.sha256(LAB.read_bytes()).hexdigest()
    await guests.start(row(sha256=digest.upper()))
    assert await guests.manager.install_plugin(row("Mine", sha256=digest))
    meta = guests.manager.get_plugin("Mine")
    assert meta is not None and meta["loaded"] and meta["type"] == "wasm"


async def test_one_guest_is_swapped_while_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "wasm").mkdir()
    guest = tmp_path / "wasm/guest.wasm"
    shutil.copy(EXAMPLES / "word_guard.wasm", guest)
    config = {"words": ["dear"], "action": "mask", "mode": "loop"}
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": [row(config=config)]}))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        body = {"model": "m", "messages": [{"role": "user", "content": "Oh dear"}]}
        assert "Oh ****" in (await ask(server, "/v1/chat/completions", body)).text
        shutil.copy(LAB, guest)  # it loops: the health check refuses it
        with pytest.raises(SwapRefused, match="Guest"):
            await plugins.hot_swap()
        assert "Oh ****" in (await ask(server, "/v1/chat/completions", body)).text
        shutil.copy(EXAMPLES / "secret_filter.wasm", guest)
        await plugins.hot_swap()
        assert "Oh dear" in (await ask(server, "/v1/chat/completions", body)).text
        assert await plugins.rollback()
        assert "Oh ****" in (await ask(server, "/v1/chat/completions", body)).text


async def test_without_the_runtime_a_guest_says_how_to_get_it(
    guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wasm_runner, "_extism_available", False)
    shutil.copy(LAB, guests.directory / "wasm/guest.wasm")
    (guests.directory / "manifest.yaml").write_text(json.dumps({"plugins": [row()]}))
    await guests.manager.load_plugins()
    meta = guests.manager.get_plugin("Guest")
    assert meta is not None and "pip install 'llm-interactive-proxy[wasm]'" in meta["problem"]
    assert await WasmRunner(LAB).load() is False


def test_nothing_loads_the_runtime_before_the_first_guest() -> None:
    code = "import sys, llm_proxy.rings.runtime.manager; sys.exit('extism_sys' in sys.modules)"
    where = os.pathsep.join(str(ROOT / part) for part in ("python", "python/compat"))
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": where}
    )


# ---- the runner by itself


class Fake:
    def __init__(self, output: bytes) -> None:
        self.output = output
        self.calls: list[tuple[str, Any]] = []

    def call(self, name: str, data: bytes) -> bytes:
        self.calls.append((name, json.loads(data)))
        return self.output


async def test_the_runner_calls_handle_and_lets_pass_what_fails() -> None:
    runner = WasmRunner("x.wasm", {"a": 1})
    assert (await runner.execute({})).action == "passthrough"  # not loaded
    fake = Fake(b'{"action":"block","status_code":451}')
    runner._loaded, runner._plugin = True, fake
    answer = await runner.execute({"model": "m"}, {"k": object()}, "s")
    assert (answer.action, answer.status_code) == ("block", 451)
    call = {"body": {"model": "m"}, "metadata": {}, "session_id": "s", "config": {"a": 1}}
    assert fake.calls == [("handle", call)]
    fake.output = b"garbage"
    assert (await runner.execute({})).action == "passthrough"
    assert runner._parse_result(b"[]").action == "passthrough"
    await runner.unload()
    assert not runner._loaded


async def test_hand_built_rows_run_their_runner_or_nothing(guests: Guests) -> None:
    class Runner:
        async def execute(self, body: Any, metadata: Any, session_id: str) -> PluginResponse:
            return PluginResponse.modify({"seen": session_id})

    for runner, after in ((Runner(), {"seen": "s"}), (None, {"a": 1})):
        guests.manager.rings[PluginHook.PRE_FLIGHT] = [
            {"type": "wasm", "path": "x", "name": "x", "_runner": runner}
        ]
        ctx = await guests.request(guests.context({"a": 1}))
        assert ctx.body == after


async def test_a_loaded_guest_is_a_row_with_its_path_and_runner(guests: Guests) -> None:
    await guests.start(row())
    (made,) = guests.manager.rings[PluginHook.PRE_FLIGHT]
    assert made["type"] == "wasm" and made["path"].endswith("guest.wasm")
    assert isinstance(made["_runner"], WasmRunner)
    assert isinstance(guests.instance("Guest"), WasmPlugin)


# ---- the examples


@pytest.mark.parametrize("frontend", ["/v1/chat/completions", "/v1/messages"])
async def test_the_word_guard_blocks_and_masks_over_http(tmp_path: Path, frontend: str) -> None:
    (tmp_path / "wasm").mkdir()
    shutil.copy(EXAMPLES / "word_guard.wasm", tmp_path / "wasm/guest.wasm")
    rows = [
        row("Mask", config={"words": ["dear", "straße"], "action": "mask"}, priority=2),
        row("Block", config={"words": ["swordfish"]}, priority=1),
    ]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        for text, status, said in (
            ("the SwordFish", 400, "The word 'swordfish' is not allowed here"),
            ("My DEAR friend 🎈 Straße", 200, "My **** friend 🎈 ******"),
            ("plain", 200, "plain"),
        ):
            body["messages"] = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            answer = await ask(server, frontend, body)
            assert (answer.status_code, said in answer.text) == (status, True), answer.text


async def test_the_secret_filter_cleans_replies_over_http(tmp_path: Path) -> None:
    (tmp_path / "wasm").mkdir()
    shutil.copy(EXAMPLES / "secret_filter.wasm", tmp_path / "wasm/guest.wasm")
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": [row(hook="post_flight")]}))
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    body = chat(f"the key is {key}, the word sk-short")
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        text = (await ask(server, "/v1/chat/completions", body)).text
    assert key not in text
    assert "the key is [removed], the word sk-short" in text


@pytest.mark.parametrize("stream", ["observe", "buffer"])
async def test_a_guest_may_hold_streams_and_replace_them(tmp_path: Path, stream: str) -> None:
    (tmp_path / "wasm").mkdir()
    shutil.copy(EXAMPLES / "secret_filter.wasm", tmp_path / "wasm/guest.wasm")
    made = row(hook="post_flight", stream=stream)
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": [made]}))
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        body = chat(f"the key is {key}", stream=True)
        text = (await ask(server, "/v1/chat/completions", body)).text
        assert server.plugins is not None
        assert server.plugins.get_plugin_stats("Guest")["invocations"] == 1
    assert ("[removed]" in text) is (stream == "buffer")
    assert text.rstrip().endswith("data: [DONE]")


async def test_a_guest_is_installed_configured_and_removed_over_http(tmp_path: Path) -> None:
    (tmp_path / "wasm").mkdir()
    shutil.copy(EXAMPLES / "word_guard.wasm", tmp_path / "wasm/guest.wasm")
    body = chat("the swordfish")
    path = "/v1/chat/completions"
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        made = row(config={"words": ["swordfish"]})
        assert (await ask(server, "/api/v1/plugins/install", made)).status_code == 200
        assert (await ask(server, path, body)).status_code == 400
        base = f"http://127.0.0.1:{server.port}/api/v1/plugins/Guest"
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            changed = await http.put(f"{base}/config", json={"words": ["other"]})
            assert changed.status_code == 200, changed.text
            assert (await ask(server, path, body)).status_code == 200
            stats = (await http.get(base)).json()["stats"]
            assert stats["invocations"] == 2 and stats["latency_percentiles"]["p50"] > 0
            assert (await http.delete(base)).status_code == 200
            assert (await http.get(base)).status_code == 404
