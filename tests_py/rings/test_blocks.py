"""A block in every ring, a cached answer in every format: each client reads it as its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import Answer
from e2e.upstream import Upstream, answering
from llm_proxy.assembly import make_server
from rings.conftest import completion
from rings.test_all_at_once import CONFIG
from rings.test_streams import ENDS, FRONTENDS, SAID, serving, text_of, told

ROWS = [
    {"name": ring, "hook": ring, "entrypoint": f"blocks:{ring}"}
    for ring in ("ingress", "pre_flight", "routing", "post_flight")
]
BLOCKS = (
    "from core.plugin_sdk import PluginResponse\n"
    "def make(ring):\n"
    "    async def block(ctx):\n"
    "        text = str(ctx.body['messages'][-1]['content'])\n"
    "        if ring in text:\n"
    "            return PluginResponse.block(int(text[:3]), 'of_a_kind', f'no: {text}')\n"
    "    return block\n"
) + "".join(f"{row['name']} = make('{row['name']}')\n" for row in ROWS)
# What each format calls a status; the plugin's own word is the code, or a detail's reason.
MESSAGES = {402: "billing_error", 403: "permission_error", 429: "rate_limit_error"}
GEMINI = {402: "RESOURCE_EXHAUSTED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}


def check(frontend: str, status: int, answer: httpx.Response, message: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    error = body["error"]
    assert error["message"] == message
    if frontend in ("chat", "responses"):
        assert error["code"] == "of_a_kind"
        assert set(error) >= {"message", "type", "param", "code"}
    elif frontend == "messages":
        assert body["type"] == "error"
        assert error["type"] == MESSAGES[status]
        assert error["code"] == "of_a_kind"
    else:
        assert error["code"] == status
        assert error["status"] == GEMINI[status]
        (detail,) = error["details"]
        assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert detail["reason"] == "of_a_kind"


def whole(frontend: str, text: str) -> tuple[str, dict[str, Any]]:
    path, body = FRONTENDS[frontend](text)
    body.pop("stream", None)
    return path.partition(":stream")[0] + (
        ":generateContent" if frontend.startswith("gemini") else ""
    ), body


@pytest.mark.parametrize("frontend", FRONTENDS)
async def test_a_block_of_every_ring_has_its_status_kind_and_words_in_the_clients_format(
    frontend: str, tmp_path: Path
) -> None:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": ROWS}))
    async with (
        make_server(CONFIG, plugins_dir=tmp_path) as server,
        httpx.AsyncClient(
            trust_env=False, base_url=f"http://127.0.0.1:{server.port}", timeout=20
        ) as http,
    ):
        for row in ROWS:
            for status in MESSAGES:
                text = f"{status} in {row['name']}"
                path, body = whole(frontend, text)
                check(frontend, status, await http.post(path, json=body), f"no: {text}")
                path, body = FRONTENDS[frontend](text)
                if row["name"] != "post_flight" or frontend == "gemini array":
                    check(frontend, status, await http.post(path, json=body), f"no: {text}")
                    continue
                begun, raw = await told(http, frontend, text)  # in the stream, instead of its end
                assert begun == 200
                assert f"no: {text}" in raw
                assert "of_a_kind" in raw
                assert ENDS[frontend] not in raw
        path, body = whole(frontend, "nothing of the kind")
        assert (await http.post(path, json=body)).status_code == 200


@pytest.mark.parametrize("ring", [row["name"] for row in ROWS])
async def test_the_access_log_says_which_plugin_blocked_and_why(ring: str, tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": ROWS}))
    log = tmp_path / "access.log"
    config = {**CONFIG, "logging": {"access_log": True, "access_log_file": str(log)}}
    blocked = {"stream": False}, {"stream": True}
    async with (
        make_server(config, plugins_dir=tmp_path) as server,
        httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{server.port}") as http,
    ):
        for more in blocked:
            body = {"model": "m", "messages": [{"role": "user", "content": f"429 in {ring}"}]}
            path = "/v1/chat/completions"
            try:
                await http.post(path, json={**body, **more})
            except httpx.RemoteProtocolError:
                assert (ring, more["stream"]) == ("post_flight", True)  # no clean end
        body["messages"][0]["content"] = "well"
        await http.post("/v1/chat/completions", json=body)
    *refused, passed = log.read_text().splitlines()
    assert len(refused) == 2
    for line in refused:
        assert f" blocked={ring}/{ring}:of_a_kind " in line
        assert f"no: 429 in {ring}" in line
    assert "blocked" not in passed


@pytest.mark.parametrize("frontend", FRONTENDS)
async def test_a_cached_answer_is_replayed_in_every_format_and_asks_nobody(
    frontend: str, tmp_path: Path
) -> None:
    source = (
        "from fastapi.responses import JSONResponse\n"
        "from core.plugin_sdk import PluginResponse\n"
        "after = []\n"
        "async def run(ctx):\n"
        f"    return PluginResponse.cache_hit(JSONResponse({completion(SAID)!r},"
        " headers={'x-from': 'the cache'}))\n"
        "async def later(ctx):\n"
        "    raise RuntimeError('it has been through the reply ring once')\n"
    )
    rows = [
        {"name": "it", "hook": "pre_flight", "entrypoint": "mine:run"},
        {"name": "later", "hook": "post_flight", "entrypoint": "mine:later", "stream": "buffer"},
    ]
    async with (
        Upstream(answering(Answer("from upstream"))) as upstream,
        serving(upstream, "openai", tmp_path, source, rows=rows) as (server, http),
    ):
        path, body = FRONTENDS[frontend]("Hi")
        streamed = await http.post(path, json=body)
        path, body = whole(frontend, "Hi")
        complete = await http.post(path, json=body)
        assert server.plugins is not None
        assert server.plugins.get_plugin_stats("later")["invocations"] == 0
        assert upstream.requests == []
    for answer in (streamed, complete):
        assert answer.status_code == 200
        assert answer.headers["x-from"] == "the cache"
        assert SAID in answer.text or text_of(frontend, answer.text) == SAID
    assert text_of(frontend, streamed.text) == SAID
    assert ENDS[frontend] in streamed.text
    complete.json()
