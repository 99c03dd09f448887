"""What a service manager is told: that the proxy listens, that it stops."""

from __future__ import annotations

import os
import socket


def tell_service_manager(state: str) -> bool:
    """Sends `state`, such as READY=1, to the socket that NOTIFY_SOCKET names; False: nobody waits
    for it. Never raises: a manager that is gone does not stop the proxy. The protocol is that of
    sd_notify(3): one datagram; a leading @ names a socket without a file. Does not block."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(state.encode(), address)
    except OSError:
        return False
    return True
