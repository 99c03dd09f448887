"""Chunks that the engine writes read as those that Python writes, whatever a backend yields."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from llm_proxy._core import SseReader
from llm_proxy.backends.runtime.http_client import build_backend_client
from llm_proxy.backends.runtime.reply import ChatStream
from llm_proxy.contracts.exceptions import BackendError

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}


def choice(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish, **more}


CHUNKS: dict[str, dict[str, Any]] = {
    "plain": {**HEAD, "choices": [choice({"content": 'a\u00e9\u4e2d\U0001f600"\\\n'})]},
    "head is missing": {"choices": [choice({"content": "a"})]},
    "head is blank": {**dict.fromkeys(HEAD, ""), "choices": [choice({"content": "a"})]},
    "head is None": {**dict.fromkeys(HEAD), "choices": [choice({"content": "a"})]},
    "head comes last": {"choices": [choice({"content": "a"})], **HEAD},
    "blank members are left out": {**HEAD, "choices": [choice({})], "x": None, "y": "", "z": 0},
    "finish": {**HEAD, "choices": [choice({}, "length")]},
    "tool call": {**HEAD, "choices": [choice({"tool_calls": [{"index": 0, "id": "t"}]})]},
    "usage": {**HEAD, "choices": [choice({}, "stop")], "usage": {"prompt_tokens": 3}},
    "usage alone": {**HEAD, "choices": [], "usage": {"prompt_tokens": 3}},
    "nothing": {**HEAD, "choices": []},
    "error": {"error": {"message": "no"}},
    "whole completion": {
        **HEAD,
        "choices": [{"message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
    },
    "no delta": {**HEAD, "choices": [{"index": 0, "finish_reason": "stop"}]},
    "a set inside": {**HEAD, "choices": [choice({"content": "a"}, x={1})]},
    "an odd key": {**HEAD, "choices": [choice({"content": "a"})], 1: 2},  # type: ignore[dict-item]
    "a float, a bool and a long": {**HEAD, "choices": [choice({}, x=[0.5, True, 1 << 70])]},
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_dict_and_a_mapping_of_its_content_are_written_alike(name: str) -> None:
    by_engine, by_python = ChatStream("m"), ChatStream("m")
    by_python._id, by_python._created = by_engine._id, by_engine._created
    body = CHUNKS[name]
    assert by_engine.feed(body) == by_python.feed(OrderedDict(body))
    assert by_engine.finish() == by_python.finish()


def test_a_chunk_that_is_no_chunk_is_still_refused() -> None:
    for body in ({"choices": "a"}, {"choices": None, "id": "x"}):
        with pytest.raises(BackendError):
            ChatStream("m").feed(body)


def test_whole_events_pass_as_they_came_and_cut_ones_wait() -> None:
    reader = SseReader()
    assert reader.whole(b"data: 1\n\ndata: 2\n\n") == b"data: 1\n\ndata: 2\n\n"
    assert reader.whole(b"data: 3\n\ndata: ") == b"data: 3\n\n"
    assert reader.whole(b"4\n") == b""
    assert reader.whole(b"\n") == b"data: 4\n\n"
    assert reader.whole(b"data: 5\r\n\r\n") == b"data: 5\n\n"
    assert reader.rest_whole() == b""


EVENTS = (
    'event: a\ndata: {"x": "\u00e9\u4e2d"}\n\n: ping\n\ndata: 2\r\n\r\ndata: [DONE]\n\n'.encode()
)


async def test_the_lines_of_a_stream_are_those_of_its_text_for_every_cut() -> None:
    cut = 0

    def answer(request: httpx.Request) -> httpx.Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield EVENTS[:cut]
            yield EVENTS[cut:]

        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=pieces())

    async with build_backend_client(transport=httpx.MockTransport(answer)) as client:
        expected = EVENTS.decode().splitlines()
        for cut in range(len(EVENTS)):
            async with client.stream("GET", "http://x") as reply:
                lines = [line async for line in reply.aiter_lines()]
            assert [x for x in lines if x] == [x for x in expected if x], cut
            assert reply.is_closed
            with pytest.raises(httpx.StreamConsumed):
                [line async for line in reply.aiter_lines()]
        async with client.stream("GET", "http://x") as reply:
            await reply.aread()
            assert [x async for x in reply.aiter_lines() if x] == [x for x in expected if x]


STREAM = (
    '\ufeffevent: a\rdata: {"x": "\u00e9\u4e2d"}\r\r'
    ": ping\n\n"
    "id: 7\ndata:one\ndata: two\n\n"
    "data\n\n"
    "retry: 5\n\n"
    "data: [DONE]\r\n\r\n"
    "data: unended"
).encode()
SAID = [("a", '{"x": "\u00e9\u4e2d"}'), ("", "one\ntwo"), ("", ""), ("", "[DONE]")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(STREAM)])
def test_events_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    by_event, by_frame = SseReader(), SseReader()
    assert [event for piece in pieces for event in by_event.events(piece)] == SAID
    assert by_event.unfinished
    assert by_event.rest_events() == [("", "unended")]
    assert not by_event.unfinished
    frames = [frame for piece in pieces for frame, _ in by_frame.frames(piece)]
    assert SseReader().events(b"".join(frames)) == SAID
    assert frames[1] == b"data: one\ndata: two\n\n"
    assert by_frame.rest_frames() == [(b"data: unended\n\n", "unended")]


@pytest.mark.parametrize("use", ["events", "frames", "whole"])
def test_an_event_that_does_not_end_is_an_error(use: str) -> None:
    reader, piece = SseReader(), b"x" * (1 << 20)
    read = getattr(reader, use)
    read(b"data: ")
    with pytest.raises(ValueError, match="does not end"):
        for _ in range(40):
            read(piece)
