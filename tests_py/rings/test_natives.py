"""The default plugins in C++ do what the same plugins do in Python."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from llm_proxy import _core
from llm_proxy.rings.runtime.manager import PluginManager
from llm_proxy.rings.sdk import PluginHook
from llm_proxy.rings.services import host as ring_host
from llm_proxy.rings.services import pii
from rings.conftest import completion
from rings.test_native_scans import PIECES, REAL

NINE = (
    "Ingress Auth",
    "Aider Context Minifier",
    "PII Neural Masker",
    "WAF-Aware Cache Lookup",
    "Smart Router",
    "Speculative Kill-Switch",
    "Post-Flight Sanitizer",
    "JSON Auto-Healer",
    "Unified Telemetry & FinOps",
)

# ---- the masker's patterns

NEAR = [
    "a@b.co", "a@b.c", "a@b.co1", "@b.co", "a@.b.co", "a..b@c-d.e.fr-", "x" * 70 + "@y.org",
    "a@" + "b." * 9 + "com", "a.@b.org", ".a@b.org", "a@b_c.org", "1234-5678-9012-3456",
    "4111-1111 11111111", "4111111111111111-", ".4111111111111111", "34", "3782822463100051",
    "000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "123-45-67890",
    "+1 (555) 123-4567", "+1234567890123456789012345678", "+1-2-3-4-5-67", "(555)123-4567",
    "555-123-4567x", "+49 (0)30 123", "1.2.3.4", "1.2.3.4.5", "256.1.1.1", "127.0.0.1", "0.0.0.0",
    "01.2.3.4", "1.2.3.4a5", "1.2.3.4a", "v1.2.3.4", "DE89370400440532013000", "DE89 3704 0044",
    "DE89 3704 0044 0532 0130 0", "AB12 CDEF GHIJ KLM", "sk-short", "xsk-abcdefghijklmnopq",
    "xoxq-1234567890", "gha_abcdefghijklmnopqrst", "AKIAABCDEFGHIJKLMNO", "AIzaSyShort",
    "AKIAABCDEFGHIJKLMNOP4111111111111111", "’", "“x”", "—", "…", "\t", "\r\n", "0", "]",
]  # fmt: skip


def masked_in_python(text: str) -> tuple[str, dict[str, str]]:
    vault = pii.Vault("t")
    return vault.mask(text), vault.values


def texts_of_all_sorts(count: int) -> list[str]:
    dice = random.Random(17)
    pieces = [*PIECES, *NEAR]
    texts = [*REAL, *NEAR, *(f"x {value}, y" for value in (*REAL, *NEAR))]
    texts += ["".join(dice.choices(pieces, k=dice.randint(1, 10))) for _ in range(count)]
    signs = "0123456789 .-+()@aZ_[]"
    texts += ["".join(dice.choices(signs, k=dice.randint(5, 60))) for _ in range(count)]
    # What a request can hold: half a character cannot be in it natively.
    return [text for text in texts if not any("\ud800" <= letter <= "\udfff" for letter in text)]


def test_the_native_masker_finds_what_the_patterns_find() -> None:
    found = left = 0
    for text in texts_of_all_sorts(6000):
        native = _core.mask_pii(text, pii.SECRET, "t")
        if native is None:
            left += 1
            assert not text.isascii(), text
            continue
        wanted = masked_in_python(text)
        assert native == wanted, text
        found += native[0] != text
    assert found > 1500
    assert left < 4000


def test_one_long_number_costs_the_native_masker_next_to_nothing() -> None:
    text = "+1 23 45 67 89 01 23 45 67 89x " * 2000
    assert _core.mask_pii(text, pii.SECRET, "t") is not None


# ---- whole chains


class Two:
    """The nine plugins natively and in Python, side by side."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.managers: dict[bool, PluginManager] = {}
        self.lane = _core.Lane(asyncio.get_running_loop())

    async def load(self, backends: tuple[str, ...] = (), **settings: Any) -> None:
        for native in (True, False):
            manager = PluginManager(None, settings, enable=NINE)
            manager.run_natively = native
            manager.bind(self.lane)
            await manager.load_plugins()
            names = [entry.name for entry in manager.generation.entries]
            assert len(names) == 12, names
            rows = [{"name": name, "models": ["m"]} for name in backends or ("one",)]
            manager.set_backends(rows)
            self.managers[native] = manager

    async def both(self, run: Callable[[Any], Any], body: bytes, **headers: str) -> list[Any]:
        out = []
        for manager in self.managers.values():
            ring_host.endpoint_stats.erase("one")
            probe = _core.RingProbe(self.lane, manager.host(), body, "", headers)
            out.append(await run(probe))
        return out

    def crossings(self) -> int:
        return self.lane.counters()["jobs"]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    made = Two(tmp_path)
    yield made
    for manager in made.managers.values():
        await manager.generation.unload()
        await manager.close()
    made.lane.close()


