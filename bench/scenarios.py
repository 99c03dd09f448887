"""What is measured: one row each. `must` and `goal` are ratios to nginx in the same run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.servers import Variant

OPENAI = Variant()
EVERY_PAIR = {
    "chat": Variant("openai"),
    "messages": Variant("anthropic"),
    "responses": Variant("openai-responses"),
    "gemini": Variant("gemini"),
}
# The nine that any ring engine of this kind brings; the stock set has two more.
DEFAULT_PLUGINS = (
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


@dataclass(frozen=True)
class Load:
    """The same request, over and over, through nginx and through the proxy in turn."""

    name: str
    frontend: str = "chat"
    variant: Variant = OPENAI
    size: str = "small"  # of CONVERSATIONS
    stream: str = ""  # "", "unpaced" or "paced"
    connections: int = 16
    seconds: float = 2
    rate: float = 0  # requests a second; 0: as fast as the connections allow
    fill: float = 0  # seconds of requests that fill the proxy's caches before anything is measured
    must: float | None = None
    goal: float | None = None
    added_must: float | None = None  # µs over the proxy without plugins, measured in turn too
    plain_must: float | None = None  # ratio to the proxy without plugins, likewise
    raw: bool = True  # the reply must come through byte for byte
    upstream: bool = True  # false: a Python backend answers, nginx has nothing to be compared with
    extra: bool = False  # only with --all or --only

    @property
    def against_plain(self) -> bool:
        return self.added_must is not None or self.plain_must is not None


def _translated(frontend: str, backend: str) -> list[Load]:
    """One pair: `frontend` as the client speaks, `backend` as the upstream does."""
    variant = EVERY_PAIR[backend]
    pair = f"{frontend}-{backend}"
    extra = (frontend, backend) != ("messages", "chat")
    common = {"frontend": frontend, "variant": variant, "raw": False, "extra": extra}
    small_must = 4.0 if extra else 3.5
    return [
        Load(f"{pair}/small", **common, must=small_must, goal=3.0),  # type: ignore[arg-type]
        Load(f"{pair}/100k", **common, size="100k", connections=4, must=6, goal=4),  # type: ignore[arg-type]
        Load(f"{pair}/stream", **common, stream="unpaced", connections=4),  # type: ignore[arg-type]
        Load(f"{pair}/paced", **common, stream="paced", connections=100, must=1.0),  # type: ignore[arg-type]
    ]


def _with_plugins(kind: str, count: int, must: float) -> Load:
    return Load(
        f"plugins/{kind}-{count}", variant=Variant(plugins=(kind,) * count), added_must=must
    )


def _with_builtins(name: str, builtins: tuple[str, ...], must: float) -> Load:
    # At one rate: a slower proxy would find its peers asleep more often, and waking them is dear.
    variant = Variant(builtins=builtins)
    return Load(name, variant=variant, size="2k", rate=8000, fill=8, added_must=must, raw=False)


def _python(name: str, stream: str, connections: int) -> Load:
    variant = Variant("bench-python", python_backends=True)
    return Load(name, "chat", variant, "small", stream, connections, raw=False, upstream=False)


def _native(name: str, stream: str, connections: int) -> Load:
    variant = Variant("bench-native", python_backends=True)
    return Load(
        name, variant=variant, stream=stream, connections=connections, seconds=4, plain_must=1.1
    )


LOADS: tuple[Load, ...] = (
    Load("raw/small", must=2.0, goal=1.6),
    Load("raw/small-c1", connections=1),
    Load("raw/100k", size="100k", connections=4, must=1.8),
    Load("raw/1m", size="1m", connections=2, must=1.0),
    Load("raw/stream", stream="unpaced", connections=4),
    Load("raw/paced", stream="paced", connections=100, must=0.95),
    Load("raw/open-5000", connections=64, rate=5000),
    *_translated("messages", "chat"),
    _with_plugins("direct", 1, 10),
    _with_plugins("direct", 5, 10 + 4),
    _with_plugins("eager", 1, 15),
    _with_plugins("eager", 5, 15 + 4),
    _with_builtins("plugins/defaults", DEFAULT_PLUGINS, 10),
    *(
        replace(_with_builtins(f"plugins/default-{n}", (name,), 10), extra=True)
        for n, name in enumerate(DEFAULT_PLUGINS, 1)
    ),
    _python("python/small", "", 16),
    _python("python/stream", "unpaced", 4),
    _native("python/native", "", 16),
    _native("python/native-stream", "unpaced", 4),
    *(
        Load(f"raw-{name}/{kind}", name, variant, stream=stream, connections=c, extra=True)
        for name, variant in EVERY_PAIR.items()
        if name != "chat"
        for kind, stream, c in (("small", "", 16), ("stream", "unpaced", 4))
    ),
    *(
        load
        for frontend in EVERY_PAIR
        for backend in EVERY_PAIR
        if frontend != backend and (frontend, backend) != ("messages", "chat")
        for load in _translated(frontend, backend)
    ),
)
