"""What users write after Docker's options, as values: durations, sizes, ports, networks, labels.

Knows the texts and Docker's own words for a wrong one (docker/cli opts, go-units, Go's time.ParseDuration); not which option of which verb they
come from.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from ipaddress import ip_address

from vxtool.errors import UsageError
from vxtool.model import PublishMode
from vxtool.swarm.objects import HealthCheck, PortConfig, TaskNetwork

__all__ = [
    "cpus",
    "dns_search",
    "dns_server",
    "duration",
    "env",
    "env_file",
    "generic",
    "health",
    "host",
    "image",
    "integer",
    "key_value",
    "key_values",
    "label",
    "memory",
    "network",
    "number",
    "ports",
    "positive_duration",
    "preference",
    "ratio",
    "words",
]

# --------------------------------------------------------------------------------------------------------------------
# Numbers
# --------------------------------------------------------------------------------------------------------------------

_UNITS: Mapping[str, Fraction] = {
    "ns": Fraction(1, 1_000_000_000),
    "us": Fraction(1, 1_000_000),
    "µs": Fraction(1, 1_000_000),
    "μs": Fraction(1, 1_000_000),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_DURATION = re.compile(r"(\d*)(\.\d*)?([^0-9.]*)", re.ASCII)
_LONGEST_DURATION = Fraction((1 << 63) - 1, 1_000_000_000)


def duration(text: str) -> float:
    """Seconds: `1m30s`, `500ms`, `-1.5h`, `0` (Go's time.ParseDuration). A number needs its unit."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    total = Fraction()
    if not rest:
        raise UsageError(f"time: invalid duration {_quoted(text)}")
    while rest:
        match = _DURATION.match(rest)
        whole, part, unit = match.groups() if match is not None else ("", "", "")
        if not whole and len(part or "") < 2:
            raise UsageError(f"time: invalid duration {_quoted(text)}")
        if not unit:
            raise UsageError(f"time: missing unit in duration {_quoted(text)}")
        if unit not in _UNITS:
            raise UsageError(f"time: unknown unit {_quoted(unit)} in duration {_quoted(text)}")
        if len(whole) > 20:  # beyond 2^63 ns in any unit
            raise UsageError(f"time: invalid duration {_quoted(text)}")
        total += (Fraction(int(whole or 0)) + Fraction(f"0{part[:20]}" if part and len(part) > 1 else 0)) * _UNITS[unit]
        rest = rest[match.end() if match is not None else 0 :]
    if total > _LONGEST_DURATION:
        raise UsageError(f"time: invalid duration {_quoted(text)}")
    return float(-total if text.startswith("-") else total)


def positive_duration(text: str) -> float:
    seconds = duration(text)
    if seconds < 0:
        raise UsageError("duration cannot be negative")
    return seconds


_SIZE_UNITS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def memory(text: str) -> int:
    """Bytes: `64M`, `1.5g`, `512KiB`; a kilobyte has 1,024 (go-units RAMInBytes)."""
    last = max((place for place, character in enumerate(text) if character in "0123456789. "), default=-1)
    if last < 0 or not text.strip():
        raise UsageError(f"invalid size: '{text}'")
    figure, suffix = text[: last + 1].removesuffix(" "), text[last + 1 :].lower()
    if not re.fullmatch(r"\d{1,30}(\.\d{0,30})?|\.\d{1,30}", figure, re.ASCII):
        raise UsageError(f"invalid size: '{text}'")
    unit = suffix[:-2] if suffix.endswith("ib") and len(suffix) == 3 else suffix[:-1] if suffix.endswith("b") and len(suffix) > 1 else suffix
    if unit not in _SIZE_UNITS or len(suffix) > 3:
        raise UsageError(f"invalid suffix: '{text[last + 1 :]}'")
    size = int(Fraction(figure if not figure.startswith(".") else f"0{figure}") * (1 << 10 * _SIZE_UNITS[unit]))
    if size >= 1 << 63:
        raise UsageError(f"invalid size: '{text}'")
    return size


def cpus(text: str) -> int:
    """Billionths of a processor: `0.5`, `2`, `1/4`."""
    if not re.fullmatch(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})(/\d{1,40})?", text, re.ASCII):
        raise UsageError(f"failed to parse {text} as a rational number")
    over, _, under = text.partition("/")
    if under and not int(under):
        raise UsageError(f"failed to parse {text} as a rational number")
    nano = Fraction(over.rstrip(".")) / (int(under) if under else 1) * 1_000_000_000
    if nano.denominator != 1:
        raise UsageError("value is too precise")
    if abs(nano.numerator) >= 1 << 63:
        raise UsageError(f"failed to parse {text} as a rational number")
    return nano.numerator


