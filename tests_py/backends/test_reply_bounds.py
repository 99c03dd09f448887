"""A provider's reply that a backend reads whole is bounded, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from llm_proxy.backends.runtime import http_client
from llm_proxy.backends.runtime.http_client import build_backend_client

MIB = 1 << 20


def endless(headers: dict[str, str], pieces: list[int]) -> httpx.MockTransport:
    """A reply that never ends; `pieces` grows by the size of each piece that is taken."""

    async def body() -> AsyncIterator[bytes]:
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        while True:
            piece = bytes(MIB)
            if "content-encoding" in headers:
                piece = packer.compress(bytes(64 * MIB)) + packer.flush(zlib.Z_SYNC_FLUSH)
            pieces.append(len(piece))
            yield piece

    return httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=body()))


@pytest.mark.parametrize("stream", (False, True), ids=("whole", "aread"))
async def test_an_endless_reply_is_a_read_error(stream: bool) -> None:
    pieces: list[int] = []
    async with build_backend_client(transport=endless({}, pieces)) as client:
        request = client.build_request("GET", "http://api.test/v1")
        with pytest.raises(httpx.ReadError, match="larger than 64 MiB"):
            await (await client.send(request, stream=stream)).aread()
    assert sum(pieces) <= http_client.MAX_REPLY_BYTES + 2 * MIB


async def test_a_compressed_reply_is_decoded_in_small_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces: list[int] = []
    largest = 0
    read = httpx.Response.aiter_bytes

    async def watched(self: httpx.Response, *rest: int) -> AsyncIterator[bytes]:
        nonlocal largest
        async for part in read(self, *rest):
            largest = max(largest, len(part))
            yield part

    monkeypatch.setattr(httpx.Response, "aiter_bytes", watched)
    transport = endless({"content-encoding": "gzip"}, pieces)
    async with build_backend_client(transport=transport) as client:
        with pytest.raises(httpx.ReadError, match="larger than 64 MiB"):
            await client.get("http://api.test/v1")
    assert largest <= 2 * MIB


async def test_a_coding_that_was_not_asked_for_is_refused() -> None:
    transport = endless({"content-encoding": "br"}, [])
    async with build_backend_client(transport=transport) as client:
        with pytest.raises(httpx.DecodingError, match="br, which was not asked for"):
            await client.get("http://api.test/v1")


async def test_a_common_reply_is_read_as_ever() -> None:
    body = zlib.compress(b'{"a": 1}')
    headers = {"content-encoding": "deflate"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=body))
    async with build_backend_client(transport=transport) as client:
        reply = await client.get("http://api.test/v1")
        assert (reply.json(), reply.is_closed) == ({"a": 1}, True)
        async with client.stream("GET", "http://api.test/v1") as streamed:
            assert await streamed.aread() == b'{"a": 1}'
