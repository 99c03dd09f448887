"""The sections of `AppConfig` that plugins name and seldom read: they keep what they are given."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

# One YAML file an instance, beside the configuration file.
BACKEND_INSTANCES_DIR = Path("config") / "backends"


class LogLevel(str, enum.Enum):
    TRACE = "TRACE"
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class ParameterSource(str, enum.Enum):
    """Where a value came from; a later one wins."""

    DEFAULT = "default"
    CONFIG_FILE = "config"
    ENVIRONMENT = "environment"
    CLI = "cli"
    DERIVED = "derived"


class ParameterResolution:
    """Remembers for each setting what each source last said of it, and where."""

    def __init__(self) -> None:
        self._entries: dict[ParameterSource, dict[str, tuple[Any, str | None]]] = {}

    def record(
        self, path: str, value: Any, source: ParameterSource, *, origin: str | None = None
    ) -> None:
        self._entries.setdefault(source, {})[path] = (value, origin)

    def latest_by_source(self, source: ParameterSource) -> Mapping[str, tuple[Any, str | None]]:
        """Path → value and origin."""
        return dict(self._entries.get(source, {}))


class Section(BaseModel):
    model_config = ConfigDict(extra="allow")


class B2BUAConfig(Section):
    enabled: bool = False


class BruteForceProtectionConfig(Section):
    enabled: bool = True
    max_failed_attempts: int = 5
    ttl_seconds: int = 900


class EditPrecisionConfig(Section):
    enabled: bool = True
    temperature: float = 0.1


class EmptyResponseConfig(Section):
    enabled: bool = True
    max_retries: int = 1


class PlanningPhaseConfig(Section):
    enabled: bool = False
    strong_model: str | None = None
    max_turns: int = 10


class CanonicalRequestProcessingConfig(Section):
    enabled: bool = True


class RewritingConfig(Section):
    enabled: bool = False
    config_path: str = "config/replacements"


class SessionContinuityConfig(Section):
    enabled: bool = True


class StreamingSamplerConfig(Section):
    enabled: bool = False
    sample_rate: float = 0.0


class ToolCallReactorConfig(Section):
    enabled: bool = True


class UsageTrackingConfig(Section):
    enabled: bool = True


def get_openrouter_headers(config: Mapping[str, Any], api_key: str) -> dict[str, str]:
    """What OpenRouter is told about the application that asks."""
    return {
        "Authorization": f"Bearer {api_key}",
        "Content-Type": "application/json",
        "HTTP-Referer": str(config.get("app_site_url") or "http://localhost"),
        "X-Title": str(config.get("app_x_title") or "llm-interactive-proxy"),
    }
