"""Compose files, version 3: several texts in, one checked and merged configuration out, as `docker stack deploy` reads them.

Knows every key, what it may hold and Docker's words for a wrong one (docker/cli cli/compose: its schema up to 3.13, loader and merging); not what a
swarm makes of it. Reads no file: who calls hands it the texts, the environment, and a way to the files that `env_file` names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, NoReturn

from vxtool.errors import UsageError
from vxtool.swarm import parsing
from vxtool.swarm.compose_yaml import Data, Value, parse

__all__ = ["Bytes", "Compose", "Duration", "load"]

LATEST = "3.13"
VERSIONS = tuple(f"3.{minor}" for minor in range(14))

UNSUPPORTED = (
    "build",
    "cgroup_parent",
    "cgroupns_mode",
    "devices",
    "domainname",
    "external_links",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "pid",
    "privileged",
    "restart",
    "security_opt",
    "shm_size",
    "userns_mode",
)
"""Docker's own list of what a stack has no use for: named in a warning, and passed over."""

DEPRECATED: Mapping[str, str] = {
    "container_name": "Setting the container name is not supported.",
    "expose": "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
}

_LIMITS = "Set resource limits using deploy.resources"
FORBIDDEN: Mapping[str, str] = {
    "extends": "Support for `extends` is not implemented yet.",
    "volume_driver": "Instead of setting the volume driver on the service, define a volume using the top-level `volumes` option"
    " and specify the driver there.",
    "volumes_from": "To share a volume between services, define it using the top-level `volumes` option and reference it"
    " from each service that shares it using the service-level `volumes` option.",
    **dict.fromkeys(("cpu_quota", "cpu_shares", "cpuset", "mem_limit", "memswap_limit"), _LIMITS),
}

ABSENT: Mapping[str, str] = {
    "volumes": "the lab has no volumes: its programs see the files of this machine",
    "tmpfs": "the lab has no mounts: its programs see the files of this machine",
    "secrets": "the lab has no secrets: give them as environment variables",
    "configs": "the lab has no configs: give them as environment variables",
    "credential_spec": "the lab has no credential specs: they are for Windows",
}
"""Refused by name: what a program would miss without being told."""

WITHOUT = (
    "cap_add",
    "cap_drop",
    "depends_on",
    "group_add",
    "init",
    "isolation",
    "logging",
    "oom_score_adj",
    "read_only",
    "stdin_open",
    "sysctls",
    "tty",
    "ulimits",
)
"""Passed over with a warning: what a program hardly misses."""


class Duration(float):
    """Seconds, which the merged file has as text."""


class Bytes(int):
    """Likewise: a size, which is a text so that nobody rounds it."""


@dataclass(slots=True)
class Compose:
    """What the files say together. Members of `services` and `networks` have the keys of a Compose file and one form each: lists for commands, long
    ports, environments as mappings (None: the name alone)."""

    version: str = LATEST
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)  # x-...
    unsupported: set[str] = field(default_factory=set)
    deprecated: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)  # what Docker has and the lab has not, and a program can do without
    remarks: list[str] = field(default_factory=list)
    substituted: bool = True  # variables have been put in: a dollar that is left is one

    @property
    def warnings(self) -> list[str]:
        """Paragraphs, Docker's first."""
        told = []
        if self.unsupported:
            told.append(f"Ignoring unsupported options: {', '.join(sorted(self.unsupported))}")
        if self.deprecated:
            told.append("Ignoring deprecated options:\n\n" + "\n\n".join(f"{key}: {DEPRECATED[key]}" for key in sorted(self.deprecated)))
        if self.absent:
            told.append(f"Ignoring options that the lab does not have: {', '.join(sorted(self.absent))}")
        return told + self.remarks

    def document(self) -> dict[str, Any]:
        """As a Compose file again, of which `load` makes the same: `stack config`."""
        parts = {
            "version": self.version,
            "services": {name: self.services[name] for name in sorted(self.services)},
            "networks": {name: self.networks[name] for name in sorted(self.networks)},
            **self.extras,
        }
        return {key: _written(part, self.substituted) for key, part in parts.items() if part or key not in ("services", "networks")}