def number(text: str) -> int:
    """A whole number of at least 0, as Go says what is wrong with another one."""
    return _integer(text, "ParseUint", 0, (1 << 64) - 1)


def integer(text: str) -> int:
    return _integer(text, "ParseInt", -(1 << 63), (1 << 63) - 1)


def _integer(text: str, function: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[+-]?\d+" if least < 0 else r"\d+", text, re.ASCII):
        raise UsageError(f"strconv.{function}: parsing {_quoted(text)}: invalid syntax")
    if len(text) > 24 or not least <= (value := int(text)) <= most:
        raise UsageError(f"strconv.{function}: parsing {_quoted(text)}: value out of range")
    return value


def ratio(text: str) -> float:
    """A share; Go's floating-point numbers, without `inf` and `nan`."""
    if not re.fullmatch(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})(e[+-]?\d{1,2})?", text, re.ASCII | re.IGNORECASE):
        raise UsageError(f"strconv.ParseFloat: parsing {_quoted(text)}: invalid syntax")
    return float(text)


# --------------------------------------------------------------------------------------------------------------------
# Published ports
# --------------------------------------------------------------------------------------------------------------------

_PROTOCOLS = ("tcp", "udp", "sctp")
_LONG = re.compile(r"\w+=\w+(,\w+=\w+)*")
_HIGHEST_PORT = (1 << 16) - 1


def ports(text: str) -> tuple[PortConfig, ...]:
    """`8080:80/udp`, `80`, `8000-8002:80-82`, or `published=8080,target=80,protocol=tcp,mode=host`."""
    return (_long_port(text),) if _LONG.search(text) else _short_ports(text)


def _long_port(text: str) -> PortConfig:
    target = published = 0
    protocol, mode = "tcp", PublishMode.INGRESS
    for field in _fields(text):
        key, there, value = field.lower().partition("=")
        if not there or not key:
            raise UsageError(f"invalid field: {field}")
        if key == "protocol":
            if value not in _PROTOCOLS:
                raise UsageError(f"invalid protocol value '{value}'")
            protocol = value
        elif key == "mode":
            if value not in list(PublishMode):
                raise UsageError(f"invalid publish mode value ({value}): must be either 'ingress' or 'host'")
            mode = PublishMode(value)
        elif key == "target":
            target = _long_number("target", value)
        elif key == "published":
            published = _long_number("published", value)
        else:
            raise UsageError(f"invalid field key: {key}")
    if not target:
        raise UsageError("missing mandatory field 'target'")
    return PortConfig(target, published, protocol, mode)


