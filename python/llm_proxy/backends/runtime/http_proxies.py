"""The way out of this network for backends that open their own connections.

The rules are the engine's (`network.*`, HTTP_PROXY and its kin), and so are the words that a SOCKS
proxy is told; here they are only carried.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import httpx

from llm_proxy._core import ProxyHop, ProxyRules, Socks5

# The names of a setting in the environment; the first that is set counts.
_VARIABLES = {
    name: (name, name.upper()) for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
}
_LONGEST_ANSWER = 8 * 1024
DIRECT = ProxyRules()

_in_force: ProxyRules | None = None


def use(rules: ProxyRules) -> None:
    """The rules of this process from now on, whoever asks for them."""
    global _in_force
    _in_force = rules


def rules_in_force() -> ProxyRules:
    """Those of the running proxy; in a process without one, those of its environment."""
    return _in_force if _in_force is not None else rules_of_environment(os.environ)


def rules_of_environment(environment: Mapping[str, str]) -> ProxyRules:
    """Raises ValueError for a variable that is no URL of a proxy."""
    values: dict[str, Any] = {
        setting: next((environment[name] for name in names if environment.get(name)), "")
        for setting, names in _VARIABLES.items()
    }
    return ProxyRules(**values)


def rules_of_config(config: Mapping[str, Any]) -> ProxyRules:
    """Those of `network` in what backend plugins are configured with."""
    network = config.get("network") or {}
    return ProxyRules(
        http_proxy=network.get("http_proxy") or "",
        https_proxy=network.get("https_proxy") or "",
        all_proxy=network.get("all_proxy") or "",
        no_proxy=",".join(network.get("no_proxy") or ()),
        proxy_loopback=bool(network.get("proxy_loopback")),
    )


def httpx_proxy(hop: ProxyHop) -> httpx.Proxy:
    """The same proxy for one of httpx's own transports."""
    scheme = ("socks5h" if hop.names else "socks5") if hop.socks else "http"
    host = f"[{hop.host}]" if ":" in hop.host else hop.host
    auth = (hop.user, hop.password) if hop.user else None
    return httpx.Proxy(f"{scheme}://{host}:{hop.port}", auth=auth)


async def open_through(hop: ProxyHop, secure: bool, host: str, port: int) -> socket.socket:
    """A socket whose next byte is the upstream's, or the proxy's where it takes whole URLs.

    Raises OSError or httpx.ProxyError. Whoever waits for it sets the time limit.
    """
    opened = await _connected(hop.host, hop.port)
    try:
        if hop.socks:
            await _greet(opened, hop, host, port)
        elif secure:
            await _ask_for_tunnel(opened, hop, host, port)
    except BaseException:
        opened.close()
        raise
    return opened


async def _connected(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        try:
            await loop.sock_connect(opened, address)
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened
        except OSError as error:
            opened.close()
            failure = error
        except BaseException:
            opened.close()
            raise
    raise failure or OSError(f"{host} has no address")


async def _greet(opened: socket.socket, hop: ProxyHop, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    if not hop.names and not _is_address(host):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        host = str(found[0][4][0])
    socks = Socks5(host, port, hop.user, hop.password)
    answer = socks.begin()
    while not socks.done:
        if answer:
            await loop.sock_sendall(opened, answer)
        # One byte at a time: what follows the last of them is the upstream's.
        said = await loop.sock_recv(opened, 1)
        if not said:
            raise httpx.ProxyError("the proxy closed the connection")
        try:
            answer = socks.feed(said)
        except ValueError as error:
            raise httpx.ProxyError(str(error)) from None


async def _ask_for_tunnel(opened: socket.socket, hop: ProxyHop, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if hop.authorization:
        lines.append(f"Proxy-Authorization: {hop.authorization}")
    await loop.sock_sendall(opened, "\r\n".join([*lines, "", ""]).encode("ascii"))
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            said = await loop.sock_recv(opened, 1)
            if not said:
                raise httpx.ProxyError("the proxy closed the connection")
            head += said
            if len(head) > _LONGEST_ANSWER:
                raise httpx.ProxyError("the proxy's answer is too long")
        version, _, rest = head.partition(b" ")
        status = rest[:3]
        if not version.startswith(b"HTTP/1.") or not status.isdigit():
            raise httpx.ProxyError("the proxy's answer is malformed")
        if not status.startswith(b"1"):
            break
    if not status.startswith(b"2"):
        raise httpx.ProxyError(f"the proxy refuses the tunnel with status {status.decode()}")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
