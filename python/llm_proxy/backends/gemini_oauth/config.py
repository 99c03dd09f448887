"""What holds for every Code Assist connector unless its class says otherwise."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

CODE_ASSIST_ENDPOINT = "https://cloudcode-pa.googleapis.com"
CODE_ASSIST_API_VERSION = "v1internal"
ANTIGRAVITY_SANDBOX_ENDPOINT = "https://daily-cloudcode-pa.sandbox.googleapis.com"

DEFAULT_CONNECTION_TIMEOUT = 60.0
DEFAULT_READ_TIMEOUT = 120.0
DEFAULT_RETRY_DELAYS = [5.0, 10.0]
DEFAULT_MAX_TOTAL_ATTEMPTS = 6
DEFAULT_COOLDOWN_DURATION = 600.0
DEFAULT_RECOVERY_PROBE_INTERVAL = 120.0
DEFAULT_CODE_ASSIST_PROMPT_LIMIT = 65536
CODE_ASSIST_PROMPT_LIMIT_MARGIN = 0.97

DEFAULT_AVAILABLE_MODELS = [
    "gemini-3-pro-preview",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
]


class _Record(BaseModel):
    """Keeps what a connector puts into it under names of its own as well."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)


class GracefulDegradationConfig(_Record):
    """How long a model that failed is left alone; all times in seconds."""

    enabled: bool = True
    retry_delays: list[float] = Field(default_factory=lambda: list(DEFAULT_RETRY_DELAYS))
    max_total_attempts: int = DEFAULT_MAX_TOTAL_ATTEMPTS
    cooldown_duration: float = DEFAULT_COOLDOWN_DURATION
    recovery_probe_interval: float = DEFAULT_RECOVERY_PROBE_INTERVAL


class GracefulDegradationMetrics(_Record):
    failures: int = 0
    recoveries: int = 0
    models_in_cooldown: int = 0


class ModelRetryState(_Record):
    """What is known of one model's failures; `cooldown_until` is of the monotonic clock."""

    attempts: int = 0
    cooldown_until: float = 0.0

    def in_cooldown(self, now: float) -> bool:
        return now < self.cooldown_until