def _long_number(which: str, text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise UsageError(f"invalid {which} port ({text}): value must be an integer: invalid syntax")
    if len(text) > 9 or int(text) > _HIGHEST_PORT:
        raise UsageError(f"invalid {which} port ({text}): value must be an integer: value out of range")
    return int(text)


def _short_ports(text: str) -> tuple[PortConfig, ...]:
    left, _, container = text.rpartition(":")
    container, _, protocol = container.partition("/")
    protocol = protocol.lower() or "tcp"
    address, _, published = left.rpartition(":")
    if not container:
        raise UsageError(f"no port specified: {text}<empty>")
    if address:
        _check_address(address)
    targets = _range(container)
    if targets is None:
        raise UsageError(f"invalid containerPort: {container}")
    hosts = _range(published) if published else None
    if published and hosts is None:
        raise UsageError(f"invalid hostPort: {published}")
    if hosts is not None and len(hosts) != len(targets) and len(targets) != 1:
        # One port in the container may be published under several numbers; several under fewer may not.
        raise UsageError(f"invalid ranges specified for container and host Ports: {container} and {published}")
    if protocol not in _PROTOCOLS:
        raise UsageError(f"invalid proto: {protocol}")
    if address:
        raise UsageError("hostip is not supported")
    if hosts is None:
        return tuple(PortConfig(target, 0, protocol) for target in targets)
    if len(targets) == 1:
        return tuple(PortConfig(targets[0], host, protocol) for host in hosts)
    return tuple(PortConfig(target, host, protocol) for target, host in zip(targets, hosts, strict=True))


def _check_address(text: str) -> None:
    try:
        ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise UsageError(f"invalid IP address: {text}") from None


def _range(text: str) -> range | None:
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text, re.ASCII)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    return range(first, last + 1) if first <= last <= _HIGHEST_PORT else None


# --------------------------------------------------------------------------------------------------------------------
# Networks, and the rest
# --------------------------------------------------------------------------------------------------------------------


def network(text: str) -> TaskNetwork:
    """`web`, or `name=web,alias=db,alias=store`; by name, as the user calls it."""
    if not _LONG.search(text):
        return TaskNetwork(text)
    target, aliases = "", []
    for field in _fields(text):
        key, there, value = field.lower().partition("=")
        key, value = key.strip(), value.strip()
        if not there or not key:
            raise UsageError(f"invalid field {field}")
        if key == "name":
            target = value
        elif key == "alias":
            aliases.append(value)
        elif key in ("driver-opt", "ip", "ip6", "mac-address", "link-local-ip", "gw-priority"):
            raise UsageError(f"{key} is nothing a service's network can be given in a lab: leave it out")
        else:
            raise UsageError(f"invalid field key {key}")
    if not target:
        raise UsageError("network name/id is not specified")
    return TaskNetwork(target, tuple(aliases))


def _fields(text: str) -> list[str]:
    """Docker reads these as one line of CSV."""
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise UsageError(f"{text!r} is no list of fields: {error}") from None
    return rows[0] if rows else []


def key_value(text: str) -> tuple[str, str]:
    """`key=value`; `key` alone has an empty value."""
    key, _, value = text.partition("=")
    return key, value


def key_values(texts: Iterable[str]) -> dict[str, str]:
    """The last of several with one key counts."""
    return dict(map(key_value, texts))


def label(text: str) -> tuple[str, str]:
    key, value = key_value(text)
    if not key:
        raise UsageError(f"invalid label '{text}': empty name")
    return key, value


def env(text: str, known: Mapping[str, str] | None = None) -> str:
    """`NAME=value`; `NAME` alone is taken from `known`, the caller's environment, and stays as it is where that has none."""
    name, there, _ = text.partition("=")
    if not name:
        raise UsageError(f"invalid environment variable: {text}")
    return f"{text}={known[text]}" if not there and known is not None and text in known else text


def env_file(text: str, name: str, known: Mapping[str, str] | None = None) -> list[str]:
    """The variables of a file's text, one a line. Passed over: empty lines, those that begin with `#`, names without a value here and in `known`."""
    found = []
    for line in text.splitlines():
        stripped = line.lstrip().removeprefix("\ufeff")
        if not stripped or stripped.startswith("#"):
            continue
        key, there, _ = stripped.partition("=")
        if not key:
            raise UsageError(f"invalid env file ({name}): no variable name on line '{stripped}'")
        if re.search(r"\s", key):
            raise UsageError(f"invalid env file ({name}): variable '{key}' contains whitespaces")
        if there:
            found.append(stripped)
        elif known is not None and key in known:
            found.append(f"{key}={known[key]}")
    return found


