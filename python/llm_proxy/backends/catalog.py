"""Every backend that is a URL with a key: one row each. A deviation is a named quirk on the row, implemented once in C++.

`base_url` is the part before the format's own path: `/chat/completions`, `/responses`, `/messages`, `/models/NAME:...`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["http", "echo", "python"]
Format = Literal["openai-chat", "openai-responses", "anthropic-messages", "gemini-generate"]
FORMATS: tuple[Format, ...] = (
    "openai-chat",
    "openai-responses",
    "anthropic-messages",
    "gemini-generate",
)
QUIRKS = (
    "max_completion_tokens",
    "developer_role",
    "reasoning_content",
    "reasoning_details",
    "nine_char_ids",
)


@dataclass(frozen=True)
class Auth:
    """Which header carries the key, and what stands before it."""

    header: str
    prefix: str = ""


BEARER = Auth("authorization", "Bearer ")
X_API_KEY = Auth("x-api-key")
X_GOOG_API_KEY = Auth("x-goog-api-key")
API_KEY = Auth("api-key")
NO_AUTH = Auth("")


Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Row:
    """What is known of one backend before anybody configures it."""

    type: str
    title: str
    format: Format = "openai-chat"
    base_url: str = ""  # empty: the user must give one
    key_env: str = ""  # KEY; KEY_1, KEY_2, ... are read too
    url_env: tuple[str, ...] = ()
    auth: Auth = BEARER
    keyless: bool = False  # works without a key: a server on this machine or network
    version_path: str = "/v1"  # added to a base URL that is given without any path
    default_model: str = ""  # what the banner's example asks for
    headers: Headers = ()
    quirks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # for servers that cannot list theirs
    kind: Kind = "http"


_ANTHROPIC_VERSION: Headers = (("anthropic-version", "2023-06-01"),)
_APP: Headers = (("HTTP-Referer", "http://localhost:8000"), ("X-Title", "llm-interactive-proxy"))

# The order is the order of preference when several are configured and no default is named.
# fmt: off
_ROWS = (
    Row("openai", "OpenAI", base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY",
        url_env=("OPENAI_API_BASE_URL", "OPENAI_BASE_URL"), default_model="gpt-5-mini",
        quirks=("max_completion_tokens", "developer_role")),
    Row("anthropic", "Anthropic", "anthropic-messages", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY",
        ("ANTHROPIC_API_BASE_URL",), X_API_KEY, default_model="claude-sonnet-4-5", headers=_ANTHROPIC_VERSION),
    Row("gemini", "Google Gemini", "gemini-generate", "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY", ("GEMINI_API_BASE_URL",), X_GOOG_API_KEY, version_path="/v1beta",
        default_model="gemini-2.5-flash"),
    Row("openrouter", "OpenRouter", base_url="https://openrouter.ai/api/v1", key_env="OPENROUTER_API_KEY",
        url_env=("OPENROUTER_API_BASE_URL",), default_model="openai/gpt-5-mini", headers=_APP,
        quirks=("reasoning_details",)),
    Row("openai-responses", "OpenAI Responses", "openai-responses", "https://api.openai.com/v1", "OPENAI_API_KEY",
        ("OPENAI_API_BASE_URL", "OPENAI_BASE_URL"), default_model="gpt-5-mini"),
    Row("nvidia", "NVIDIA NIM", base_url="https://integrate.api.nvidia.com/v1", key_env="NVIDIA_API_KEY",
        url_env=("NVIDIA_API_BASE_URL",)),
    Row("zenmux", "ZenMux", base_url="https://zenmux.ai/api/v1", key_env="ZENMUX_API_KEY",
        url_env=("ZENMUX_API_BASE_URL",), headers=_APP),
    Row("zai", "Z.ai", base_url="https://open.bigmodel.cn/api/paas/v4", key_env="ZAI_API_KEY",
        url_env=("ZAI_API_BASE_URL",), default_model="glm-4.5", quirks=("reasoning_content",)),
    Row("zai-coding-plan", "Z.ai coding plan", base_url="https://api.z.ai/api/coding/paas/v4",
        key_env="ZAI_CODING_PLAN_API_KEY", url_env=("ZAI_CODING_PLAN_API_BASE_URL",), default_model="glm-4.6",
        quirks=("reasoning_content",)),
    Row("kimi-code", "Kimi for Coding", base_url="https://api.kimi.com/coding/v1", key_env="KIMI_API_KEY",
        url_env=("KIMI_API_BASE_URL",), default_model="kimi-for-coding", quirks=("reasoning_content",)),
    Row("opencode-go", "OpenCode Go", base_url="https://opencode.ai/zen/go/v1", key_env="OPENCODE_GO_API_KEY",
        url_env=("OPENCODE_GO_API_BASE_URL",)),
    Row("minimax", "MiniMax", base_url="https://api.minimax.io/v1", key_env="MINIMAX_API_KEY",
        url_env=("MINIMAX_API_BASE_URL",), default_model="MiniMax-M2", models=("MiniMax-M2",)),
    Row("internlm", "InternLM", base_url="https://chat.intern-ai.org.cn/api/v1", key_env="INTERNAI_API_KEY",
        url_env=("INTERNAI_API_BASE_URL",), default_model="intern-latest",
        models=("intern-latest", "intern-s1-pro", "intern-s1", "intern-s1-mini")),
    Row("azure", "Azure OpenAI", key_env="AZURE_OPENAI_API_KEY",
        url_env=("AZURE_OPENAI_API_BASE_URL", "AZURE_OPENAI_ENDPOINT"), auth=API_KEY, version_path="/openai/v1",
        quirks=("max_completion_tokens", "developer_role")),
    Row("deepseek", "DeepSeek", base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY",
        url_env=("DEEPSEEK_API_BASE_URL",), default_model="deepseek-chat", quirks=("reasoning_content",)),
    Row("mistral", "Mistral", base_url="https://api.mistral.ai/v1", key_env="MISTRAL_API_KEY",
        url_env=("MISTRAL_API_BASE_URL",), default_model="mistral-small-latest", quirks=("nine_char_ids",)),
    Row("groq", "Groq", base_url="https://api.groq.com/openai/v1", key_env="GROQ_API_KEY",
        url_env=("GROQ_API_BASE_URL",)),
    Row("xai", "xAI", base_url="https://api.x.ai/v1", key_env="XAI_API_KEY", url_env=("XAI_API_BASE_URL",)),
    Row("together", "Together", base_url="https://api.together.xyz/v1", key_env="TOGETHER_API_KEY",
        url_env=("TOGETHER_API_BASE_URL",)),
    Row("fireworks", "Fireworks", base_url="https://api.fireworks.ai/inference/v1", key_env="FIREWORKS_API_KEY",
        url_env=("FIREWORKS_API_BASE_URL",)),
    Row("perplexity", "Perplexity", base_url="https://api.perplexity.ai", key_env="PERPLEXITY_API_KEY",
        url_env=("PERPLEXITY_API_BASE_URL",), version_path="", default_model="sonar"),
    Row("cerebras", "Cerebras", base_url="https://api.cerebras.ai/v1", key_env="CEREBRAS_API_KEY",
        url_env=("CEREBRAS_API_BASE_URL",)),
    Row("ollama", "Ollama", base_url="http://127.0.0.1:11434/v1", key_env="OLLAMA_API_KEY",
        url_env=("OLLAMA_API_BASE_URL",), keyless=True),
    Row("lmstudio", "LM Studio", base_url="http://127.0.0.1:1234/v1", key_env="LMSTUDIO_API_KEY",
        url_env=("LMSTUDIO_API_BASE_URL",), keyless=True),
    Row("vllm", "vLLM", key_env="VLLM_API_KEY", url_env=("VLLM_API_BASE_URL",), keyless=True),
    Row("llama.cpp", "llama.cpp", base_url="http://127.0.0.1:8080/v1", key_env="LLAMA_CPP_API_KEY",
        url_env=("LLAMA_CPP_API_BASE_URL",), keyless=True),
    Row("openai-compatible", "any server that speaks OpenAI chat", keyless=True),
    Row("anthropic-compatible", "any server that speaks Anthropic messages", "anthropic-messages", auth=X_API_KEY,
        keyless=True, headers=_ANTHROPIC_VERSION),
    Row("gemini-compatible", "any server that speaks Gemini", "gemini-generate", auth=X_GOOG_API_KEY, keyless=True,
        version_path="/v1beta"),
    Row("echo", "the built-in answerer", auth=NO_AUTH, keyless=True, default_model="echo", kind="echo"),
)
# fmt: on

CATALOG: MappingProxyType[str, Row] = MappingProxyType({row.type: row for row in _ROWS})

# Backends that come with the optional package: named in a config without it, they earn the command that installs it.
OAUTH_PACKAGE_BACKENDS = frozenset(
    {
        "antigravity-oauth",
        "cline",
        "gemini-oauth-auto",
        "gemini-oauth-free",
        "gemini-oauth-plan",
        "kiro-oauth-auto",
        "opencode-zen",
        "qwen-oauth",
    }
)
INSTALL_OAUTH = "pip install llm-interactive-proxy[oauth]"