ReadFile = Callable[[str], str]
"""The text of a file that a Compose file names."""


def load(
    texts: Sequence[tuple[str, str]], environment: Mapping[str, str] | None = None, read: ReadFile | None = None, *, substitute: bool = True
) -> Compose:
    """Files as (name, text), later ones over earlier ones. UsageError with the file and the line of what is wrong."""
    if not texts:
        raise UsageError("specify a Compose file (with --compose-file)")
    whole = Compose(substituted=substitute)
    versions: list[str] = []
    for source, text in texts:
        context = _Context(source, environment or {}, read, whole)
        top = At(parse(text, source), context)
        if not isinstance(top.data, Mapping):
            top.refuse("top-level object must be a mapping", bare=True)
        version = _version(top)
        versions.append(version)
        if version != versions[0]:
            top.member("version").refuse(f"version mismatched between two composefiles : {versions[0]} and {version}", bare=True)
        _refuse_forbidden(top)
        if substitute:
            top = At(_Substitution(source, environment or {}).of(top.value, ()), context)
        _merge(whole, _top(top), first=len(versions) == 1)
    whole.version = versions[0]
    return whole


def _version(top: At) -> str:
    if not isinstance(top.data, Mapping) or "version" not in top.data:
        return LATEST
    here = top.member("version")
    version = here.data
    text = (
        version if isinstance(version, str) else _number_text(version) if isinstance(version, (int, float)) and not isinstance(version, bool) else ""
    )
    text = LATEST if text in ("", "3") else text
    if text not in VERSIONS:
        here.refuse(f"unsupported Compose file version: {text[:40]} (there are 3, 3.0 to {LATEST})", bare=True)
    if not isinstance(version, str):
        here.must("a string")
    return text


def _refuse_forbidden(top: At) -> None:
    for _, service in top.member("services").members():
        for key, why in FORBIDDEN.items():
            if isinstance(service.data, Mapping) and key in service.data:
                service.member(key).refuse(f"is an unsupported option. {why}")


# --------------------------------------------------------------------------------------------------------------------
# A value and where it stands
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Context:
    source: str
    environment: Mapping[str, str]
    read: ReadFile | None
    told: Compose  # gathers the warnings


@dataclass(frozen=True, slots=True)
class At:
    """A value of one of the files. What reads it gives it the one form it has in a Compose, or refuses it with the place."""

    value: Value
    context: _Context
    path: tuple[str | int, ...] = ()

    @property
    def data(self) -> Data:
        return self.value.data

    def member(self, key: str) -> At:
        """Null where there is none."""
        data = self.data
        value = data.get(key) if isinstance(data, Mapping) else None
        return At(value or Value(None, self.value.line), self.context, (*self.path, key))

    def members(self) -> Iterable[tuple[str, At]]:
        return [(key, self.member(key)) for key in self.data] if isinstance(self.data, Mapping) else []

    def items(self) -> Iterable[At]:
        if not isinstance(self.data, tuple):
            return []
        return [At(value, self.context, (*self.path, index)) for index, value in enumerate(self.data)]

    def must(self, be: str) -> NoReturn:
        self.refuse(f"must be {be}")

    def unknown(self, key: str, why: str = "") -> NoReturn:
        """It should not be where it is; Docker names what it is in."""
        raise UsageError(f"{self._begin(self.path[:-1])}Additional property {key} is not allowed{why}")

    def refuse(self, why: str, bare: bool = False) -> NoReturn:
        """`bare`: the sentence says itself what it is about."""
        raise UsageError(f"{self._begin(None if bare else self.path)}{why}")

    def _begin(self, path: tuple[str | int, ...] | None) -> str:
        place = "" if path is None else f"{'.'.join(map(str, path)) or '(root)'} "
        return f"{self.context.source}, line {self.value.line}: {place}"


Read = Callable[[At], Any]


def _parsed(parse: Callable[[str], Any], wrap: Callable[[Any], Any] = lambda value: value) -> Read:
    """A text that vxtool.swarm.parsing understands."""

    def read(at: At) -> Any:
        try:
            return wrap(parse(_text(at)))
        except UsageError as error:
            if str(error).startswith(f"{at.context.source}, line "):
                raise
            at.refuse(f"is wrong: {error}")

    return read