def host(text: str) -> str:
    """`NAME:ADDRESS` of a line in /etc/hosts."""
    name, there, address = text.partition(":")
    if not there:
        name, there, address = text.partition("=")
    if not there or not name:
        raise UsageError(f"bad format for add-host: {_quoted(text)}")
    try:
        ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise UsageError(f"invalid IP address in add-host: {_quoted(address)}") from None
    return f"{name}:{address}"


def dns_server(text: str) -> str:
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        raise UsageError(f"IP address is not correctly formatted: {text}") from None


def dns_search(text: str) -> str:
    """A domain, or `.` for none at all."""
    text = text.strip()
    if text != "." and not re.fullmatch(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", text[:256], re.IGNORECASE | re.ASCII):
        raise UsageError(f"{text} is not a valid domain")
    return text


def preference(text: str) -> str:
    """`spread=node.labels.zone` -> `node.labels.zone`."""
    strategy, there, descriptor = text.partition("=")
    if not there or not strategy:
        raise UsageError('placement preference must be of the format "<strategy>=<arg>"')
    if strategy != "spread":
        raise UsageError(f"unsupported placement preference {strategy} (only spread is supported)")
    return descriptor


def generic(text: str) -> tuple[str, int]:
    """`gpu=2` -> ("gpu", 2). Named ones (`gpu=uuid1`) cannot be reserved, only counted."""
    kind, there, amount = text.partition("=")
    if not there or not kind or "=" in amount:
        raise UsageError(f"invalid generic-resource format `{text}` expected `name=value`")
    if not re.fullmatch(r"\d{1,18}", amount, re.ASCII):
        raise UsageError(f"invalid generic-resource request `{text}`, Named Generic Resources is not supported for service create or update")
    return kind, int(amount)


_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<registry>(?:[a-zA-Z0-9.-]*[.:][a-zA-Z0-9.:-]*|localhost)/)?(?P<path>{_WORD}(?:/{_WORD})*)"
    r"(?P<tag>:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(?P<digest>@[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_LONGEST_NAME = 255


def image(text: str) -> str:
    """The reference as Docker keeps it: `docker.io/library/httpd` and `httpd` are `httpd:latest`."""
    if not text:
        raise UsageError("ContainerSpec: image reference must be provided")
    match = _REFERENCE.fullmatch(text) if len(text) <= 2 * _LONGEST_NAME else None
    if match is None or len(match["path"]) > _LONGEST_NAME:
        raise UsageError(f"ContainerSpec: {_quoted(text)} is not a valid repository/tag")
    registry, path, tag, digest = (match[name] or "" for name in ("registry", "path", "tag", "digest"))
    if registry in ("docker.io/", "index.docker.io/"):
        registry, path = "", path.removeprefix("library/")
    elif not registry:
        path = path.removeprefix("library/") if path.count("/") == 1 else path
    return f"{registry}{path}{tag or ('' if digest else ':latest')}{digest}"


def words(text: str) -> tuple[str, ...]:
    """A command as a shell would split it."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise UsageError("EOF found when expecting closing quote") from None


def health(
    command: str | None = None,
    interval: float | None = None,
    timeout: float | None = None,
    start_period: float | None = None,
    retries: int | None = None,
    none: bool = False,
    before: HealthCheck | None = None,
) -> HealthCheck | None:
    """The --health-* options and --no-healthcheck together, on top of what there was; without any of them that itself."""
    given = {
        "test": None if command is None else ("CMD-SHELL", command),
        "interval": interval,
        "timeout": timeout,
        "start_period": start_period,
        "retries": retries,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    if none:
        if changed:
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        return HealthCheck(("NONE",))
    if not changed:
        return before
    check = before if before is not None and before.test != ("NONE",) else HealthCheck()
    return replace(check, **changed)  # type: ignore[arg-type]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
