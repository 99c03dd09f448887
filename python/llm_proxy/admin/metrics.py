"""What the proxy counts: `/metrics` for Prometheus, and JSON for the user interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from llm_proxy.admin import plugin_answers as admin
from llm_proxy.admin.access import answered

if TYPE_CHECKING:
    from llm_proxy.server import Server

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
ENGINE = (
    ("requests", "llmproxy_requests_total", "counter", "Requests answered since the start."),
    ("active", "llmproxy_requests_active", "gauge", "Requests under way."),
    ("client_connections", "llmproxy_client_connections", "gauge", "Connections of clients."),
    ("upstream_connections", "llmproxy_upstream_connections", "gauge", "Connections to providers."),
    ("upstream_idle", "llmproxy_upstream_idle", "gauge", "Of these, the ones kept for later."),
    ("memory_used", "llmproxy_memory_bytes", "gauge", "Memory that requests under way hold."),
    ("memory_limit", "llmproxy_memory_limit_bytes", "gauge", "What they may hold together."),
    ("memory_refused", "llmproxy_memory_refused_total", "counter", "Refused for want of memory."),
    ("bodies_decoding", "llmproxy_bodies_decoding", "gauge", "Compressed bodies being decoded."),
)
PLUGIN = (
    ("invocations", "llmproxy_plugin_invocations_total", "Runs of a ring plugin."),
    ("errors", "llmproxy_plugin_errors_total", "Runs that failed, time limits included."),
    ("blocks", "llmproxy_plugin_blocks_total", "Requests and replies it refused."),
    ("timeouts", "llmproxy_plugin_timeouts_total", "Runs that met their time limit."),
)
LATENCY = "llmproxy_plugin_latency_seconds"
QUANTILES = (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))


def routes(server: Server) -> APIRouter:
    router = APIRouter(prefix="/metrics", tags=["metrics"])

    @router.get("/latency")
    async def latency() -> JSONResponse:
        return answered(admin.latency(await server.ring_plugins()))

    @router.get("/ring-timeline")
    async def ring_timeline() -> JSONResponse:
        return answered(admin.ring_timeline(await server.ring_plugins()))

    return router


def prometheus(server: Server) -> PlainTextResponse:
    return PlainTextResponse("".join(_lines(server)), media_type=PROMETHEUS)


def _lines(server: Server) -> Iterator[str]:
    numbers = server.stats()
    for key, name, kind, text in ENGINE:
        yield from _family(name, kind, text, [("", {}, numbers.get(key, 0))])
    if server.plugins is None:
        return
    stats = server.plugins.get_plugin_stats()
    for key, name, text in PLUGIN:
        rows = [("", {"plugin": plugin}, row[key]) for plugin, row in stats.items()]
        yield from _family(name, "counter", text, rows)
    rows = []
    for plugin, row in stats.items():
        for quantile, key in QUANTILES:
            labels = {"plugin": plugin, "quantile": quantile}
            rows.append(("", labels, row["latency_percentiles"][key] / 1000))
        rows.append(("_sum", {"plugin": plugin}, row["total_latency_ms"] / 1000))
        rows.append(("_count", {"plugin": plugin}, row["invocations"]))
    yield from _family(LATENCY, "summary", "How long a ring plugin takes.", rows)


def _family(
    name: str, kind: str, text: str, rows: Iterable[tuple[str, Mapping[str, str], Any]]
) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for suffix, labels, value in rows:
        shown = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        yield f"{name}{suffix}{{{shown}}} {value}\n" if shown else f"{name}{suffix} {value}\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
