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
# What each deviation means; the engine implements it once (cpp/formats: the codec, body_edits).
QUIRKS: MappingProxyType[str, str] = MappingProxyType(
    {
        "max_completion_tokens": "translated requests say max_completion_tokens, not max_tokens",
        "developer_role": "translated system text goes under role developer",
        "reasoning_content": "translated thinking is replayed as reasoning_content",
        "reasoning_details": "reasoning_details are understood and replayed",
        "nine_char_ids": "tool call ids are nine letters or digits",
        "max_tokens": "only max_tokens is known: max_completion_tokens is renamed",
        "no_stream_options": "stream_options is dropped",
        "no_reasoning": "reasoning and reasoning_effort are dropped",
        "no_reasoning_object": "the reasoning object is dropped; reasoning_effort stays",
        "no_thinking": "thinking, anthropic_beta, output_config and reasoning_effort are dropped",
        "plan_members": "members that the coding plan does not know are dropped",
        "plain_tool_choice": 'a tool_choice that names a tool becomes "auto"',
        "token_floor": "max_tokens below 512 are raised: thinking would leave no answer",
        "token_cap": "max_tokens above 200000 are lowered",
        "thinking_mode": "thinking_mode is switched on unless the request says",
        "system_role": "messages of role developer become role system",
        "reasoning_everywhere": "assistant messages without reasoning_content are given a blank one",
        "cumulative_text": "chunks of a stream that repeat all that was said lose what is not new",
        "whole_replies": "asked for whole replies only; a streaming client's stream is made here",
    }
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
class OtherFormat:
    """A second format that the same server speaks, for some of its models."""

    format: Format
    models: tuple[str, ...]
    quirks: tuple[str, ...] = ()


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
    no_key: str = ""  # what is sent where there is none
    version_path: str = "/v1"  # added to a base URL that is given without any path
    default_model: str = ""  # what the banner's example asks for
    headers: Headers = ()
    vendors: tuple[str, ...] = ()  # "zhipu" of zhipu/glm-4.6, taken off before the name is sent
    quirks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # for servers that cannot list theirs
    models_path: str = ""  # for servers that list theirs elsewhere than the format says
    cloud_models_url: str = ""  # where its maker lists what it passes on to a cloud
    model_names: Headers = ()  # (as asked, as the server knows it)
    other: OtherFormat | None = None
    client_headers: bool = True  # a client of the same format may send it headers of its own
    loop_guard: bool = True  # it is told that a proxy asks
    kind: Kind = "http"
    spare_key_env: str = ""  # read where neither KEY nor a numbered one is set

    @property
    def key_variables(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.key_env, self.spare_key_env)))

    @property
    def timeout_env(self) -> str:
        return f"{self.key_env.removesuffix('_API_KEY')}_TIMEOUT" if self.key_env else ""


AUTH_OF_FORMAT: MappingProxyType[Format, Auth] = MappingProxyType(
    {
        "openai-chat": BEARER,
        "openai-responses": BEARER,
        "anthropic-messages": X_API_KEY,
        "gemini-generate": X_GOOG_API_KEY,
    }
)
_APP: Headers = (("HTTP-Referer", "http://localhost:8000"), ("X-Title", "llm-interactive-proxy"))
_GO_MESSAGES = (
    "minimax-m3",
    "minimax-m2.5",
    "minimax-m2.7",
    "qwen3.7-max",
    "qwen3.7-plus",
    "qwen3.6-plus",
    "qwen3.5-plus",
)
_PERPLEXITY = ("sonar", "sonar-pro", "sonar-reasoning-pro", "sonar-deep-research")

