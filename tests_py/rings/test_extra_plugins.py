"""The dependency guard, the ONNX masker, and what budgets keep across a swap."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from llm_proxy.rings.builtin.extra import ai_dependency_guard as guard
from llm_proxy.rings.builtin.extra.onnx_pii_masker import join, merged
from llm_proxy.rings.builtin.marketplace import smart_budget_guard
from rings.conftest import Bench, completion

ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "tell me about cats"}]}

# ---- AI Dependency Guard


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pip install requests", [("pypi", "requests")]),
        ("`pip3 install -U 'Foo_Bar[x,y]>=1.2' baz==2`", [("pypi", "foo-bar"), ("pypi", "baz")]),
        ("python3.11 -m pip install a1 && rm -rf b", [("pypi", "a1")]),
        ("pip install -r requirements.txt -e . ./local git+https://x/y ../z", []),
        ("pip install --index-url https://x/simple thing", [("pypi", "thing")]),
        ("pip install ./a.whl b.tar.gz https://h/c.zip ~/d $E", []),
        ("uv add polars; uv pip install numpy", [("pypi", "polars"), ("pypi", "numpy")]),
        ("poetry add a\npipenv install b\npdm add c", [("pypi", n) for n in "abc"]),
        ("npm i -D @types/node left-pad@1.3 # why", [("npm", "@types/node"), ("npm", "left-pad")]),
        ("yarn add a\npnpm add b\nnpm install c", [("npm", n) for n in "abc"]),
        ("Django==4.2\n  uvicorn[standard] == 0.30.*\n", [("pypi", "django"), ("pypi", "uvicorn")]),
        ("if a == b: pass  # pipeline install nothing", []),
        ("pip install same same; pip install same", [("pypi", "same")]),
        ("安装 pip install requests 即可", [("pypi", "requests")]),
        ("", []),
    ],
)
def test_package_names_are_read_from_commands_and_pins(text: str, found: Any) -> None:
    assert guard._extract_packages(text) == found


def registry(known: dict[str, int | Exception], asked: list[str]) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        name = request.url.path.removesuffix("/json").rpartition("/")[2]
        status = known.get(name, 404)
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status, headers={"location": "/elsewhere"})

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("status", "flagged"),
    [(200, False), (404, True), (410, True), (500, False), (302, False), (429, False),
     (httpx.ConnectError("no"), False), (httpx.ReadTimeout("slow"), False)],
)  # fmt: skip
async def test_only_a_plain_no_of_the_registry_flags_a_package(
    bench: Bench, status: int | Exception, flagged: bool
) -> None:
    guard._CACHE.clear()
    await bench.load(**{"AI Dependency Guard": {"block_on_hallucination": True}})
    plugin, asked = bench.instance("AI Dependency Guard"), list[str]()
    await plugin.client.aclose()
    plugin.client = registry({"some-thing": status}, asked)
    for _ in range(2):
        ctx = await bench.reply(bench.context(ASK), completion("pip install Some.Thing"))
        assert ctx.stop_chain is flagged
    assert len(asked) == (1 if status in (200, 404, 410) else 2)  # what was said is remembered
    if flagged:
        row = {"name": "some-thing", "ecosystem": "pypi", "reason": "not_found"}
        assert ctx.metadata["_depguard_packages"] == [row]
        assert ctx.metadata["_block_error_type"] == "hallucinated_dependency"
        assert ctx.metadata["_block_status"] == 403


async def test_a_listed_package_is_flagged_without_asking_anybody(bench: Bench) -> None:
    config = {"blocklist": ["Evil_Pkg"], "registry_check": False}
    await bench.load(**{"AI Dependency Guard": config})
    ctx = await bench.reply(bench.context(ASK), completion("pip install evil-pkg"))
    assert ctx.metadata["_depguard_packages"][0]["reason"] == "blocklist"
    assert not ctx.stop_chain
    assert bench.instance("AI Dependency Guard").client is None


def test_the_memory_of_the_registries_is_bounded_and_forgets_the_oldest() -> None:
    guard._CACHE.clear()
    for number in range(guard._CACHE_MAX + 10):
        guard._cache_put(("pypi", str(number)), True)
    assert len(guard._CACHE) == guard._CACHE_MAX
    assert ("pypi", "9") not in guard._CACHE
    guard._CACHE.clear()


def test_names_become_addresses_that_cannot_lead_elsewhere() -> None:
    assert guard._registry_url("pypi", "Foo.Bar").endswith("/pypi/foo-bar/json")
    assert guard._registry_url("npm", "@a/b").endswith("/@a%2Fb")


# ---- ONNX PII Masker


def fake_runtime(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    """Stands for onnxruntime, tokenizers and huggingface_hub: `Ann` and `Lee` are persons.

    The real ones are met in test_onnx_model, where they are installed.
    """
    seen: dict[str, Any] = {}
    (folder / "config.json").write_text(
        json.dumps({"id2label": {"0": "O", "1": "B-private_person", "2": "I-private_person"}})
    )

    def download(model: str, name: str, local_files_only: bool) -> str:
        assert local_files_only
        seen.setdefault("files", []).append((model, name))
        return str(folder / name)

    class Window:
        overflowing = ()

        def __init__(self, text: str) -> None:
            words = text.split(" ")
            ends = list(itertools.accumulate(len(word) + 1 for word in words))
            spans = [(end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True)]
            self.offsets = [(0, 0), *spans]
            self.ids = [0, *({"Ann": 1, "Lee": 2}.get(word, 0) for word in words)]
            self.attention_mask = self.type_ids = [1] * len(self.ids)

    class Tokenizer:
        from_file = staticmethod(lambda path: Tokenizer())
        encode = staticmethod(Window)

        def enable_truncation(self, length: int, stride: int) -> None: ...

        def no_padding(self) -> None: ...

    class Rows(list[int]):
        def argmax(self, axis: int) -> list[int]:
            return self

    class Session:
        def __init__(self, path: str, providers: list[str]) -> None:
            seen["providers"] = providers

        def get_inputs(self) -> list[Any]:
            return [type("Input", (), {"name": "input_ids"})()]

        def run(self, outputs: None, feeds: dict[str, Any]) -> list[Any]:
            assert list(feeds) == ["input_ids"]
            return [[Rows(feeds["input_ids"][0])]]

    for name, parts in (
        ("onnxruntime", {"InferenceSession": Session, "get_available_providers": list}),
        ("tokenizers", {"Tokenizer": Tokenizer}),
        ("numpy", {"array": lambda rows, dtype: rows}),
        ("huggingface_hub", {"hf_hub_download": download}),
    ):
        module = ModuleType(name)
        module.__dict__.update(parts)
        monkeypatch.setitem(sys.modules, name, module)
    return seen


async def test_the_model_masks_what_it_finds_and_the_reply_gets_it_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = fake_runtime(monkeypatch, tmp_path)
    await bench.load(**{"ONNX PII Masker": {"variant": "q4", "backend": "directml"}})
    call = {"id": "1", "function": {"name": "f", "arguments": "to Ann"}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": [{"type": "text", "text": "I am Ann Lee of Ann"}, {"a": 1}]},
    ]
    ctx = await bench.request(bench.context({"model": "m", "messages": messages}))
    sent = json.dumps(ctx.body)
    assert "Ann" not in sent and "Lee" not in sent
    text = ctx.body["messages"][1]["content"][0]["text"]
    assert text.startswith("I am [PII_PRIVATE_PERSON_")
    ctx = await bench.reply(ctx, completion(text))
    assert b"I am Ann Lee of Ann" in ctx.response.body
    assert ("openai/privacy-filter", "onnx/model_q4.onnx") in seen["files"]
    assert seen["providers"] == ["DmlExecutionProvider", "CPUExecutionProvider"]
    meta = bench.manager.get_plugin("ONNX PII Masker")
    assert meta is not None and meta["warning"] is None


@pytest.mark.parametrize("there", [False, True])
async def test_without_its_model_it_passes_everything_and_says_how_to_get_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    if there:
        fake_runtime(monkeypatch, tmp_path)
        (tmp_path / "config.json").unlink()
    else:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    await bench.load(**{"ONNX PII Masker": {}})
    ctx = await bench.request(bench.context(dict(ASK)))
    assert (ctx.body, ctx.error) == (ASK, None)
    assert "pii_masked" not in ctx.metadata
    meta = bench.manager.get_plugin("ONNX PII Masker")
    assert meta is not None
    assert ("hf download" if there else "pip install onnxruntime") in meta["warning"]


def test_tokens_of_one_group_are_one_span_and_windows_do_not_repeat_it() -> None:
    tokens = [((0, 3), "B-X"), ((4, 7), "I-X"), ((8, 9), "O"), ((9, 12), "S-X"), ((12, 14), "Y")]
    assert join(tokens) == [(0, 7, "X"), (9, 12, "X"), (12, 14, "Y")]
    assert merged([(5, 9, "X"), (0, 3, "X"), (5, 7, "X"), (8, 11, "X")]) == [
        (0, 3, "X"),
        (5, 11, "X"),
    ]


# ---- Smart Budget Guard


async def test_a_swap_neither_forgets_nor_overwrites_what_was_spent(bench: Bench) -> None:
    guard_row = {"Smart Budget Guard": {"session_budget_usd": 0.002}}
    await bench.load(**guard_row)
    store = bench.manager.state.extra["store"]
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "x" * 60}]}

    async def asked() -> bool:
        return (await bench.request(bench.context(json.loads(json.dumps(body))))).stop_chain

    assert not await asked()
    old = bench.manager.generation
    await bench.manager.hot_swap()
    assert bench.manager.generation is not old
    assert await asked()  # what the old instance counted is known to the new one
    spent = dict(bench.instance("Smart Budget Guard")._sessions)
    await old.unload()
    assert await store.get_state("budget:sessions") == spent
    assert await asked()


async def test_a_new_day_starts_at_zero(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.load(**{"Smart Budget Guard": {"session_budget_usd": 0.002}})
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "x" * 60}]}
    assert not (await bench.request(bench.context(body))).stop_chain
    assert (await bench.request(bench.context(body))).stop_chain
    monkeypatch.setattr(smart_budget_guard, "today", lambda: "2999-01-01")
    assert not (await bench.request(bench.context(body))).stop_chain


async def test_a_budget_of_nothing_refuses_what_costs_and_passes_what_does_not(
    bench: Bench,
) -> None:
    await bench.load(**{"Smart Budget Guard": {"session_budget_usd": 0, "team_budget_usd": 0}})
    free = await bench.request(bench.context({"model": "m"}))
    assert (free.error, free.stop_chain) == (None, False)
    assert (await bench.request(bench.context(dict(ASK)))).stop_chain
