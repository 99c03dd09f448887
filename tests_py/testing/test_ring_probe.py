"""The kit for ring plugins: verdicts are seen, and what is wrong is said, never swallowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.runtime.manager import RequiredPluginMissing
from llm_proxy.testing import Answer, Reply, RingProbe


class Guard(BasePlugin):
    hook = PluginHook.PRE_FLIGHT

    async def execute(self, ctx: Any) -> PluginResponse:
        last = ctx.body["messages"][-1]
        if self.config["word"] in last["content"]:
            return PluginResponse.block(418, "forbidden_word", "This word is refused.")
        last["content"] += " please"
        return PluginResponse.modify(ctx.body)


class Ender(BasePlugin):
    hook = PluginHook.POST_FLIGHT

    async def execute(self, ctx: Any) -> PluginResponse:
        if b"secret" in ctx.response.body:
            return PluginResponse.block(451, "leak", "The reply holds a secret.")
        return PluginResponse.passthrough()


async def raises(ctx: Any) -> None:
    raise KeyError("a bug of the author")


async def marks(ctx: Any) -> None:
    ctx.response.headers["x-seen"] = str(ctx.metadata["_streamed"])


async def test_a_request_that_passes_shows_what_the_provider_was_sent() -> None:
    async with RingProbe(Guard, {"word": "swordfish"}) as probe:
        outcome = await probe.ask("Hello", reply="Good day")
        outcome.assert_passed()
        assert outcome.text == "Good day"
        assert outcome.sent[0]["messages"][-1]["content"] == "Hello please"
        assert [type(instance) for instance in probe.instances] == [Guard]


async def test_a_block_is_seen_with_status_and_type_and_reaches_no_provider() -> None:
    async with RingProbe(Guard, {"word": "swordfish"}) as probe:
        outcome = await probe.ask("swordfish")
        outcome.assert_blocked(418, "forbidden_word")
        assert (outcome.sent, outcome.text) == ([], "")
        with pytest.raises(AssertionError, match="This word is refused"):
            outcome.assert_passed()
        with pytest.raises(AssertionError, match="status is 418, not 403"):
            outcome.assert_blocked(403)
        with pytest.raises(AssertionError, match="'forbidden_word', not 'other'"):
            outcome.assert_blocked(418, "other")


async def test_a_stream_is_seen_whole_and_a_blocked_one_to_its_error() -> None:
    async with RingProbe(Ender) as probe:
        passed = await probe.ask("Hi", stream=True, reply=["one ", "two"])
        passed.assert_passed()
        assert (passed.streamed, passed.text) == (True, "one two")
        ended = await probe.ask("Hi", stream=True, reply=["a ", "secret"])
        ended.assert_blocked(200, "leak")
        assert ended.text == "a secret"


async def test_a_row_of_the_manifest_can_be_set_and_a_misspelt_key_is_refused() -> None:
    async with RingProbe(Ender, stream="buffer") as probe:
        held = await probe.ask("Hi", stream=True, reply=["a ", "secret"])
        held.assert_blocked(451, "leak")
        assert held.text == ""
    with pytest.raises(ValueError, match="priorty"):
        RingProbe(Ender, priorty=1)


async def test_a_plugin_that_fails_open_does_not_pass_for_one_that_works() -> None:
    async with RingProbe(raises, hook="pre_flight") as probe:
        outcome = await probe.ask("Hello")
        assert (outcome.status, outcome.blocked) == (200, False)
        with pytest.raises(AssertionError, match="a bug of the author"):
            outcome.assert_passed()


async def test_a_plugin_that_fails_closed_does_not_pass_for_a_verdict() -> None:
    async with RingProbe(raises, hook="ingress") as probe:
        outcome = await probe.ask("Hello")
        assert outcome.status == 500
        with pytest.raises(AssertionError, match="a bug of the author"):
            outcome.assert_blocked(500)


async def test_a_function_runs_in_the_ring_that_the_row_names() -> None:
    async with RingProbe(marks, hook="post_flight") as probe:
        assert (await probe.ask("Hi")).headers["x-seen"] == "False"


async def test_a_provider_may_answer_anything_and_text_never_raises() -> None:
    async with RingProbe(Ender) as probe:
        for reply in (Reply("no json", status=500), Reply({"error": {"message": "busy"}}, 429)):
            outcome = await probe.ask("Hi", reply=reply)
            assert (outcome.text, outcome.blocked) == ("", True)


async def test_a_folder_of_plugins_runs_as_its_manifest_says(tmp_path: Path) -> None:
    (tmp_path / "guard.py").write_text(
        "async def guard(ctx):\n    ctx.body['messages'][-1]['content'] = 'from the folder'\n"
    )
    row = "{name: Guard, hook: pre_flight, entrypoint: 'guard:guard'}"
    (tmp_path / "manifest.yaml").write_text(f"plugins: [{row}]\n")
    async with RingProbe(tmp_path) as probe:
        outcome = await probe.ask("Hello")
        outcome.assert_passed()
        assert outcome.sent[0]["messages"][-1]["content"] == "from the folder"


async def test_a_plugin_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    class Late(BasePlugin):
        hook = PluginHook.INGRESS

        async def on_load(self) -> None:
            raise RuntimeError("there is no model file")

    with pytest.raises(RequiredPluginMissing, match="there is no model file"):
        async with RingProbe(Late):
            pass
    with pytest.raises(FileNotFoundError, match=r"manifest\.yaml"):
        RingProbe(tmp_path / "nowhere")


def test_the_text_of_a_failed_backend_call_is_what_came_and_its_reason_is_shown() -> None:
    answer = Answer()
    answer.error(502, "upstream_error", "x", "The provider hung up.", None)
    assert answer.text == ""
    assert "The provider hung up." in repr(answer)
    garbled = Answer()
    garbled.head(200, True, "text/event-stream", [])
    garbled.data(b'data: {"choices": [{"delta": {"content": "so far"}}]}\n\ndata: {"err\n\n')
    assert garbled.text == "so far"
