"""Machines of their own on one computer: network namespaces on one switch, each with an address."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_PREFIX = "zk0t"
_SWITCH = f"{_PREFIX}-switch"


@dataclass(frozen=True)
class Host:
    """One namespace."""

    name: str
    address: str

    @property
    def namespace(self) -> str:
        """Return the namespace's name."""
        return f"{_PREFIX}-{self.name}"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return what a command begins with to run there."""
        return ("ip", "netns", "exec", self.namespace)

    def run(self, *command: str) -> str:
        """Return what a command there prints."""
        return subprocess.run(
            [*self.prefix, *command], check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def cut_off(self) -> None:
        """Pull the cable."""
        self.run("ip", "link", "set", "eth0", "down")

    def reconnect(self) -> None:
        """Put the cable back."""
        self.run("ip", "link", "set", "eth0", "up")

    def traffic(self) -> tuple[int, int]:
        """Return the bytes that went out and came in, TLS and all."""
        folder = "/sys/class/net/eth0/statistics"
        out, into = self.run("cat", f"{folder}/tx_bytes", f"{folder}/rx_bytes").split()
        return int(out), int(into)


@contextmanager
def hosts(names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Make hosts that reach each other and nothing else, and remove them at the end."""
    made = {name: Host(name, f"10.77.0.{index}") for index, name in enumerate(names, start=1)}
    _remove(made.values())
    try:
        _ip("netns", "add", _SWITCH)
        _ip("-n", _SWITCH, "link", "add", "switch", "type", "bridge")
        _ip("-n", _SWITCH, "link", "set", "switch", "up")
        for index, host in enumerate(made.values(), start=1):
            _plug_in(host, f"port{index}")
        yield made
    finally:
        _remove(made.values())


def _plug_in(host: Host, port: str) -> None:
    _ip("netns", "add", host.namespace)
    _ip("-n", host.namespace, "link", "set", "lo", "up")
    _ip("-n", _SWITCH, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("-n", _SWITCH, "link", "set", port, "master", "switch", "up")
    _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    _ip("-n", host.namespace, "link", "set", "eth0", "up")


def _remove(found: Iterable[Host]) -> None:
    for namespace in [_SWITCH, *(host.namespace for host in found)]:
        subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False, timeout=60)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr} (as root, with iproute2)"