async def settled(manager: PluginManager) -> None:
    """Nobody is told when the background ring has ended."""
    entries = [e for e in manager.generation.entries if e.ring is PluginHook.BACKGROUND]
    for _ in range(1000):
        if all(entry.record.invocations for entry in entries):
            return
        await asyncio.sleep(0)
    raise AssertionError("the background ring did not run")


def readable(verdict: dict[str, Any]) -> dict[str, Any]:
    """A verdict without what may differ: blanks in JSON, and where a message stood."""
    shown = {k: v for k, v in verdict.items() if k not in ("messages_from", "changed_keys")}
    if shown.get("body"):
        shown["body"] = json.loads(shown["body"])
    if verdict["kind"] == "replace":
        for key in ("headers", "plugin", "ring", "status"):
            shown.pop(key, None)
    return shown


LONG = "A line.  \n\n\n\n  indented = True\t\n" * 60
CODE = "```python\nx = '''a  \n\n\n\nb'''\n```\n" * 60
HINDI = "नमस्ते, मेरा पता ann@example.org है। " * 5
CHINESE = "我的邮箱是 ann@example.org，电话 +86 138 1234 5678。"
SECRETS = "Write to ann@example.org or call (555) 123-4567; card 4111 1111 1111 1111."
USER = {"role": "user", "content": "hello"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "send", "arguments": '{"to": "ann@example.org"}'},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "sent to 10.1.2.3"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA123-45-6789"}}

REQUESTS: dict[str, Any] = {
    "plain": {"messages": [USER]},
    "a system prompt": {"messages": [{"role": "system", "content": "Be brief."}, USER]},
    "personal data": {"messages": [{"role": "user", "content": SECRETS}]},
    "personal data in code": {"messages": [{"role": "user", "content": f"```\n{SECRETS}\n```"}]},
    "Hindi": {"messages": [{"role": "user", "content": HINDI}]},
    "Chinese": {"messages": [{"role": "user", "content": CHINESE}]},
    "quotes and dashes": {"messages": [{"role": "user", "content": f"“{SECRETS}” — yes…"}]},
    "tools": {"messages": [USER, CALL, RESULT], "tools": [{"type": "function"}]},
    "parts": {"messages": [{"role": "user", "content": [
        {"type": "text", "text": SECRETS}, IMAGE, {"type": "text", "text": LONG}]}]},
    "notes": {"messages": [USER], "user": "ann@example.org", "metadata": {"a": "10.1.2.3", "n": 1},
              "prediction": {"type": "content", "content": "ann@example.org"}},
    "a long text": {"messages": [USER, {"role": "user", "content": LONG}]},
    "a long text that is not last": {"messages": [{"role": "user", "content": LONG}, USER]},
    "long code": {"messages": [{"role": "user", "content": CODE}]},
    "a long text in Hindi": {"messages": [{"role": "user", "content": HINDI * 30 + " \n\n\nx"}]},
    "old function calls": {"messages": [USER, {"role": "assistant", "content": None,
        "function_call": {"name": "f", "arguments": '{"a": "ann@example.org"}'}}]},
    "odd messages": {"messages": ["ann@example.org", None, 7, {"role": "user", "content": 5}]},
    "odd parts": {"messages": [{"role": "user", "content": ["x", {"text": 5}, None]}]},
    "odd calls": {"messages": [{"role": "assistant", "tool_calls": {"function": 1}}, USER]},
    "no messages": {"messages": None},
    "a named backend": {"model": "one:m", "messages": [USER]},
    "another model": {"model": "unknown", "messages": [USER]},
    "no model": {"messages": [USER], "model": None},
    "half a character": {"messages": [{"role": "user", "content": "\ud800 ann@example.org"}]},
    "a note between plugins": {"messages": [USER], "_expected_schema": {"type": "object"}},
    "an empty request": {},
}  # fmt: skip