def _text(at: At) -> str:
    if not isinstance(at.data, str):
        at.must("a string")
    return at.data


def _choice(*words: str) -> Read:
    def read(at: At) -> str:
        if (text := _text(at)) not in words:
            at.must(f"one of the following: {', '.join(map(json.dumps, words))}")
        return text

    return read


_TRUTH = {**dict.fromkeys(("y", "yes", "true", "on"), True), **dict.fromkeys(("n", "no", "false", "off"), False)}


def _flag(at: At) -> bool:
    data = at.data
    if at.value.substituted and isinstance(data, str):
        data = _TRUTH.get(data.lower())
        if data is None:
            at.refuse(f"failed to cast to expected type: invalid boolean: {str(at.data)[:60]}")
    if not isinstance(data, bool):
        at.must("a boolean")
    return data


def _number(at: At) -> float:
    data = at.data
    if at.value.substituted and isinstance(data, str):
        try:
            return parsing.ratio(data)
        except UsageError as error:
            at.refuse(f"failed to cast to expected type: {error}")
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        at.must("a number")
    if isinstance(data, float) and not abs(data) < 1e300:  # nan is not, either
        at.refuse(f"is no number to reckon with: {data}")
    return data


def _integer(low: int, high: int = (1 << 63) - 1) -> Read:
    def read(at: At) -> int:
        data = at.data
        if at.value.substituted and isinstance(data, str):
            try:
                data = parsing.integer(data)
            except UsageError as error:
                at.refuse(f"failed to cast to expected type: {error}")
        if isinstance(data, float) and data.is_integer() and abs(data) < 1 << 63:
            data = int(data)  # JSON Schema's integers: 2.0 is one
        if isinstance(data, bool) or not isinstance(data, int):
            at.must("a integer")
        if not low <= data <= high:
            at.refuse(f"is {data}: a number from {low} to {high} is wanted" if high < 1 << 32 else f"is {data}: it cannot be negative")
        return data

    return read


def _list(read: Read, unique: bool = True) -> Read:
    def reader(at: At) -> list[Any]:
        if not isinstance(at.data, tuple):
            at.must("a list")
        if unique:
            _refuse_twins(at)
        return [read(item) for item in at.items()]

    return reader


def _refuse_twins(at: At) -> None:
    seen: dict[str, int] = {}
    for index, item in enumerate(at.items()):
        text = json.dumps(item.value.plain(), sort_keys=True)
        if text in seen:
            item.refuse(f"array items[{seen[text]},{index}] must be unique")
        seen[text] = index


def _texts(at: At) -> list[str]:
    """A text, or several."""
    return list(_each(_text)(at))


def _each(read: Read) -> Read:
    def reader(at: At) -> list[Any]:
        if not isinstance(at.data, (str, tuple)):
            at.must("a string or list")
        return [read(at)] if isinstance(at.data, str) else list(_list(read)(at))

    return reader


def _command(at: At) -> list[str]:
    if isinstance(at.data, str):
        return list(_parsed(parsing.words)(at))
    if not isinstance(at.data, tuple):
        at.must("a string or list")
    return [str(text) for text in _list(_text, unique=False)(at)]


def _pairs(at: At) -> dict[str, str | None]:
    """`- KEY=value`, or `KEY: value`, whose values may be numbers."""
    if isinstance(at.data, tuple):
        split = [text.partition("=") for text in _list(_text)(at)]
        return {key: value if there else None for key, there, value in split}
    if not isinstance(at.data, Mapping):
        at.must("a mapping or list")
    return {key: None if member.data is None else _scalar(member) for key, member in at.members()}


def _scalar(at: At) -> str:
    if isinstance(at.data, str):
        return at.data
    if isinstance(at.data, bool) or not isinstance(at.data, (int, float)):
        at.must("a string, number or null")
    return _number_text(at.data)


