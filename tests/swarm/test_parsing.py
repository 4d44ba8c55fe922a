"""Texts of options: what they mean, and what is said of those that mean nothing. The sentences are those of docker 28.2's command line."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxtool.errors import UsageError
from vxtool.model import PublishMode
from vxtool.swarm import parsing
from vxtool.swarm.objects import HealthCheck, PortConfig, TaskNetwork

HOST, INGRESS = PublishMode.HOST, PublishMode.INGRESS

MEANT: tuple[tuple[str, str, Any], ...] = (
    ("duration", "1m30s", 90.0),
    ("duration", "1.5h", 5400.0),
    ("duration", "-3ms", -0.003),
    ("duration", "0", 0.0),
    ("duration", "1h2m3.5s", 3723.5),
    ("duration", ".5s", 0.5),
    ("memory", "64M", 64 << 20),
    ("memory", "1.5g", 3 << 29),
    ("memory", "512KiB", 512 << 10),
    ("memory", "10", 10),
    ("memory", "10b", 10),
    ("memory", "4 MB", 4 << 20),
    ("cpus", "0.5", 500_000_000),
    ("cpus", ".25", 250_000_000),
    ("cpus", "1/4", 250_000_000),
    ("cpus", "2", 2_000_000_000),
    ("number", "0", 0),
    ("integer", "-1", -1),
    ("ratio", ".25", 0.25),
    ("ports", "80", (PortConfig(80),)),
    ("ports", "8080:80", (PortConfig(80, 8080),)),
    ("ports", ":80", (PortConfig(80),)),
    ("ports", "53:53/UDP", (PortConfig(53, 53, "udp"),)),
    ("ports", "8000-8001:80-81", (PortConfig(80, 8000), PortConfig(81, 8001))),
    ("ports", "8000-8001:80", (PortConfig(80, 8000), PortConfig(80, 8001))),
    ("ports", "80-81", (PortConfig(80), PortConfig(81))),
    ("ports", "published=8080,target=80,mode=host,protocol=sctp", (PortConfig(80, 8080, "sctp", HOST),)),
    ("ports", "target=80", (PortConfig(80, 0, "tcp", INGRESS),)),
    ("network", "web", TaskNetwork("web")),
    ("network", "name=web,alias=db,alias=store", TaskNetwork("web", ("db", "store"))),
    ("key_value", "a=b=c", ("a", "b=c")),
    ("label", "a", ("a", "")),
    ("env", "A=", "A="),
    ("host", "db:10.0.0.9", "db:10.0.0.9"),
    ("host", "db:::1", "db:::1"),
    ("dns_server", "2001:db8::1", "2001:db8::1"),
    ("dns_search", ".", "."),
    ("preference", "spread=node.labels.az", "node.labels.az"),
    ("generic", "gpu=2", ("gpu", 2)),
    ("words", "sh -c 'a b'", ("sh", "-c", "a b")),
    ("words", "", ()),
    ("image", "httpd", "httpd:latest"),
    ("image", "docker.io/library/httpd:2.4", "httpd:2.4"),
    ("image", "localhost:5000/a/b", "localhost:5000/a/b:latest"),
    ("image", "a@sha256:" + "0" * 64, "a@sha256:" + "0" * 64),
)

REFUSED = (
    ("duration", "5", 'time: missing unit in duration "5"'),
    ("duration", "5x", 'time: unknown unit "x" in duration "5x"'),
    ("duration", "x", 'time: invalid duration "x"'),
    ("duration", "", 'time: invalid duration ""'),
    ("duration", "1" * 40 + "h", f'time: invalid duration "{"1" * 40}h"'),
    ("positive_duration", "-5s", "duration cannot be negative"),
    ("memory", "12x", "invalid suffix: 'x'"),
    ("memory", "x", "invalid size: 'x'"),
    ("memory", "-4m", "invalid size: '-4m'"),
    ("memory", "9" * 30 + "p", f"invalid size: '{'9' * 30}p'"),
    ("cpus", "abc", "failed to parse abc as a rational number"),
    ("cpus", "1/0", "failed to parse 1/0 as a rational number"),
    ("cpus", "0.0000000001", "value is too precise"),
    ("number", "-1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
    ("number", "9" * 30, f'strconv.ParseUint: parsing "{"9" * 30}": value out of range'),
    ("integer", "x", 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("ratio", "nan", 'strconv.ParseFloat: parsing "nan": invalid syntax'),
    ("ports", "80:80:80", "invalid IP address: 80"),
    ("ports", "abc", "invalid containerPort: abc"),
    ("ports", "abc:80", "invalid hostPort: abc"),
    ("ports", "70000", "invalid containerPort: 70000"),
    ("ports", "80:", "no port specified: 80:<empty>"),
    ("ports", "80/foo", "invalid proto: foo"),
    ("ports", "1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
    ("ports", "127.0.0.1:80:80", "hostip is not supported"),
    ("ports", "published=8080", "missing mandatory field 'target'"),
    ("ports", "target=70000", "invalid target port (70000): value must be an integer: value out of range"),
    ("ports", "target=a", "invalid target port (a): value must be an integer: invalid syntax"),
    ("ports", "target=8,mode=foo", "invalid publish mode value (foo): must be either 'ingress' or 'host'"),
    ("ports", "target=8,protocol=foo", "invalid protocol value 'foo'"),
    ("ports", "target=8,foo=bar", "invalid field key: foo"),
    ("network", "alias=x", "network name/id is not specified"),
    ("network", "foo=x", "invalid field key foo"),
    ("label", "=x", "invalid label '=x': empty name"),
    ("env", "=x", "invalid environment variable: =x"),
    ("host", "abc", 'bad format for add-host: "abc"'),
    ("host", "a:b", 'invalid IP address in add-host: "b"'),
    ("dns_server", "abc", "IP address is not correctly formatted: abc"),
    ("dns_search", "@@", "@@ is not a valid domain"),
    ("preference", "x", 'placement preference must be of the format "<strategy>=<arg>"'),
    ("preference", "foo=bar", "unsupported placement preference foo (only spread is supported)"),
    ("generic", "x", "invalid generic-resource format `x` expected `name=value`"),
    ("words", "'a", "EOF found when expecting closing quote"),
    ("image", "A B", 'ContainerSpec: "A B" is not a valid repository/tag'),
)


@pytest.mark.parametrize(("parse", "text", "value"), MEANT)
def test_a_text_means(parse: str, text: str, value: Any) -> None:
    assert getattr(parsing, parse)(text) == value


@pytest.mark.parametrize(("parse", "text", "sentence"), REFUSED)
def test_a_text_that_means_nothing_is_refused_in_dockers_words(parse: str, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        getattr(parsing, parse)(text)
    assert str(refusal.value) == sentence


@given(st.sampled_from([name for name in parsing.__all__ if name not in ("env_file", "health", "key_values")]), st.text(max_size=40))
def test_no_text_breaks_a_reader(parse: str, text: str) -> None:
    with suppress(UsageError):
        getattr(parsing, parse)(text)


@given(st.integers(0, 10**15))
def test_a_duration_that_go_prints_is_read_again(nano: int) -> None:
    from vxtool.cli.service.pretty import go_duration

    assert round(parsing.duration(go_duration(nano / 1e9)) * 1e9) == pytest.approx(nano, rel=1e-9)


def test_a_variable_without_a_value_is_the_callers() -> None:
    assert parsing.env("HOME", {"HOME": "/root"}) == "HOME=/root"
    assert parsing.env("NONE", {"HOME": "/root"}) == "NONE"


def test_a_file_of_variables_has_comments_and_the_callers_values() -> None:
    assert parsing.env_file("# c\n\n A=1\nHOME\nNONE\nB=x y\n", "f", {"HOME": "/root"}) == ["A=1", "HOME=/root", "B=x y"]
    with pytest.raises(UsageError, match="variable 'A B' contains whitespaces"):
        parsing.env_file("A B=1", "f")


def test_health_options_change_what_there_is_and_exclude_no_healthcheck() -> None:
    before = HealthCheck(("CMD-SHELL", "true"), interval=5.0)
    assert parsing.health(before=before) is before
    assert parsing.health(retries=7, before=before) == HealthCheck(("CMD-SHELL", "true"), interval=5.0, retries=7)
    assert parsing.health(none=True, before=before) == HealthCheck(("NONE",))
    assert parsing.health(interval=1.0, before=HealthCheck(("NONE",))) == HealthCheck((), interval=1.0)
    with pytest.raises(UsageError, match="--no-healthcheck conflicts with --health-\\* options"):
        parsing.health(command="x", none=True)
