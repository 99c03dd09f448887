"""What settings may not say together: each rule is a function that adds the problems it finds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from llm_proxy._core import ProxyRules
from llm_proxy.backends.catalog import PERSONAL_BACKENDS
from llm_proxy.backends.login_families import second_logins
from llm_proxy.config.reading import Reading
from llm_proxy.config.settings import Backend

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def check(reading: Reading, backends: Iterable[Backend]) -> None:
    """Runs every rule."""
    _address(reading)
    _ports(reading)
    _prefix(reading)
    _addresses(reading)
    _host_names(reading)
    _admin_keys(reading)
    _proxies(reading)
    _access(reading, backends)
    _logins(reading)
    _routing(reading)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _address(reading: Reading) -> None:
    """Nobody serves strangers by accident: beyond this machine only with client keys."""
    host = str(reading.values["host"])
    if is_loopback(host):
        return
    if re.fullmatch(r"[\d.]+", host) and not _is_address(host):
        reading.wrong("host", f"'{host}' is not an address: write 127.0.0.1, or a host's name")
        return
    if reading.values["auth.disable_auth"]:
        switch = reading.origins["auth.disable_auth"].where
        reading.wrong(
            "host",
            f"{host} is open to other machines and auth.disable_auth ({switch}) lets all in: "
            "listen on 127.0.0.1, or set API_KEYS=KEY[,KEY...] and leave auth.disable_auth off",
        )
    elif not reading.values["auth.api_keys"]:
        reading.wrong(
            "host",
            f"{host} is open to other machines and no client key is set; "
            "set API_KEYS=KEY[,KEY...] (or auth.api_keys), or listen on 127.0.0.1",
        )


def _ports(reading: Reading) -> None:
    port = reading.values["port"]
    if port and port == reading.values["anthropic_port"]:
        reading.wrong("anthropic_port", f"{port} is the port of the whole proxy: choose another")


def _prefix(reading: Reading) -> None:
    """A prefix that words begin with would make commands of them."""
    prefix = str(reading.values["command_prefix"])
    printable = all("!" <= c <= "~" and not c.isalnum() and c not in '-_"\\()<>' for c in prefix)
    if not printable or not 2 <= len(prefix) <= 10 or (len(prefix) == 2 and len(set(prefix)) == 1):
        reading.wrong(
            "command_prefix",
            f"'{prefix}' is not 2 to 10 signs such as !/ (no blanks, letters, quotes, brackets)",
        )


def _addresses(reading: Reading) -> None:
    for path in ("auth.trusted_ips", "auth.trusted_proxies"):
        for address in reading.texts(path):
            try:
                ip_network(address, strict=False)
            except ValueError:
                reading.wrong(path, f"'{address}' is not an address: write 10.0.0.7 or 10.0.0.0/8")


def _host_names(reading: Reading) -> None:
    for name in reading.texts("allowed_hosts"):
        if name != "*" and not _HOST_NAME.fullmatch(name):
            reading.wrong(
                "allowed_hosts",
                f"'{name}' is no name of a host: write proxy.example, without scheme and port",
            )


def _admin_keys(reading: Reading) -> None:
    if set(reading.texts("auth.api_keys")) & set(reading.texts("auth.admin_keys")):
        reading.wrong(
            "auth.admin_keys",
            "holds a key of auth.api_keys; whoever uses the proxy could change it",
        )


def _proxies(reading: Reading) -> None:
    """A proxy that cannot be used is found out now, not with the first request."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        path = f"network.{name}"
        url: dict[str, Any] = {name: str(reading.values[path])}
        try:
            ProxyRules(**url)
        except ValueError as error:
            reading.wrong(path, str(error))


def _logins(reading: Reading) -> None:
    """A connector that is a personal login may be configured once."""
    sections = reading.sections
    connectors = {name: section.text("type") or name for name, section in sections.items()}
    for name, kept in second_logins(connectors):
        message = f"is a personal login, and '{kept}' is one already: keep one of the two"
        reading.problem(sections[name].origin.where, f"backends.{name}", message)


def _routing(reading: Reading) -> None:
    """Clients must be left some way to name a model."""
    paths = [f"routing.disable_{form}" for form in ("backend_ids", "backend_names", "model_names")]
    if all(reading.values[path] for path in paths):
        message = "all three are switched off: clients could name nothing; leave one of them"
        reading.wrong(paths[-1], message)


def _access(reading: Reading, backends: Iterable[Backend]) -> None:
    """One user on this machine, or many with keys and without anybody's personal login."""
    values = reading.values
    mode, where = str(values["access_mode.mode"]), reading.origins["access_mode.mode"].where
    local = is_loopback(str(values["host"]))
    if mode == "auto":
        mode = "single_user" if local else "multi_user"
    elif mode == "single_user" and not local:
        reading.problem(
            reading.origins["host"].where or where,
            "host",
            f"{values['host']} is open to other machines, which single_user mode is not; "
            "listen on 127.0.0.1 or choose multi_user",
        )
    elif mode == "multi_user" and (values["auth.disable_auth"] or not values["auth.api_keys"]):
        reading.problem(
            where,
            "access_mode.mode",
            "multi_user needs client keys: set API_KEYS=KEY[,KEY...] (or auth.api_keys), "
            "and leave auth.disable_auth off",
        )
    if mode != "multi_user":
        return
    for backend in backends:
        if backend.type in PERSONAL_BACKENDS and backend.origin.source != "default":
            reading.problem(
                backend.origin.where,
                f"backends.{backend.name}",
                f"'{backend.type}' acts for whoever logged in on this machine and serves in "
                "single_user mode only",
            )
