"""The store, the caches, the price table and the names that plugins import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_proxy.rings.builtin.default import smart_router
from llm_proxy.rings.services import pricing
from llm_proxy.rings.services.cache import NegativeCache, ResponseCache
from llm_proxy.rings.services.store import StateStore
from llm_proxy.rings.services.stream_faker import fake_stream
from llm_proxy.rings.services.tokenizer import count_messages_tokens, count_tokens
from rings.conftest import completion

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def test_what_is_stored_is_there_at_once_and_after_a_restart(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.sqlite3")
    assert await store.get_state("key", "none") == "none"
    await store.set_state("key", {"ü": [1]})
    assert await store.get_state("key") == {"ü": [1]}
    store.close()
    again = StateStore(tmp_path / "state.sqlite3")
    assert await again.get_state("key") == {"ü": [1]}
    again.close()


async def test_a_file_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "no such folder" / "x")
    await store.set_state("key", 1)
    assert await store.get_state("key") == 1
    store.close()
    assert store.problem is not None


async def test_the_cache_is_by_tenant_bounded_and_forgets() -> None:
    now = [0.0]
    cache = ResponseCache(ttl=10, max_bytes=8000, clock=lambda: now[0])
    await cache.put(cache.make_key(BODY, "a"), completion("x"))
    assert await cache.get({**BODY, "stream": True}, tenant_id="a") == completion("x")
    assert await cache.get(BODY, tenant_id="b") is None
    assert await cache.get({**BODY, "temperature": 1}, tenant_id="a") is None
    now[0] = 11
    assert await cache.get(BODY, tenant_id="a") is None
    for number in range(100):
        await cache.put(str(number), completion("x" * 100))
    assert cache.stats()["bytes"] <= 8000


def test_a_refusal_is_kept_by_tenant_and_forgotten() -> None:
    now = [0.0]
    cache = NegativeCache(maxsize=2, ttl=10, clock=lambda: now[0])
    cache.add(BODY, "why", "a")
    assert (cache.check(BODY, "a"), cache.check(BODY, "b")) == ("why", None)
    now[0] = 11
    assert cache.check(BODY, "a") is None


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-4o", 2.5),
        ("openai:gpt-4o-2024-11-20", 2.5),
        ("gpt-4o-mini-2024-07-18", 0.15),
        ("anthropic/claude-sonnet-4-20250514", 3.0),
        ("nobody-knows", 1.0),
        ("mine", 7.0),
        ("llama3:8b", 0.0),
        ("llama3.2", 0.0),
        ("ollama:deepseek-r1", 0.0),
        ("ollama/phi4", 0.0),
        ("ollama.2:whatever", 0.0),
        ("mistral:7b", 0.0),
        ("mistral-large-2411", 2.0),
        ("meta-llama/llama-3.3-70b", 1.0),
        ("openrouter:qwen/qwen3-coder:free", 1.0),
    ],
)
def test_a_price_is_found_by_override_name_prefix_or_default(model: str, price: float) -> None:
    pricing.set_config_overrides({"mine": {"input": 7, "output": 8}})
    try:
        assert pricing.get_pricing(model)["input"] == price
    finally:
        pricing.set_config_overrides(None)


def test_prices_may_be_set_one_by_one_or_as_a_table() -> None:
    try:
        pricing.set_model_pricing("one", 1, 2)
        pricing.set_model_pricing({"two": {"input": 3, "output": 4}, "three": {"input": 5}})
        prices = [pricing.get_pricing(name) for name in ("one", "two", "three")]
    finally:
        pricing.set_config_overrides(None)
    assert [(price["input"], price["output"]) for price in prices] == [(1, 2), (3, 4), (5, 0)]


async def test_a_completion_is_told_as_a_stream() -> None:
    lines = [line async for line in fake_stream(completion("hello"))]
    assert lines[-1] == "data: [DONE]\n\n"
    assert '"role":"assistant"' in lines[0]
    assert sum('"content":' in line for line in lines) == 2


def test_tokens_of_odd_messages_are_counted() -> None:
    image = {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "x" * 8}]}
    assert count_messages_tokens([{"role": "assistant", "content": None}, image, "odd"]) >= 95
    assert count_tokens("") == 0
    assert count_messages_tokens([]) == 2
    assert count_messages_tokens(None) == 0


def test_the_names_that_plugins_import_are_the_very_modules() -> None:
    import core.cache
    import core.pricing
    import core.stream_faker
    import core.tokenizer
    import plugins.default.smart_router
    from llm_proxy.rings.builtin.default import smart_router
    from plugins.marketplace.tool_guard import ToolGuard

    assert core.pricing._config_overrides is pricing._config_overrides
    assert core.cache.NegativeCache is NegativeCache
    assert plugins.default.smart_router._endpoint_stats is smart_router._endpoint_stats
    assert ToolGuard.__name__ == "ToolGuard"
    assert core.stream_faker.fake_stream is fake_stream
    assert core.tokenizer.count_tokens is count_tokens


async def test_what_routers_learn_is_shared_through_redis() -> None:
    kept: dict[str, dict[str, Any]] = {}

    class Redis:
        async def hset(self, key: str, mapping: dict[str, Any]) -> None:
            kept[key] = mapping

        async def hgetall(self, key: bytes) -> dict[bytes, bytes]:
            return {k.encode(): str(v).encode() for k, v in kept[key.decode()].items()}

        async def scan_iter(self, pattern: str) -> Any:
            assert pattern == "ep:stats:*"
            for key in kept:
                yield key.encode()

    smart_router._endpoint_stats.clear()
    await smart_router.update_endpoint_stats("a", 100.0, True, Redis())
    await smart_router.update_endpoint_stats("a", 200.0, False, Redis())
    seen = smart_router.get_endpoint_stats("a")
    smart_router._endpoint_stats.clear()
    await smart_router.sync_endpoint_stats_from_redis(Redis())
    assert smart_router.get_endpoint_stats("a") == seen
    assert seen == {"latency_ms": 120.0, "success": 0.8, "count": 2}
    await smart_router.sync_endpoint_stats_from_redis(None)
    smart_router._endpoint_stats.clear()
