"""A new configuration while the proxy serves: nothing dropped, nothing half new or half taken."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.packages import install_example
from e2e.answers import TEXT, chat_stream, chat_whole
from e2e.conftest import QUIET, Proxy, program
from e2e.upstream import Received, Reply, Upstream, Wait, answering, stream, whole
from llm_proxy.assembly import make_server
from llm_proxy.backends.runtime import discovery as backend_discovery
from llm_proxy.cli.serve import JsonLines
from llm_proxy.config.load import Sources, load
from llm_proxy.config.plan import AT_START
from llm_proxy.config.snapshot import snapshot
from llm_proxy.config.table import BY_PATH

CHAT: dict[str, Any] = {"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}
REQUESTS = 200


def generation(upstream: Upstream, number: int, tmp_path: Path) -> str:
    """Four things of one configuration that a request shows upstream."""
    file = tmp_path / "proxy.yaml"
    config = {
        "default_backend": f"b{number}",
        "model_aliases": {"fast": f"b{number}:model-{number}"},
        "backends": {
            f"b{number}": {
                "type": "openai-compatible",
                "api_url": f"http://127.0.0.1:{upstream.port}/path-{number}/v1",
                "api_key": f"key-{number}",
                "headers": {"x-generation": str(number)},
            }
        },
    }
    file.write_text(json.dumps(config))
    return snapshot(load(Sources(environment=QUIET, config_file=file)))


def generation_of(sent: Received) -> set[str]:
    return {
        sent.path.split("/")[1].removeprefix("path-"),
        sent.headers["authorization"].removeprefix("Bearer key-"),
        sent.headers["x-generation"],
        sent.json["model"].removeprefix("model-"),
    }


async def test_reloads_drop_no_request_and_none_sees_half_of_a_configuration(
    tmp_path: Path,
) -> None:
    go_on = asyncio.Event()
    said = list(chat_stream(TEXT))
    half = len(said) // 2

    def answer(request: Received) -> Reply:
        if request.json.get("stream"):
            return stream([*said[:half], Wait(go_on), *said[half:]])
        return whole(chat_whole(TEXT))

    async with Upstream(answer) as upstream:
        configs = [generation(upstream, number, tmp_path) for number in range(10)]
        limits = httpx.Limits(max_connections=None)
        async with (
            make_server(configs[0]) as server,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{server.port}", timeout=30, limits=limits
            ) as http,
        ):

            async def ask(number: int) -> bytes:
                body = {**CHAT, "stream": True} if number % 2 else CHAT
                got = await http.post("/v1/chat/completions", json=body)
                assert got.status_code == 200, got.text
                return got.content

            live: list[asyncio.Task[bytes]] = []
            for config in configs:
                server.reload(config)
                for _ in range(REQUESTS // len(configs)):
                    live.append(asyncio.create_task(ask(len(live))))
                    await asyncio.sleep(0)
                await upstream.request(len(live) * 2 // 3)
            server.reload(configs[0])
            go_on.set()
            replies = await asyncio.gather(*live)
    assert len(replies) == REQUESTS
    assert all(reply.endswith(b"[DONE]\n\n") for reply in replies[1::2])
    assert len(upstream.requests) == REQUESTS, "none was asked twice"
    seen = Counter(next(iter(generation_of(sent))) for sent in upstream.requests)
    assert all(len(generation_of(sent)) == 1 for sent in upstream.requests)
    assert len(seen) >= len(configs) - 1


async def test_a_configuration_the_engine_refuses_changes_nothing(tmp_path: Path) -> None:
    async with Upstream(answering(TEXT)) as upstream:
        good = generation(upstream, 1, tmp_path)
        async with (
            make_server(good) as server,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http,
        ):
            for wrong in (
                {**json.loads(good), "nonsense": 1},
                {**json.loads(good), "default_backend": "nobody"},
                {**json.loads(good), "failover_routes": {"a": {"elements": []}}},
            ):
                with pytest.raises(ValueError):
                    server.reload(wrong)
                assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
                assert generation_of(upstream.last) == {"1"}


async def test_what_rests_goes_on_resting_after_a_reload(tmp_path: Path) -> None:
    limited = Reply(429, (("content-type", "application/json"), ("retry-after", "60")), (b"{}",))
    async with Upstream(lambda _: limited) as upstream:
        config = generation(upstream, 1, tmp_path)
        async with (
            make_server(config) as server,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http,
        ):
            assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 429
            server.reload(config)
            assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 429
            assert len(upstream.requests) == 1


PARROT = {
    "host": "127.0.0.1",
    "port": 0,
    "io_threads": 1,
    "logging": {"access_log": False},
    "default_backend": "parrot",
    "backends": [{"name": "parrot", "type": "parrot", "kind": "python", "format": "openai-chat"}],
}
ECHO: dict[str, Any] = {
    **PARROT,
    "default_backend": "echo",
    "backends": [{"name": "echo", "type": "echo", "kind": "echo"}],
}


@pytest.fixture
def parrot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    install_example(tmp_path, "parrot_backend")
    monkeypatch.syspath_prepend(str(tmp_path))
    backend_discovery.reset_backend_discovery_state()
    yield
    backend_discovery.reset_backend_discovery_state()


def parrot_config(number: int) -> dict[str, Any]:
    return {"backends": {"parrot": {"extra": {"number": number}}}}


@pytest.mark.usefixtures("parrot")
async def test_python_backends_get_the_new_configuration_and_finish_what_they_began() -> None:
    async with (
        make_server(ECHO) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as http,
    ):
        server.reload(PARROT, parrot_config(1))  # none was there when the process started
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        first = server._bridge
        assert first is not None and first.backends.started()["parrot"]

        long = {**CHAT, "stream": True, "messages": [{"role": "user", "content": "word " * 400}]}
        async with http.stream("POST", "/v1/chat/completions", json=long) as reply:
            chunks = reply.aiter_bytes()
            heard = await anext(chunks)
            server.reload(PARROT, parrot_config(2))
            second = server._bridge
            assert second is not None and second is not first
            config = second.config.backends.lookup("parrot")
            assert config is not None and config.extra == {"number": 2}
            assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
            assert second.backends.started()["parrot"] is not first.backends.started().get("parrot")
            async for piece in chunks:
                heard += piece
        assert heard.endswith(b"[DONE]\n\n")
        server.reload(PARROT, parrot_config(2))
        assert server._bridge is second, "the same words make nothing anew"
        for _ in range(100):
            if not server._retired:
                break
            await http.get("/api/v1/plugins")  # the lane lets go of things when it works
        assert not first.backends.started(), "what nobody uses any more is closed"


async def test_ring_plugins_follow_the_configuration() -> None:
    async with make_server(ECHO) as server:
        await server.reload_plugins(("Max Tokens Enforcer",), {"config": {"priority_mode": True}})
        manager = server.plugins
        assert manager is not None
        loaded = [meta["name"] for meta in manager.list_plugins() if meta["enabled"]]
        assert "Max Tokens Enforcer" in loaded
        assert manager.services.config == {"priority_mode": True}
        second = {"name": "e2", "type": "echo", "kind": "echo"}
        server.reload({**ECHO, "backends": [*ECHO["backends"], second]})
        await server.reload_plugins(("Max Tokens Enforcer",))
        assert manager.services.config == {"priority_mode": True}, "what is not named stays"
        assert [endpoint.id for endpoint in manager.services.store.endpoints] == ["echo", "e2"]


async def reload_by_api(proxy: Proxy) -> httpx.Response:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as http:
        return await http.post("/api/v1/config/reload")


async def test_the_api_reads_the_file_anew_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    async with Upstream(answering(TEXT)) as upstream:
        file = tmp_path / "proxy.yaml"
        generation(upstream, 1, tmp_path)
        async with (
            program("--config", str(file), folder=tmp_path) as proxy,
            httpx.AsyncClient(base_url=proxy.url, timeout=20) as http,
        ):
            generation(upstream, 2, tmp_path)
            told = await reload_by_api(proxy)
            assert (told.status_code, told.json()["status"]) == (200, "reloaded")
            assert told.json()["waits_for_a_start"] == []
            assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
            assert generation_of(upstream.last) == {"2"}

            for text in ("hots: 1\n", "plugins: {enabled: [No Such Plugin]}\n"):
                file.write_text(text)
                told = await reload_by_api(proxy)
                assert told.status_code == 422, told.text
                assert told.json()["detail"] == "the old configuration stays"
                assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
                assert generation_of(upstream.last) == {"2"}
            file.write_text("hots: 1\n")
            problem = (await reload_by_api(proxy)).json()["problems"][0]
            assert problem["where"] == f"{file}:1"
            assert "did you mean 'host'" in problem["message"]

            generation(upstream, 3, tmp_path)
            file.write_text(json.dumps({**json.loads(file.read_text()), "io_threads": 7}))
            assert (await reload_by_api(proxy)).json()["waits_for_a_start"] == ["io_threads"]
            assert proxy.process is not None and proxy.process.stderr is not None
            proxy.process.send_signal(signal.SIGHUP)
            await asyncio.wait_for(proxy.process.stderr.readuntil(b"read anew"), 10)


def test_what_waits_for_a_start_are_settings() -> None:
    assert set(AT_START) <= set(BY_PATH)


async def test_logs_can_be_json_lines_throughout(tmp_path: Path) -> None:
    async with Upstream(answering(TEXT)) as upstream:
        generation(upstream, 1, tmp_path)
        async with program(
            "--config", str(tmp_path / "proxy.yaml"), "--log-format", "json", folder=tmp_path
        ) as proxy:
            async with httpx.AsyncClient(base_url=proxy.url) as http:
                await http.post("/v1/chat/completions", json={**CHAT, "model": 'od"d\n\x7f'})
            assert proxy.process is not None and proxy.process.stderr is not None
            proxy.process.send_signal(signal.SIGTERM)
            await proxy.process.wait()
            lines = [json.loads(line) for line in (await proxy.process.stderr.read()).splitlines()]
    [request] = [line for line in lines if line.get("path") == "/v1/chat/completions"]
    assert request["status"] == 200 and request["backend"] == "b1"
    assert request["model"] == 'od"d\n\x7f'
    assert request["in"] == TEXT.input_tokens and request["seconds"] >= 0
    assert any(line.get("logger") == "llm_proxy" for line in lines)


def test_a_raised_error_is_part_of_its_line() -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 0, "it %s", ("failed",), (type(error), error, None)
        )
    line = json.loads(JsonLines().format(record))
    assert (line["level"], line["message"]) == ("error", "it failed")
    assert "RuntimeError: broken" in line["raised"]