def _number_text(number: float) -> str:
    """As Go prints it: 3.0 is 3."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() and abs(number) < 1e21 else str(number)


def _labels(at: At) -> dict[str, str]:
    return {key: value or "" for key, value in _pairs(at).items()}


def _hosts(at: At) -> list[str]:
    if isinstance(at.data, tuple):
        return [str(text) for text in _list(_parsed(parsing.host))(at)]
    return [_parsed(lambda address, name=name: parsing.host(f"{name}:{address}"))(member) for name, member in sorted(at.members())]  # type: ignore[misc]


def _test(at: At) -> list[str]:
    """A health check's command: a text is for the shell."""
    if isinstance(at.data, str):
        return ["CMD-SHELL", at.data]
    words: list[str] = _command(at)
    if words and words[0] not in ("NONE", "CMD", "CMD-SHELL"):
        at.refuse(f"begins with {json.dumps(words[0])}: the first item must be either NONE, CMD or CMD-SHELL")
    return words


def _ports(at: At) -> list[dict[str, Any]]:
    if not isinstance(at.data, tuple):
        at.must("a list")
    _refuse_twins(at)
    ports: list[dict[str, Any]] = []
    for item in at.items():
        if isinstance(item.data, Mapping):
            port = _LONG_PORT(item)
            if not port.get("target"):
                item.refuse("lacks target, the port in the container")
            ports.append(_port(port.get("mode", "ingress"), port["target"], port.get("published", 0), port.get("protocol", "tcp")))
            continue
        if isinstance(item.data, bool) or not isinstance(item.data, (str, int)):
            item.must("a number, string or mapping")
        text = _without_address(item, str(item.data))
        try:
            found = parsing.ports(text)
        except UsageError as error:
            item.refuse(f"is wrong: {error}")
        ports += [_port(str(port.mode), port.target, port.published, port.protocol) for port in found]
    return ports


def _port(mode: str, target: int, published: int, protocol: str) -> dict[str, Any]:
    return {"mode": mode, "target": target} | ({"published": published} if published else {}) | {"protocol": protocol}


def _without_address(at: At, text: str) -> str:
    """A swarm publishes at all addresses of a node; Docker says so and goes on."""
    address, _, rest = text.rpartition(":")
    address, there, published = address.rpartition(":")
    if not there or "=" in text:
        return text
    try:
        ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        at.refuse(f"is wrong: invalid IP address: {address[:60]}")
    at.context.told.remarks.append(f"ignoring IP-address ({text}) service will listen on '0.0.0.0'")
    return f"{published}:{rest}" if published else rest


def _service_networks(at: At) -> dict[str, dict[str, Any]]:
    if isinstance(at.data, tuple):
        return {str(name): {} for name in _list(_text)(at)}
    if not isinstance(at.data, Mapping):
        at.must("a list or mapping")
    return {_named(member, name): {} if member.data is None else _SERVICE_NETWORK(member) for name, member in at.members()}


_NAME = re.compile(r"[a-zA-Z0-9._-]+")


def _named(at: At, name: str) -> str:
    if not _NAME.fullmatch(name):
        at.unknown(name, " (a name has letters, digits, and . _ -)")
    return name


def _anything(at: At) -> object:
    return at.value.plain()


def _ignored(which: Callable[[Compose], set[str]]) -> Read:
    """Read by nobody, and told."""

    def read(at: At) -> None:
        which(at.context.told).add(".".join(str(step) for step in at.path[2:] if isinstance(step, str)))

    return read


def _not_here(why: str) -> Read:
    def read(at: At) -> None:
        if at.data not in (None, (), {}):
            at.refuse(f"is given, but {why}")

    return read


def _mapping(keys: Mapping[str, Read], null: bool = False, extras: bool = False) -> Callable[[At], dict[str, Any]]:
    """A mapping of these keys and no others; `null` may stand for an empty one, `extras` (x-...) may be among them."""

    def read(at: At) -> dict[str, Any]:
        if at.data is None and null:
            return {}
        if not isinstance(at.data, Mapping):
            at.must("a mapping")
        there = {}
        for key, member in at.members():
            if key in keys:
                there[key] = keys[key](member)
            elif not (extras and key.startswith("x-")):
                member.unknown(key)
        return {key: there[key] for key in keys if there.get(key) is not None}

    return read


# --------------------------------------------------------------------------------------------------------------------
# What may stand where
# --------------------------------------------------------------------------------------------------------------------