def spellings(name: str) -> list[bytes]:
    body = {"model": "m", **REQUESTS[name]}
    texts = [json.dumps(body), json.dumps(body, indent=1)]
    if name != "half a character":
        texts.append(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    return [text.encode() for text in texts]


async def test_every_request_is_treated_as_in_python(two: Two) -> None:
    await two.load()
    for name in REQUESTS:
        for body in spellings(name):
            native, python = await two.both(lambda probe: probe.request(), body)
            assert readable(native) == readable(python), name


QUIET = ("plain", "a system prompt", "personal data", "tools", "parts", "notes", "a long text",
         "long code", "quotes and dashes", "a named backend")  # fmt: skip


@pytest.mark.parametrize("name", QUIET)
async def test_what_is_usual_never_reaches_the_lane(two: Two, name: str) -> None:
    await two.load()
    before = two.crossings()
    for body in spellings(name):
        probe = _core.RingProbe(two.lane, two.managers[True].host(), body, "", {})
        await probe.request()
        reply = json.dumps(completion("All is well.")).encode()
        assert (await probe.reply(200, reply))["kind"] == "proceed"
        probe.background(200, 1, 1)
    assert two.crossings() == before


REPLIES: dict[str, Any] = {
    "plain": completion("All is well."),
    "null": completion(None),
    "parts": completion([{"type": "text", "text": "All\u200b is \u202ewell."}]),
    "a loop": completion("word " * 40),
    "line breaks": completion("x" + "\n" * 40),
    "hidden characters": completion("a\u200bb\ufeffc\x07d\u2060e\x7ff\U000e0041g"),
    "joiners": completion("क्\u200dष \u200c ok"),
    "quotes": completion("“quoted” — and … so"),
    "a refused word": completion("[SEC\u200b_ERR: x]"),
    "a link": completion("see https://evil.example.com/x now"),
    "cut JSON": completion('{"a": [1, 2'),
    "whole JSON": completion(' {"a": [1, 2]} '),
    "an error": {"error": {"message": "no"}},
    "a list": [1],
    "no choices": {"choices": []},
    "an odd choice": {"choices": [5]},
}


async def test_every_reply_is_treated_as_in_python(two: Two) -> None:
    await two.load()
    for asked in ({}, {"response_format": {"type": "json_object"}}):
        body = json.dumps({"model": "m", "messages": [USER], **asked}).encode()
        for name, reply in REPLIES.items():
            for raw in (json.dumps(reply), json.dumps(reply, ensure_ascii=False, indent=1), "{"):

                async def run(probe: Any, raw: str = raw) -> Any:
                    await probe.request()
                    return await probe.reply(200, raw.encode())

                native, python = await two.both(run, body, **{"cache-control": "no-store"})
                assert readable(native) == readable(python), (name, raw)


async def test_blocked_links_are_taken_out_as_in_python(two: Two) -> None:
    await two.load(blocked_domains=["example.com"])
    body = json.dumps({"model": "m", "messages": [USER]}).encode()

    async def run(probe: Any) -> Any:
        await probe.request()
        return await probe.reply(200, json.dumps(REPLIES["a link"]).encode())

    native, python = await two.both(run, body)
    assert readable(native) == readable(python)
    assert b"[link removed]" in native["body"]


@pytest.mark.parametrize("text", [SECRETS, HINDI, CHINESE])
async def test_what_was_masked_natively_comes_back(two: Two, text: str) -> None:
    await two.load()
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()

    async def run(probe: Any) -> Any:
        asked = await probe.request()
        sent = json.loads(asked["body"])["messages"][0]["content"]
        assert "ann@" not in sent and "[PII_EMAIL_" in sent
        call = {"function": {"name": "f", "arguments": json.dumps({"a": sent})}}
        reply = completion(sent, tool_calls=[call, {"function": {"arguments": "[PII_X_00000000]"}}])
        return await probe.reply(200, json.dumps(reply).encode())

    native, python = await two.both(run, body)
    assert readable(native) == readable(python)
    message = json.loads(native["body"])["choices"][0]["message"]
    assert message["content"] == text
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"a": text}
    assert message["tool_calls"][1]["function"]["arguments"] == "[PII_X_00000000]"


async def test_an_answer_kept_natively_is_found_in_python_and_the_other_way(two: Two) -> None:
    await two.load()
    shared = two.managers[True].state.cache.store
    for keeper in (True, False):
        for name in ("plain", "personal data", "tools", "Hindi"):
            for number, body in enumerate(spellings(name)):
                asked = json.dumps({**json.loads(body), "seed": number + 10 * keeper}).encode()
                manager = two.managers[keeper]
                key = manager.state.cache.make_key(json.loads(asked), "t")
                assert key == _core.cache_key(asked, "t"), name
    assert shared.stats()["entries"] == 0


