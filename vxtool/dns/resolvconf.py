"""A container's resolv.conf, and whom its resolver asks (LN19 sandbox_dns_unix.go, resolvconf/resolvconf.go). Knows texts, no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from vxtool.errors import UsageError
from vxtool.model import Engine

__all__ = ["ADDRESS", "ResolvConf", "Upstream", "resolv_conf"]

ADDRESS = IPv4Address("127.0.0.11")
"""Where every container finds its resolver, at port 53."""

_DEFAULT = ("8.8.8.8", "8.8.4.4")  # for a machine that names no server a container could ask
_LOOPBACK = "127."


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server outside."""

    address: str
    by_node: bool  # asked from the node's namespace: it is the machine's own, on its loopback


@dataclass(frozen=True, slots=True)
class ResolvConf:
    text: str
    servers: tuple[Upstream, ...]
    ndots_set: bool  # by the user or on the machine: single labels are then not asked for outside


def resolv_conf(
    machine: str,
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    engine: Engine = Engine.V19_03,
) -> ResolvConf:
    """What a container has when the machine's resolv.conf is `machine` and the user gave these (--dns, --dns-search, --dns-option); each list, where
    it is not empty, replaces the machine's.

    UsageError, in Docker's words, when the option ndots has no number.
    """
    theirs = _Machine(machine)
    # --dns 127.x is a server in the container.
    named = [Upstream(one, False) for one in servers] or [Upstream(one, one.startswith(_LOOPBACK)) for one in theirs.servers]
    if engine is Engine.V19_03:
        lines = [one.address for one in named if ":" in one.address]
        asked = [one for one in named if ":" not in one.address]
    else:
        lines, asked = [], named
    if not named:
        asked = [Upstream(one, False) for one in _DEFAULT]
    chosen = list(options or theirs.options)
    ndots_set = any(_is_ndots(option) for option in chosen)
    domains = " ".join(search or theirs.search).strip()
    text = "".join(
        (
            f"search {domains}\n" if domains not in ("", ".") else "",
            "".join(f"nameserver {one}\n" for one in (ADDRESS, *lines)),
            # Without the user's word, a name is looked for as it is first: `web` is the service.
            f"options {' '.join(chosen if ndots_set else [*chosen, 'ndots:0'])}\n",
        )
    )
    return ResolvConf(text, tuple(asked), ndots_set)


def _is_ndots(option: str) -> bool:
    if not option.startswith("ndots"):
        return False
    name, _, number = option.partition(":")
    if name != "ndots" or not number:
        raise UsageError(f"invalid ndots option {option}")
    if not number.isascii() or not number.isdigit():
        raise UsageError(f"invalid number for ndots option: {number}")
    return True


class _Machine:
    """What a resolv.conf says. Of several lines `search` or `options`, the last counts (resolv.conf(5))."""

    def __init__(self, text: str) -> None:
        self.servers: list[str] = []
        self.search: tuple[str, ...] = ()
        self.options: tuple[str, ...] = ()
        for line in text.splitlines():
            keyword, *words = line.partition("#")[0].split() or [""]
            if keyword == "nameserver" and words and _is_address(words[0]):
                self.servers.append(words[0])
            elif keyword == "search":
                self.search = tuple(words)
            elif keyword == "options":
                self.options = tuple(words)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
