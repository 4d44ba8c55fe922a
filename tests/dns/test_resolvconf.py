"""What a container's resolv.conf says, and whom its resolver asks, for each resolv.conf of a machine and each wish of the user."""

from __future__ import annotations

from typing import Any

import pytest

from vxtool.dns.resolvconf import resolv_conf
from vxtool.errors import UsageError
from vxtool.model import Engine

MACHINE = "# made by something\nnameserver 192.0.2.53\nsearch example.org\noptions timeout:1\n"
LOOPBACK = "nameserver 127.0.0.53\noptions edns0 trust-ad\n"
BOTH = "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"


@pytest.mark.parametrize(
    ("machine", "user", "text", "asked"),
    [
        (MACHINE, {}, "search example.org\nnameserver 127.0.0.11\noptions timeout:1 ndots:0\n", ["192.0.2.53"]),
        (LOOPBACK, {}, "nameserver 127.0.0.11\noptions edns0 trust-ad ndots:0\n", ["127.0.0.53 by the node"]),
        (LOOPBACK, {"servers": ["127.0.0.53"]}, "nameserver 127.0.0.11\noptions edns0 trust-ad ndots:0\n", ["127.0.0.53"]),
        (BOTH, {}, "nameserver 127.0.0.11\nnameserver 2001:db8::53\noptions ndots:0\n", ["192.0.2.53"]),
        (BOTH, {"engine": Engine.TODAY}, "nameserver 127.0.0.11\noptions ndots:0\n", ["192.0.2.53", "2001:db8::53"]),
        ("", {}, "nameserver 127.0.0.11\noptions ndots:0\n", ["8.8.8.8", "8.8.4.4"]),
        ("nameserver nonsense\nnameserver\n", {}, "nameserver 127.0.0.11\noptions ndots:0\n", ["8.8.8.8", "8.8.4.4"]),
        (
            MACHINE,
            {"servers": ["10.0.0.1", "10.0.0.2"]},
            "search example.org\nnameserver 127.0.0.11\noptions timeout:1 ndots:0\n",
            ["10.0.0.1", "10.0.0.2"],
        ),
        (MACHINE, {"search": ["a", "b"]}, "search a b\nnameserver 127.0.0.11\noptions timeout:1 ndots:0\n", ["192.0.2.53"]),
        (MACHINE, {"search": ["."]}, "nameserver 127.0.0.11\noptions timeout:1 ndots:0\n", ["192.0.2.53"]),
        (MACHINE, {"options": ["attempts:2"]}, "search example.org\nnameserver 127.0.0.11\noptions attempts:2 ndots:0\n", ["192.0.2.53"]),
        ("search a\nsearch b c\n", {"servers": ["10.0.0.1"]}, "search b c\nnameserver 127.0.0.11\noptions ndots:0\n", ["10.0.0.1"]),
    ],
)
def test_a_container_has_its_resolver_and_what_else_the_machine_and_the_user_say(machine: str, user: Any, text: str, asked: list[str]) -> None:
    conf = resolv_conf(machine, **user)
    assert conf.text == text
    assert [f"{one.address}{' by the node' if one.by_node else ''}" for one in conf.servers] == asked
    assert not conf.ndots_set


@pytest.mark.parametrize(("machine", "options"), [("options ndots:3\n", []), ("", ["ndots:3"]), ("options ndots:1\n", ["ndots:3"])])
def test_ndots_of_the_user_or_the_machine_is_kept_and_counts(machine: str, options: list[str]) -> None:
    conf = resolv_conf(machine, options=options)
    assert conf.text.splitlines()[-1] == "options ndots:3"
    assert conf.ndots_set


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("ndots", "invalid ndots option ndots"),
        ("ndots:", "invalid ndots option ndots:"),
        ("ndots:x", "invalid number for ndots option: x"),
        ("ndots:-1", "invalid number for ndots option: -1"),
    ],
)
def test_an_option_ndots_that_makes_no_sense_is_refused_in_dockers_words(option: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=f"^{complaint}$"):
        resolv_conf("", options=[option])
