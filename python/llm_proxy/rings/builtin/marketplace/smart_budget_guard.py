"""Refuses requests once a session or a team has spent its daily budget."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import operation_of, usage_of
from llm_proxy.rings.services.pricing import estimate_cost, estimate_cost_pre_flight
from llm_proxy.rings.services.tokenizer import count_messages_tokens

_MAX_ROWS = 50_000


def today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


@dataclass
class Accounts:
    """What each session and team has spent on `date`."""

    date: str = field(default_factory=today)
    sessions: dict[str, float] = field(default_factory=dict)
    teams: dict[str, float] = field(default_factory=dict)
    hydrated: bool = False


def _share(spent: float, budget: float) -> float:
    return spent / budget if budget > 0 else float(spent > 0)


class SmartBudgetGuard(BasePlugin):
    name = "smart_budget_guard"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 10
    also = {PluginHook.BACKGROUND: "correct"}  # noqa: RUF012

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.session_budget = float(self.config.get("session_budget_usd", 5.0))
        self.team_budget = float(self.config.get("team_budget_usd", 100.0))
        self.output_ratio = float(self.config.get("avg_output_ratio", 0.5))
        self.warn_threshold = float(self.config.get("warn_threshold", 0.8))
        self._accounts = Accounts()
        self._saving: asyncio.Task[None] | None = None

    async def on_load(self) -> None:
        await self._join()

    async def _join(self) -> None:
        """The accounts of the process, so that a swap neither forgets nor overwrites any."""
        if self.state is None:
            return
        self._accounts = self.state.extra.setdefault("budget_accounts", self._accounts)
        accounts, store = self._accounts, self._store()
        if accounts.hydrated or store is None:
            return
        accounts.hydrated = True
        try:
            if await store.get_state("budget:guard_date", "") == accounts.date:
                accounts.sessions.update(await store.get_state("budget:sessions", None) or {})
                accounts.teams.update(await store.get_state("budget:teams", None) or {})
        except Exception:
            self.logger.exception("Earlier spending is not known; counting from zero.")

    @property
    def _sessions(self) -> dict[str, float]:
        return self._accounts.sessions

    @property
    def _teams(self) -> dict[str, float]:
        return self._accounts.teams

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        if self.state is None and ctx.state is not None:
            self.state = ctx.state
            await self._join()
        self._roll_over()
        if operation_of(ctx) in ("count_tokens", "stored"):
            return PluginResponse.passthrough()  # costs nothing
        model = str(ctx.body.get("model") or "")
        tokens = count_messages_tokens(ctx.body.get("messages"), model)
        cost = estimate_cost_pre_flight(model, tokens, self.output_ratio)
        session, team = ctx.session_id, str(ctx.metadata.get("api_key") or ctx.session_id)
        spent, team_spent = self._sessions.get(session, 0.0), self._teams.get(team, 0.0)
        for who, had, limit in (
            ("session", spent, self.session_budget),
            ("team", team_spent, self.team_budget),
        ):
            if had + cost > limit:
                message = f"The {who} budget of ${limit:.2f} a day is spent (${had:.4f} used)"
                return PluginResponse.block(429, f"{who}_budget_exceeded", message)
        self._add(session, team, cost)
        used = max(
            _share(spent + cost, self.session_budget), _share(team_spent + cost, self.team_budget)
        )
        if used >= self.warn_threshold:
            ctx.metadata["_budget_warning"] = f"{used:.0%} of the budget is used"
        ctx.metadata["_estimated_cost_usd"] = cost
        ctx.metadata["_estimated_input_tokens"] = tokens
        ctx.metadata["_budget_account"] = (session, team)
        return PluginResponse.passthrough()

    async def correct(self, ctx: PluginContext) -> None:
        """Once the real usage is known, the estimate gives way to it."""
        account, tokens = ctx.metadata.get("_budget_account"), usage_of(ctx)
        if account is None:
            return
        failed = int(ctx.metadata.get("_status", 200)) >= 400
        if tokens is None and not failed:
            return
        model = str(ctx.metadata.get("_model") or ctx.body.get("model") or "")
        actual = estimate_cost(model, *tokens) if tokens else 0.0
        session, team = account
        estimated = ctx.metadata["_estimated_cost_usd"]
        await self.record_actual_cost(session, team, estimated, actual)

    async def record_actual_cost(
        self, session: str, team: str, estimated: float, actual: float
    ) -> None:
        self._add(session, team, actual - estimated)

    def _roll_over(self) -> None:
        if self._accounts.date != today():
            self._accounts.date = today()
            self._sessions.clear()
            self._teams.clear()

    def _add(self, session: str, team: str, cost: float) -> None:
        for rows, who in ((self._sessions, session), (self._teams, team)):
            rows[who] = max(0.0, rows.pop(who, 0.0) + cost)
            if len(rows) > _MAX_ROWS:
                del rows[next(iter(rows))]
        if self._store() is not None and (self._saving is None or self._saving.done()):
            self._saving = asyncio.get_running_loop().create_task(self._save())

    def _store(self) -> Any:
        return None if self.state is None else self.state.extra.get("store")

    async def _save(self) -> None:
        await asyncio.sleep(0.25)  # one write for many requests
        await self._persist()

    async def _persist(self) -> None:
        store = self._store()
        if store is None:
            return
        await store.set_state("budget:guard_date", self._accounts.date)
        await store.set_state("budget:sessions", dict(self._sessions))
        await store.set_state("budget:teams", dict(self._teams))

    async def on_unload(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
        await self._persist()