_DURATION = _parsed(parsing.duration, Duration)
_MEMORY = _parsed(parsing.memory, Bytes)
_CPUS = _parsed(lambda text: parsing.cpus(text) and text)  # the text stays: a merged file has it as it was
_PORT = _integer(0, 65535)
_UNUSED = _ignored(lambda told: told.absent)

_LONG_PORT = _mapping({"mode": _choice("ingress", "host"), "target": _PORT, "published": _PORT, "protocol": _choice("tcp", "udp", "sctp")})

_SERVICE_NETWORK = _mapping(
    {"aliases": _list(_text), "driver_opts": _UNUSED, "ipv4_address": _UNUSED, "ipv6_address": _UNUSED},
)

_UPDATE = _mapping(
    {
        "parallelism": _integer(0),
        "delay": _DURATION,
        "failure_action": _choice("continue", "pause", "rollback"),
        "monitor": _DURATION,
        "max_failure_ratio": _number,
        "order": _choice("start-first", "stop-first"),
    }
)

_GENERIC = _mapping({"discrete_resource_spec": _mapping({"kind": _text, "value": _integer(0)})})

_DEPLOY = _mapping(
    {
        "mode": _choice("replicated", "global", "replicated-job", "global-job"),
        "endpoint_mode": _choice("vip", "dnsrr"),
        "replicas": _integer(0),
        "labels": _labels,
        "update_config": _UPDATE,
        "rollback_config": _UPDATE,
        "resources": _mapping(
            {
                "limits": _mapping({"cpus": _CPUS, "memory": _MEMORY, "pids": _integer(0)}),
                "reservations": _mapping({"cpus": _CPUS, "memory": _MEMORY, "generic_resources": _list(_GENERIC, unique=False)}),
            }
        ),
        "restart_policy": _mapping(
            {
                "condition": _choice("none", "on-failure", "any"),
                "delay": _DURATION,
                "max_attempts": _integer(0),
                "window": _DURATION,
            }
        ),
        "placement": _mapping(
            {
                "constraints": _list(_text, unique=False),
                "preferences": _list(_mapping({"spread": _text}), unique=False),
                "max_replicas_per_node": _integer(0),
            }
        ),
    },
    null=True,
)

_HEALTH = _mapping(
    {
        "test": _test,
        "interval": _DURATION,
        "timeout": _DURATION,
        "start_period": _DURATION,
        "start_interval": _UNUSED,
        "retries": _integer(0),
        "disable": _flag,
    }
)

_SERVICE = _mapping(
    {
        "image": _text,
        "command": _command,
        "entrypoint": _command,
        "env_file": _texts,
        "environment": _pairs,
        "hostname": _text,
        "user": _text,
        "working_dir": _text,
        "labels": _labels,
        "deploy": _DEPLOY,
        "networks": _service_networks,
        "ports": _ports,
        "healthcheck": _HEALTH,
        "stop_grace_period": _DURATION,
        "stop_signal": _text,
        "dns": _each(_parsed(parsing.dns_server)),
        "dns_search": _each(_parsed(parsing.dns_search)),
        "extra_hosts": _hosts,
        **{key: _not_here(why) for key, why in ABSENT.items()},
        **dict.fromkeys(UNSUPPORTED, _ignored(lambda told: told.unsupported)),
        **dict.fromkeys(DEPRECATED, _ignored(lambda told: told.deprecated)),
        **dict.fromkeys(WITHOUT, _UNUSED),
    },
    extras=True,
)


def _external(at: At) -> bool | dict[str, str]:
    if isinstance(at.data, Mapping):
        return _mapping({"name": _text})(at)
    return _flag(at) if isinstance(at.data, bool) or at.value.substituted else at.must("a boolean or mapping")


def _overlay(at: At) -> str:
    if (driver := _text(at)) not in ("", "overlay"):
        at.refuse(f"is {driver}: the lab builds overlay networks, no others")
    return driver


def _ipam_driver(at: At) -> str:
    if (driver := _text(at)) not in ("", "default"):
        at.refuse(f'is {driver}: the lab has one IPAM driver, "default"')
    return driver