# The order is the order of preference when several are configured and no default is named.
# fmt: off
_ROWS = (
    Row("openai", "OpenAI", base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY",
        url_env=("OPENAI_API_BASE_URL", "OPENAI_BASE_URL"), default_model="gpt-5-mini", vendors=("openai",),
        quirks=("max_completion_tokens", "developer_role")),
    Row("anthropic", "Anthropic", "anthropic-messages", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY",
        ("ANTHROPIC_API_BASE_URL",), X_API_KEY, default_model="claude-sonnet-4-5", vendors=("anthropic",)),
    Row("gemini", "Google Gemini", "gemini-generate", "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY", ("GEMINI_API_BASE_URL",), X_GOOG_API_KEY, version_path="/v1beta",
        default_model="gemini-2.5-flash", vendors=("google",), spare_key_env="GOOGLE_API_KEY"),
    Row("openrouter", "OpenRouter", base_url="https://openrouter.ai/api/v1", key_env="OPENROUTER_API_KEY",
        url_env=("OPENROUTER_API_BASE_URL",), default_model="openai/gpt-5-mini", headers=_APP,
        quirks=("reasoning_details",)),
    Row("openai-responses", "OpenAI Responses", "openai-responses", "https://api.openai.com/v1", "OPENAI_API_KEY",
        ("OPENAI_API_BASE_URL", "OPENAI_BASE_URL"), default_model="gpt-5-mini", vendors=("openai",)),
    Row("nvidia", "NVIDIA NIM", base_url="https://integrate.api.nvidia.com/v1", key_env="NVIDIA_API_KEY",
        url_env=("NVIDIA_API_BASE_URL",), quirks=("max_tokens", "no_reasoning_object", "no_stream_options")),
    Row("zenmux", "ZenMux", base_url="https://zenmux.ai/api/v1", key_env="ZENMUX_API_KEY",
        url_env=("ZENMUX_API_BASE_URL",), headers=_APP),
    Row("zai", "Z.ai", base_url="https://open.bigmodel.cn/api/paas/v4", key_env="ZAI_API_KEY",
        url_env=("ZAI_API_BASE_URL",), default_model="glm-4.5", vendors=("zhipu", "z-ai", "zai"),
        quirks=("reasoning_content", "max_tokens", "token_cap", "no_reasoning_object", "system_role"),
        client_headers=False),
    Row("zai-coding-plan", "Z.ai coding plan", base_url="https://api.z.ai/api/coding/paas/v4",
        key_env="ZAI_CODING_PLAN_API_KEY", url_env=("ZAI_CODING_PLAN_API_BASE_URL",), default_model="glm-4.6",
        vendors=("zhipu", "z-ai", "zai"),
        quirks=("reasoning_content", "max_tokens", "plan_members", "plain_tool_choice", "system_role"),
        client_headers=False, loop_guard=False),
    Row("kimi-code", "Kimi for Coding", base_url="https://api.kimi.com/coding/v1", key_env="KIMI_API_KEY",
        url_env=("KIMI_API_BASE_URL",), default_model="kimi-for-coding", vendors=("moonshot", "moonshotai", "kimi"),
        quirks=("reasoning_content", "reasoning_everywhere", "no_reasoning_object", "max_tokens", "token_floor",
                "system_role", "cumulative_text"),
        client_headers=False, loop_guard=False),
    Row("opencode-go", "OpenCode Go", base_url="https://opencode.ai/zen/go/v1", key_env="OPENCODE_GO_API_KEY",
        url_env=("OPENCODE_GO_API_BASE_URL",), quirks=("no_reasoning_object",),
        model_names=(("kimi-k2.7", "kimi-k2.7-code"),),
        other=OtherFormat("anthropic-messages", _GO_MESSAGES, ("no_thinking",))),
    Row("minimax", "MiniMax", base_url="https://api.minimax.io/v1", key_env="MINIMAX_API_KEY",
        url_env=("MINIMAX_API_BASE_URL",), default_model="MiniMax-M2", vendors=("minimax",),
        models=("MiniMax-M2",), quirks=("system_role",)),
    Row("internlm", "InternLM", base_url="https://chat.intern-ai.org.cn/api/v1", key_env="INTERNAI_API_KEY",
        url_env=("INTERNAI_API_BASE_URL",), default_model="intern-latest", vendors=("internlm",),
        models=("intern-latest", "intern-s1-pro", "intern-s1", "intern-s1-mini"),
        quirks=("whole_replies", "thinking_mode", "no_stream_options", "max_tokens", "system_role")),
    Row("azure", "Azure OpenAI", key_env="AZURE_OPENAI_API_KEY",
        url_env=("AZURE_OPENAI_API_BASE_URL", "AZURE_OPENAI_ENDPOINT"), auth=API_KEY, version_path="/openai/v1",
        quirks=("max_completion_tokens", "developer_role")),
    Row("deepseek", "DeepSeek", base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY",
        url_env=("DEEPSEEK_API_BASE_URL",), default_model="deepseek-chat", vendors=("deepseek",),
        quirks=("reasoning_content", "no_reasoning_object", "system_role")),
    Row("mistral", "Mistral", base_url="https://api.mistral.ai/v1", key_env="MISTRAL_API_KEY",
        url_env=("MISTRAL_API_BASE_URL",), default_model="mistral-small-latest", vendors=("mistralai",),
        quirks=("nine_char_ids", "max_tokens", "system_role")),
    Row("groq", "Groq", base_url="https://api.groq.com/openai/v1", key_env="GROQ_API_KEY",
        url_env=("GROQ_API_BASE_URL",)),
    Row("xai", "xAI", base_url="https://api.x.ai/v1", key_env="XAI_API_KEY", url_env=("XAI_API_BASE_URL",),
        vendors=("x-ai", "xai")),
    Row("together", "Together", base_url="https://api.together.xyz/v1", key_env="TOGETHER_API_KEY",
        url_env=("TOGETHER_API_BASE_URL",)),
    Row("fireworks", "Fireworks", base_url="https://api.fireworks.ai/inference/v1", key_env="FIREWORKS_API_KEY",
        url_env=("FIREWORKS_API_BASE_URL",)),
    Row("perplexity", "Perplexity", base_url="https://api.perplexity.ai", key_env="PERPLEXITY_API_KEY",
        url_env=("PERPLEXITY_API_BASE_URL",), version_path="", default_model="sonar", vendors=("perplexity",),
        models=_PERPLEXITY),
    Row("cerebras", "Cerebras", base_url="https://api.cerebras.ai/v1", key_env="CEREBRAS_API_KEY",
        url_env=("CEREBRAS_API_BASE_URL",), vendors=("cerebras",)),
    Row("ollama", "Ollama", base_url="http://127.0.0.1:11434/v1", key_env="OLLAMA_API_KEY",
        url_env=("OLLAMA_API_BASE_URL",), keyless=True, no_key="ollama", vendors=("ollama",),
        quirks=("max_tokens", "no_reasoning_object"), cloud_models_url="https://ollama.com/api/tags"),
    Row("lmstudio", "LM Studio", base_url="http://127.0.0.1:1234/v1", key_env="LMSTUDIO_API_KEY",
        url_env=("LMSTUDIO_API_BASE_URL",), keyless=True),
    Row("vllm", "vLLM", key_env="VLLM_API_KEY", url_env=("VLLM_API_BASE_URL",), keyless=True),
    Row("llama.cpp", "llama.cpp", base_url="http://127.0.0.1:8080/v1", key_env="LLAMA_CPP_API_KEY",
        url_env=("LLAMA_CPP_API_BASE_URL",), keyless=True),
    Row("openai-compatible", "any server that speaks OpenAI chat", keyless=True),
    Row("responses-compatible", "any server that speaks OpenAI Responses", "openai-responses", keyless=True),
    Row("anthropic-compatible", "any server that speaks Anthropic messages", "anthropic-messages", auth=X_API_KEY,
        keyless=True),
    Row("gemini-compatible", "any server that speaks Gemini", "gemini-generate", auth=X_GOOG_API_KEY, keyless=True,
        version_path="/v1beta"),
    Row("echo", "the built-in answerer", auth=NO_AUTH, keyless=True, default_model="echo", kind="echo",
        models=("echo",)),
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
# Whoever logged in on this machine is who these act for: nothing for other people's requests.
PERSONAL_BACKENDS = OAUTH_PACKAGE_BACKENDS | {
    "cursor-cli-acp",
    "gemini-cli-acp",
    "gemini-cli-cloud-project",
    "openai-codex",
}
INSTALL_OAUTH = "pip install llm-interactive-proxy[oauth]"