@pytest.mark.parametrize(
    ("status", "reply", "kept"),
    [
        (200, completion("kept"), True),
        (500, completion("an error"), False),
        (200, {"choices": [{"message": {"content": "cut"}, "finish_reason": None}]}, False),
        (200, {"choices": []}, False),
    ],
)
async def test_only_whole_good_answers_are_kept_and_for_their_tenant(
    two: Two, status: int, reply: Any, kept: bool
) -> None:
    await two.load()
    body = json.dumps({"model": "m", "messages": [USER]}).encode()
    raw = json.dumps(reply).encode()
    for manager in two.managers.values():
        first = _core.RingProbe(two.lane, manager.host(), body, "a", {})
        assert (await first.request())["kind"] == "proceed"
        await first.reply(status, raw)
        first.background(status, 1, 1)
        await settled(manager)
        seen = []
        for tenant, headers in (("a", {}), ("b", {}), ("a", {"cache-control": "No-Cache"})):
            probe = _core.RingProbe(two.lane, manager.host(), body, tenant, headers)
            seen.append(await probe.request())
        assert [verdict["kind"] for verdict in seen] == [
            "answer" if kept else "proceed", "proceed", "proceed"]  # fmt: skip
        if kept:
            assert json.loads(seen[0]["body"]) == reply
            assert seen[0]["headers"] == {"x-llmproxy-cache": "HIT"}


async def test_natives_choose_among_backends_by_what_was_learnt(two: Two) -> None:
    await two.load(backends=("slow", "fast"))
    stats, manager = ring_host.endpoint_stats, two.managers[True]
    stats.set("slow", 2000.0, 1.0, 3)
    stats.set("fast", 100.0, 1.0, 3)
    body = json.dumps({"model": "m", "messages": [USER]}).encode()
    native, python = await two.both(lambda probe: probe.request(), body)
    assert readable(native) == readable(python)
    assert json.loads(native["body"])["model"] == "fast:m"
    breaker = manager.services.circuit_manager.of("fast")
    for _ in range(5):
        breaker.report(False)
    probe = _core.RingProbe(two.lane, manager.host(), body, "", {})
    assert json.loads((await probe.request())["body"])["model"] == "slow:m"
    for name in ("slow", "fast"):
        stats.erase(name)


async def test_natives_are_counted_and_traced_like_any_plugin(two: Two) -> None:
    await two.load()
    body = json.dumps({"model": "m", "messages": [USER]}).encode()
    for manager in two.managers.values():
        probe = _core.RingProbe(two.lane, manager.host(), body, "", {})
        await probe.request()
        await probe.reply(200, json.dumps(completion("ok")).encode())
        probe.background(200, 1, 1)
        await settled(manager)
    native, python = (m.get_plugin_stats() for m in two.managers.values())
    assert {n: row["invocations"] for n, row in native.items()} == dict.fromkeys(python, 1)
    traces = [m.get_ring_traces()[0]["rings"] for m in two.managers.values()]
    named = [{ring: [p["name"] for p in row["plugins"]] for ring, row in t.items()} for t in traces]
    assert named[0] == named[1]
    assert list(named[0]) == ["ingress", "pre_flight", "routing", "post_flight", "background"]


SEEN = """
seen = {}
async def look(ctx):
    seen.update({k: v for k, v in ctx.metadata.items()})
    seen["text"] = ctx.body["messages"][-1]["content"]
    seen["reply"] = bytes(ctx.response.body).decode() if ctx.response else None
"""


@pytest.mark.parametrize("ring", ["routing", "post_flight", "background"])
async def test_a_python_plugin_behind_natives_sees_what_they_did(tmp_path: Path, ring: str) -> None:
    (tmp_path / "look.py").write_text(SEEN)
    rows = [{"name": name} for name in NINE]
    rows.append({"name": "look", "hook": ring, "entrypoint": "look:look", "priority": 500})
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    manager = PluginManager(tmp_path, {}, enable=NINE)
    lane = _core.Lane(asyncio.get_running_loop())
    manager.bind(lane)
    await manager.load_plugins()
    manager.set_backends([{"name": "one", "models": ["m"]}])
    body = {"model": "m", "messages": [{"role": "user", "content": SECRETS}]}
    probe = _core.RingProbe(lane, manager.host(), json.dumps(body).encode(), "", {})
    asked = await probe.request()
    sent = json.loads(asked["body"])["messages"][0]["content"]
    answered = await probe.reply(200, json.dumps(completion(sent)).encode())
    probe.background(200, 1, 1)
    await settled(manager)
    assert json.loads(answered["body"])["choices"][0]["message"]["content"] == SECRETS
    entry = next(e for e in manager.generation.entries if e.name == "look")
    seen = copy.copy(entry.call.__globals__["seen"])  # type: ignore[attr-defined]
    assert seen["text"] == sent and "[PII_EMAIL_" in sent
    assert seen["pii_masked"] is True
    assert seen["_cache_status"] == "MISS" and len(seen["_cache_key"]) == 64
    assert seen["target_endpoint"].id == "one"
    assert entry.ring is PluginHook(ring)
    if ring != "routing":
        assert "[PII_" not in seen["reply"] or ring == "post_flight"
    await manager.generation.unload()
    await manager.close()
    lane.close()
