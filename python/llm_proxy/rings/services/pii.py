"""Personal data in text: found, replaced by tokens, and put back for the same request only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from ipaddress import IPv4Address

from llm_proxy import _core

SECRET = secrets.token_bytes(16)
_VAULT_LIMIT = 10_000
# Ours are [PII_LABEL_1a2b3c4d]; what plugins put into the vault themselves has the same brackets.
TOKEN = re.compile(r"\[[^\[\]]{1,128}\]")


def luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(re.sub(r"\D", "", digits))):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _iban(text: str) -> bool:
    compact = text.replace(" ", "").upper()
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1


def _address(text: str) -> bool:
    try:
        address = IPv4Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _always(text: str) -> bool:
    return True


# Label, pattern, and what tells a real one from what only looks so. In the order of the bits of
# `_core.pii_candidates`, which knows what each cannot do without: most texts meet no pattern.
_RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("API_KEY", re.compile(
        r"\b(?:sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}"
        r"|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{30,})"), _always),
    ("EMAIL", re.compile(r"\b[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"), _always),
    ("IBAN", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _iban),
    ("CARD", re.compile(r"(?<![\w.-])(?:\d{4}[ -]?){3}\d{4}(?![\w-])"), luhn),
    ("AMEX", re.compile(r"(?<![\w.-])3[47]\d{2}[ -]?\d{6}[ -]?\d{5}(?![\w-])"), luhn),
    ("SSN", re.compile(
        r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"), _always),
    ("PHONE", re.compile(
        r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}"
        r"|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])"), _always),
    ("IP", re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)"), _address),
)  # fmt: skip


class VaultFull(ValueError):
    """A request holds more values than are masked: the rest must not leave as it is."""


class Vault:
    """The tokens of one request and what they stand for.

    A tenant's value has the same token in all its requests, so that prompts stay the same for
    caches; only tokens this very request made are ever put back.
    """

    def __init__(self, tenant: str = "", values: dict[str, str] | None = None) -> None:
        self._tenant = tenant
        self.values: dict[str, str] = {} if values is None else values

    def mask(self, text: str) -> str:
        candidates = _core.pii_candidates(text)
        for bit, (label, pattern, holds) in enumerate(_RULES if candidates else ()):
            if not candidates >> bit & 1:
                continue
            text = pattern.sub(lambda hit: self._token(label, hit[0], holds), text)  # noqa: B023
        return text

    def restore(self, text: str, escape: Callable[[str], str] = str) -> str:
        if not self.values or "[" not in text:
            return text

        def known(hit: re.Match[str]) -> str:
            value = self.values.get(hit[0])
            return escape(value) if isinstance(value, str) else hit[0]

        return TOKEN.sub(known, text)

    def token_for(self, label: str, value: str) -> str:
        name = re.sub(r"[^A-Z_]", "_", label.upper())[:20].ljust(2, "_")
        return self._token(name, value, _always)

    def _token(self, label: str, value: str, holds: Callable[[str], bool]) -> str:
        if not holds(value):
            return value
        source = f"{self._tenant}\0{label}\0{value}".encode("utf-8", "surrogatepass")
        digest = hmac.new(SECRET, source, hashlib.sha256).hexdigest()[:8]
        token = f"[PII_{label}_{digest}]"
        if token not in self.values and len(self.values) >= _VAULT_LIMIT:
            raise VaultFull(f"more than {_VAULT_LIMIT:,} pieces of personal data")
        self.values[token] = value
        return token
