"""What models cost, in US dollars per million tokens.

The table comes with the proxy and is never fetched; `PRICING_VERSION` says of when it is. A
configuration may override any row.
"""

from __future__ import annotations

from collections.abc import Mapping

Price = dict[str, float]

PRICING_VERSION = "2025-11"

_ROWS = """
gpt-5                        1.25   10.00
gpt-5-mini                   0.25    2.00
gpt-5-nano                   0.05    0.40
gpt-4.1                      2.00    8.00
gpt-4.1-mini                 0.40    1.60
gpt-4.1-nano                 0.10    0.40
gpt-4o                       2.50   10.00
gpt-4o-mini                  0.15    0.60
gpt-4-turbo                 10.00   30.00
gpt-4                       30.00   60.00
gpt-3.5-turbo                0.50    1.50
o1                          15.00   60.00
o1-mini                      1.10    4.40
o3                           2.00    8.00
o3-mini                      1.10    4.40
o4-mini                      1.10    4.40
text-embedding-3-small       0.02    0.00
text-embedding-3-large       0.13    0.00
claude-opus-4-5              5.00   25.00
claude-opus-4               15.00   75.00
claude-sonnet-4              3.00   15.00
claude-haiku-4               1.00    5.00
claude-3-7-sonnet            3.00   15.00
claude-3-5-sonnet            3.00   15.00
claude-3-5-haiku             0.80    4.00
claude-3-opus               15.00   75.00
claude-3-sonnet              3.00   15.00
claude-3-haiku               0.25    1.25
gemini-3-pro                 2.00   12.00
gemini-2.5-pro               1.25   10.00
gemini-2.5-flash             0.30    2.50
gemini-2.5-flash-lite        0.10    0.40
gemini-2.0-flash             0.10    0.40
gemini-1.5-pro               1.25    5.00
gemini-1.5-flash             0.075   0.30
deepseek-chat                0.28    0.42
deepseek-reasoner            0.28    0.42
mistral-large                2.00    6.00
mistral-small                0.10    0.30
grok-4                       3.00   15.00
kimi-k2                      0.60    2.50
"""


def _price(row: Mapping[str, object]) -> Price:
    return {side: float(str(row.get(side, 0.0))) for side in ("input", "output")}


MODEL_PRICING: dict[str, Price] = {
    name: {"input": float(into), "output": float(out)}
    for name, into, out in (line.split() for line in _ROWS.strip().splitlines())
}
_DEFAULT_PRICING: Price = {"input": 1.00, "output": 3.00}
_FREE: Price = {"input": 0.0, "output": 0.0}
_LOCAL_SERVERS = frozenset(
    ("ollama", "lmstudio", "lm-studio", "vllm", "llamacpp", "llama.cpp", "localai", "local")
)
# Without a vendor before them: who sells them calls them "meta-llama/llama-3.3-70b-instruct".
_LOCAL_FAMILIES = (
    *(
        "llama",
        "codellama",
        "tinyllama",
        "gemma",
        "phi",
        "qwen",
        "mixtral",
        "mistral:",
        "mistral-7b",
    ),
    *("vicuna", "starcoder", "nomic-embed", "local-"),
)
_config_overrides: dict[str, Price] = {}
_SORTED_PREFIXES: list[str] = sorted(MODEL_PRICING, key=len, reverse=True)


def set_config_overrides(overrides: Mapping[str, Mapping[str, object]] | None) -> None:
    """Replaces the configured prices: {model: {input, output}}."""
    _config_overrides.clear()
    for model, row in (overrides or {}).items():
        _config_overrides[model] = _price(row)


def set_model_pricing(
    model: str | Mapping[str, Mapping[str, object]], input: float = 0.0, output: float = 0.0
) -> None:
    """Sets one price, or those of {model: {input, output}}, for as long as the process lives."""
    if isinstance(model, str):
        model = {model: {"input": input, "output": output}}
    for name, row in model.items():
        _config_overrides[name] = _price(row)


def is_local(model: str) -> bool:
    """A model that runs on the user's own machine: named by a local server (`ollama:phi4`), or as
    local servers name one, without a vendor and with a tag (`llama3:8b`) or a bare family."""
    server, _, _ = model.partition(":" if ":" in model.partition("/")[0] else "/")
    if server.lower().partition(".")[0] in _LOCAL_SERVERS:
        return True
    return "/" not in model and model.lower().startswith(_LOCAL_FAMILIES)


def get_pricing(model: str) -> Price:
    """The price of a model: override, exact name, longest known prefix, or the default."""
    model = model or ""
    name = model.rpartition(":")[2]
    bare = name.rpartition("/")[2]
    for key in (model, name, bare):
        if key in _config_overrides:
            return _config_overrides[key]
        if key in MODEL_PRICING:
            return MODEL_PRICING[key]
    if is_local(model):
        return _FREE
    prefix = next((known for known in _SORTED_PREFIXES if bare.startswith(known)), None)
    return MODEL_PRICING[prefix] if prefix else _DEFAULT_PRICING


def estimate_cost(model: str, input_tokens: float, output_tokens: float) -> float:
    price = get_pricing(model)
    return (input_tokens * price["input"] + output_tokens * price["output"]) / 1_000_000


def estimate_cost_pre_flight(
    model: str, input_tokens: float, avg_output_ratio: float = 0.5
) -> float:
    """Before the answer is known: its length is taken as a share of the question's."""
    return estimate_cost(model, input_tokens, input_tokens * avg_output_ratio)


def baseline_premium_pricing() -> Price:
    """The dearest row of the table: what savings are measured against."""
    return max(MODEL_PRICING.values(), key=lambda price: price["input"] + price["output"])


def estimate_baseline_savings(model: str, input_tokens: float, output_tokens: float) -> float:
    """What the same tokens would have cost more on the dearest model; never negative."""
    dearest = baseline_premium_pricing()
    most = (input_tokens * dearest["input"] + output_tokens * dearest["output"]) / 1_000_000
    return max(0.0, most - estimate_cost(model, input_tokens, output_tokens))