_NETWORK = _mapping(
    {
        "name": _text,
        "driver": _overlay,
        "driver_opts": _labels,
        "ipam": _mapping({"driver": _ipam_driver, "config": _list(_mapping({"subnet": _text}), unique=False)}),
        "external": _external,
        "internal": _flag,
        "attachable": _flag,
        "labels": _labels,
    },
    null=True,
    extras=True,
)


def _service(at: At) -> dict[str, Any]:
    service = _SERVICE(at)
    files: list[str] = service.pop("env_file", [])
    if files or "environment" in service:
        service["environment"] = _environment(at, files, service.get("environment", {}))
    return {key: service[key] for key in _SERVICE_ORDER if key in service}


_SERVICE_ORDER = (
    "image",
    "command",
    "entrypoint",
    "environment",
    "hostname",
    "user",
    "working_dir",
    "labels",
    "deploy",
    "networks",
    "ports",
    "healthcheck",
    "stop_grace_period",
    "stop_signal",
    "dns",
    "dns_search",
    "extra_hosts",
)


def _environment(at: At, files: Iterable[str], stated: Mapping[str, str | None]) -> dict[str, str | None]:
    """Files first, then what is stated; what has no value, or an empty one, takes the caller's (docker/cli updateEnvironment)."""
    known = at.context.environment
    variables: dict[str, str | None] = {}
    for number, name in enumerate(files):
        place = At(at.member("env_file").value, at.context, (*at.path, "env_file", number))
        if at.context.read is None:
            place.refuse("names a file, but there are none to read here")
        try:
            lines = parsing.env_file(at.context.read(name), name, known)
        except UsageError as error:
            place.refuse(f"cannot be read: {error}")
        variables |= {key: value for key, _, value in (line.partition("=") for line in lines)}
    variables |= stated
    return {key: known[key] if not value and key in known else value for key, value in variables.items()}


def _network(at: At) -> dict[str, Any]:
    network = _NETWORK(at)
    external = network.get("external")
    name = at.path[-1]
    if isinstance(external, dict):
        if network.get("name") and external.get("name"):
            at.refuse(f"network {name}: network.external.name and network.name conflict; only use network.name", bare=True)
        network |= {"external": True} | ({"name": external["name"]} if external.get("name") else {})
    if network.get("external"):
        network.setdefault("name", str(name))
    elif external is False:
        del network["external"]
    return network


def _sections(read: Read) -> Read:
    """A mapping of whatever the user has named."""

    def reader(at: At) -> dict[str, Any]:
        if at.data is None:
            return {}
        if not isinstance(at.data, Mapping):
            at.must("a mapping")
        return {_named(member, name): read(member) for name, member in at.members() if not name.startswith("x-")}

    return reader


_TOP: Mapping[str, Read] = {
    "version": _text,
    "services": _sections(_service),
    "networks": _sections(_network),
    **{key: _not_here(ABSENT[key]) for key in ("volumes", "secrets", "configs")},
}


def _top(at: At) -> Compose:
    there = _mapping(_TOP, extras=True)(at)
    extras = {key: member.value.plain() for key, member in at.members() if key.startswith("x-")}
    return Compose(services=there.get("services", {}), networks=there.get("networks", {}), extras=extras)


# --------------------------------------------------------------------------------------------------------------------
# Variables
# --------------------------------------------------------------------------------------------------------------------

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)"
    r"|(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)(?P<then>:?[-?][^}]*)?"
    r"|\{(?P<braced>[_a-zA-Z][_a-zA-Z0-9]*)(?P<and>:?[-?][^}]*)?\}"
    r"|)",
    re.ASCII,
)


