"""The reply ring on the streams of a Python backend."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from backends.packages import install_example
from e2e.test_python_backend import SNAPSHOT
from llm_proxy.assembly import make_server
from llm_proxy.backends.runtime import discovery as backend_discovery
from rings.test_streams import BLOCKS, ENDS, FRONTENDS, MASKER, REPLACES, text_of, told


@pytest.fixture
def parrot_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_example(tmp_path, "parrot_backend")
    monkeypatch.syspath_prepend(str(tmp_path))
    backend_discovery.reset_backend_discovery_state()
    return tmp_path


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("what", ["masked", "replaced", "blocked"])
async def test_it_is_like_any_others(parrot_package: Path, frontend: str, what: str) -> None:
    folder = parrot_package / "rings"
    folder.mkdir()
    source = {"replaced": REPLACES, "blocked": BLOCKS}.get(what, "")
    (folder / "mine.py").write_text(source)
    symbol = "Plugin" if what == "replaced" else "run"
    row = {"name": "it", "hook": "post_flight", "entrypoint": f"mine:{symbol}"}
    (folder / "manifest.yaml").write_text(json.dumps({"plugins": [row] if source else []}))
    said = "dear world, write to ann@example.org"
    async with (
        make_server(
            SNAPSHOT,
            plugins_dir=folder,
            plugins=[MASKER] if what == "masked" else [],
            app_config={"backends": {"parrot": {}}},
        ) as server,
        httpx.AsyncClient(
            trust_env=False, base_url=f"http://127.0.0.1:{server.port}", timeout=20
        ) as http,
    ):
        status, raw = await told(http, frontend, said)
    backend_discovery.reset_backend_discovery_state()
    if what == "blocked":
        assert "that was too dear" in raw
        assert ENDS[frontend] not in raw
        return
    assert status == 200
    assert ENDS[frontend] in raw
    wanted = said if what == "masked" else said.replace("dear world", "cruel planet")
    assert wanted in text_of(frontend, raw)
