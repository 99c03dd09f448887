"""What holds for every Code Assist connector unless its class says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

CODE_ASSIST_ENDPOINT = "https://cloudcode-pa.googleapis.com"
CODE_ASSIST_API_VERSION = "v1internal"
ANTIGRAVITY_SANDBOX_ENDPOINT = "https://daily-cloudcode-pa.sandbox.googleapis.com"

DEFAULT_CONNECTION_TIMEOUT = 60.0
DEFAULT_READ_TIMEOUT = 120.0
DEFAULT_RETRY_DELAYS = [5.0, 10.0]
DEFAULT_MAX_RETRY_ATTEMPTS = 6
DEFAULT_COOLDOWN_SECONDS = 600.0
DEFAULT_RECOVERY_PROBE_SECONDS = 120.0
DEFAULT_PROMPT_LIMIT = 65536
PROMPT_LIMIT_SAFETY_MARGIN = 0.97

DEFAULT_AVAILABLE_MODELS = [
    "gemini-3-pro-preview",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
]


@dataclass
class GracefulDegradationConfig:
    """How long a model that failed is left alone."""

    enabled: bool = True
    retry_delays: tuple[float, ...] = tuple(DEFAULT_RETRY_DELAYS)
    max_attempts: int = DEFAULT_MAX_RETRY_ATTEMPTS
    cooldown_seconds: float = DEFAULT_COOLDOWN_SECONDS
    recovery_probe_seconds: float = DEFAULT_RECOVERY_PROBE_SECONDS


@dataclass
class GracefulDegradationMetrics:
    failures: int = 0
    recoveries: int = 0
    models_in_cooldown: int = 0


@dataclass
class ModelRetryState:
    """What is known of one model's failures; `cooldown_until` is of the monotonic clock."""

    attempts: int = 0
    cooldown_until: float = 0.0

    def in_cooldown(self, now: float) -> bool:
        return now < self.cooldown_until