@dataclass(slots=True)
class _Substitution:
    """`${NAME}`, `${NAME:-else}`, `${NAME?why not}`, and `$$` for a dollar."""

    source: str
    environment: Mapping[str, str]
    known: dict[int, Value] = field(default_factory=dict)  # what an alias repeats is substituted once

    def of(self, value: Value, path: tuple[str | int, ...]) -> Value:
        if id(value) not in self.known:
            self.known[id(value)] = self._made(value, path)
        return self.known[id(value)]

    def _made(self, value: Value, path: tuple[str | int, ...]) -> Value:
        data = value.data
        if isinstance(data, str):
            text = self._text(data, value, path)
            return value if text == data else Value(text, value.line, substituted=True)
        if isinstance(data, Mapping):
            return Value({key: self.of(member, (*path, key)) for key, member in data.items()}, value.line, value.size, value.depth)
        if isinstance(data, tuple):
            items = tuple(self.of(item, (*path, index)) for index, item in enumerate(data))
            return Value(items, value.line, value.size, value.depth)
        return value

    def _text(self, text: str, value: Value, path: tuple[str | int, ...]) -> str:
        def put(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "$"
            name, rule = match["name"] or match["braced"], match["then"] or match["and"] or ""
            if name is None:
                self._refuse(text, value, path)
            there = self.environment.get(name)
            # Docker looks for the operators one by one in the whole text, and so takes `${A?b-c}` for a default. The first one counts here.
            if rule.startswith(":"):
                there, rule = there or None, rule[1:]
            if there is None and rule.startswith("?"):
                self._refuse(f"required variable {name} is missing a value: {rule[1:]}", value, path)
            return (rule[1:] if rule else "") if there is None else there

        return _VARIABLE.sub(put, text) if "$" in text else text

    def _refuse(self, what: str, value: Value, path: tuple[str | int, ...]) -> NoReturn:
        raise UsageError(
            f"{self.source}, line {value.line}: invalid interpolation format for {'.'.join(map(str, path))}: {json.dumps(what[:300])};"
            " you may need to escape any $ with another $"
        )


# --------------------------------------------------------------------------------------------------------------------
# Several files
# --------------------------------------------------------------------------------------------------------------------


def _merge(whole: Compose, more: Compose, first: bool) -> None:
    """Services with one name are merged, networks replaced. Extras are the first file's, as Docker has it."""
    for name, service in more.services.items():
        whole.services[name] = _merged(whole.services[name], service) if name in whole.services else service
    whole.networks |= more.networks
    if first:
        whole.extras = more.extras


def _merged(base: Mapping[str, Any], over: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Mappings key by key, lists one after the other, anything else replaced; but for what _JOIN says."""
    merged = dict(base)
    for key, value in over.items():
        there, place = merged.get(key), f"{path}.{key}".removeprefix(".")
        if key not in merged or there is None:
            merged[key] = value
        elif place in _JOIN:
            merged[key] = _JOIN[place](there, value)
        elif isinstance(there, dict) and isinstance(value, dict):
            merged[key] = _merged(there, value, place)
        elif isinstance(there, list) and isinstance(value, list):
            merged[key] = there + value
        else:
            merged[key] = value
    return merged


def _later(base: Any, over: Any) -> Any:
    return over or base


def _joined_ports(base: list[dict[str, Any]], over: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each once, in the order of their published numbers."""
    ports = {tuple(sorted(port.items())): port for port in base + over}
    return sorted(ports.values(), key=lambda port: port.get("published", 0))


def _joined_networks(base: dict[str, dict[str, Any]], over: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The aliases of the later file count."""
    return base | {name: base.get(name, {}) | network for name, network in over.items()}


_JOIN: Mapping[str, Callable[[Any, Any], Any]] = {
    "command": _later,
    "entrypoint": _later,
    # Docker puts the words of one check behind those of the other: a command that nobody has written.
    "healthcheck.test": _later,
    "ports": _joined_ports,
    "networks": _joined_networks,
}


def _written(value: Any, escaped: bool) -> Any:
    if isinstance(value, Duration):
        return _duration_text(value)
    if isinstance(value, Bytes):
        return str(int(value))
    if isinstance(value, str):
        return value.replace("$", "$$") if escaped else value
    if isinstance(value, dict):
        return {key: _written(member, escaped) for key, member in value.items()}
    return [_written(item, escaped) for item in value] if isinstance(value, list) else value


def _duration_text(seconds: float) -> str:
    """Go's: 1m30s, 500ms, 0s."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 else ""
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1000), ("ns", 1)):
            if nanoseconds >= size:
                return f"{sign}{nanoseconds / size:g}{unit}"
        return "0s"
    minutes, left = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{left // 1_000_000_000}" + (f".{left % 1_000_000_000:09d}".rstrip("0") if left % 1_000_000_000 else "")
    return sign + (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
