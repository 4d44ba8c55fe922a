"""Services, nodes and networks as users speak of them: by name, with options called as Docker's flags are.

Knows what each option changes in a specification, and asks a SwarmClient; the command line and Python go the same way through here.

    services = Services(client)
    services.create("web", image="httpd", replicas=6, network=["web"], publish=["80:80"], restart_delay="1s")
    services.update("web", env_add=["DEBUG=1"], publish_rm=["80"], replicas=8)

A value may be the text that would stand on the command line, or what swarm.parsing makes of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from vxtool.errors import UsageError
from vxtool.model import Availability, EndpointMode, Role, ServiceMode
from vxtool.swarm import parsing
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.objects import (
    FailureAction,
    Network,
    NetworkSpec,
    Node,
    Order,
    PortConfig,
    RestartCondition,
    Service,
    ServiceSpec,
    SubnetSpec,
    Task,
    TaskNetwork,
)
from vxtool.swarm.restart import JOBS
from vxtool.swarm.view import View

__all__ = ["LISTS", "SCALARS", "UNSUPPORTED", "Networks", "Nodes", "Services", "changed", "random_name", "service_spec"]


# --------------------------------------------------------------------------------------------------------------------
# What an option changes
# --------------------------------------------------------------------------------------------------------------------


def _choice(kind: type[StrEnum], wrong: str) -> Callable[[str], StrEnum]:
    """One of an enumeration's words, or Docker's sentence about another."""

    def parse(text: str) -> StrEnum:
        try:
            return kind(text.lower())
        except ValueError:
            raise UsageError(f"{wrong.format(text)} (there are {', '.join(kind)})") from None

    return parse


@dataclass(frozen=True, slots=True)
class Scalar:
    """An option with one value: which field of a ServiceSpec it sets, and how its text is read."""

    path: str
    parse: Callable[[str], Any]


def _text(text: str) -> str:
    return text


def _policy(which: str) -> dict[str, Scalar]:
    """--update-... or --rollback-..."""
    return {
        f"{which}_parallelism": Scalar(f"{which}.parallelism", parsing.number),
        f"{which}_delay": Scalar(f"{which}.delay", parsing.duration),
        f"{which}_monitor": Scalar(f"{which}.monitor", parsing.duration),
        f"{which}_failure_action": Scalar(f"{which}.failure_action", _choice(FailureAction, f"unrecognized {which} failure action {{}}")),
        f"{which}_max_failure_ratio": Scalar(f"{which}.max_failure_ratio", parsing.ratio),
        f"{which}_order": Scalar(f"{which}.order", _choice(Order, f"unrecognized {which} order {{}}")),
    }


SCALARS: Mapping[str, Scalar] = {
    "image": Scalar("task.image", parsing.image),
    "args": Scalar("task.args", parsing.words),
    "entrypoint": Scalar("task.command", parsing.words),
    "hostname": Scalar("task.hostname", _text),
    "workdir": Scalar("task.workdir", _text),
    "user": Scalar("task.user", _text),
    "stop_signal": Scalar("task.stop_signal", _text),
    "stop_grace_period": Scalar("task.stop_grace", parsing.duration),
    "mode": Scalar("mode", _choice(ServiceMode, "Unknown mode: {}, only replicated and global supported")),
    "replicas": Scalar("replicas", parsing.number),
    "max_concurrent": Scalar("max_concurrent", parsing.number),
    "replicas_max_per_node": Scalar("task.placement.max_replicas", parsing.number),
    "limit_cpu": Scalar("task.limits.nano_cpus", parsing.cpus),
    "limit_memory": Scalar("task.limits.memory_bytes", parsing.memory),
    "limit_pids": Scalar("task.limits.pids", parsing.integer),
    "reserve_cpu": Scalar("task.reservations.nano_cpus", parsing.cpus),
    "reserve_memory": Scalar("task.reservations.memory_bytes", parsing.memory),
    "restart_condition": Scalar("task.restart.condition", _choice(RestartCondition, 'invalid RestartCondition: "{}"')),
    "restart_delay": Scalar("task.restart.delay", parsing.duration),
    "restart_max_attempts": Scalar("task.restart.max_attempts", parsing.number),
    "restart_window": Scalar("task.restart.window", parsing.duration),
    "endpoint_mode": Scalar("endpoint.mode", _choice(EndpointMode, 'invalid resolution mode: "{}"')),
    "log_driver": Scalar("task.log_driver", _text),
    **_policy("update"),
    **_policy("rollback"),
}
"""Option -> what it sets. `limit_cpu="0.5"` and `limit_cpu=500_000_000` are the same."""

_HEALTH: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "health_cmd": ("command", _text),
    "health_interval": ("interval", parsing.positive_duration),
    "health_timeout": ("timeout", parsing.positive_duration),
    "health_start_period": ("start_period", parsing.positive_duration),
    "health_retries": ("retries", parsing.integer),
}
"""They change one thing together: parsing.health."""


@dataclass(frozen=True, slots=True)
class Many:
    """An option that may be given several times: the tuple or mapping that it adds to (`X_add`) and removes from (`X_rm`).

    `parse` may give several (a range of ports). `key`: items of one key replace each other. `wanted`: the key that a text after `X_rm` means.
    """

    path: str
    parse: Callable[[str], Any]
    key: Callable[[Any], Any]
    wanted: Callable[[str], Any] = _text
    several: bool = False
    sorted: bool = False  # an update leaves them in alphabetical order, as Docker does


def _variable(text: str) -> str:
    return text.partition("=")[0]


def _host_name(text: str) -> str:
    return text.partition(":")[0]


def _same(item: Any) -> Any:
    return item


LISTS: Mapping[str, Many] = {
    "env": Many("task.env", parsing.env, _variable, _variable),
    "label": Many("labels", parsing.label, _same),
    "container_label": Many("task.labels", parsing.label, _same),
    "constraint": Many("task.placement.constraints", _text, _same, sorted=True),
    "placement_pref": Many("task.placement.preferences", parsing.preference, _same, parsing.preference),
    "network": Many("task.networks", parsing.network, lambda wanted: wanted.network),
    "publish": Many("endpoint.ports", parsing.ports, lambda port: (port.published, port.target, port.protocol, port.mode), several=True),
    "dns": Many("task.dns.nameservers", parsing.dns_server, _same),
    "dns_option": Many("task.dns.options", _text, _same),
    "dns_search": Many("task.dns.search", parsing.dns_search, _same),
    "host": Many("task.hosts", parsing.host, _same, _host_name),
    "generic_resource": Many("task.reservations.generic", parsing.generic, _same, _variable),
}
"""Option -> what it adds to. On creation it has the plain name, later `_add` and `_rm`."""

_OTHER_NAMES = {"networks": "network", "ports": "publish", "labels": "label", "constraints": "constraint", "hosts": "host"}
"""What Python programs may write instead: a list is more than one."""

_NOT_BUILT = "a lab's containers have no {what} of their own: leave --{flag} out"
UNSUPPORTED: Mapping[str, str] = {
    "secret": "a lab has no secrets: hand the service what it needs with --env",
    "config": "a lab has no configs: hand the service what it needs with --env",
    "mount": "a lab has no volumes, its containers see the machine's files: leave --mount out",
    "credential_spec": "credential specs are for Windows services, and a lab's nodes are Linux: leave --credential-spec out",
    "isolation": "isolation modes are for Windows services, and a lab's nodes are Linux: leave --isolation out",
    **{
        name: _NOT_BUILT.format(what=what, flag=name.replace("_", "-"))
        for name, what in {
            "cap_add": "capabilities",
            "cap_drop": "capabilities",
            "group": "groups",
            "init": "init process",
            "log_opt": "log options",
            "oom_score_adj": "OOM score",
            "read_only": "root file system",
            "sysctl": "sysctls",
            "tty": "terminal",
            "ulimit": "ulimits",
            "health_start_interval": "second health interval",
        }.items()
    },
}
"""Docker's options that a lab refuses, and why. Their `_add` and `_rm` are refused alike."""


def service_spec(name: str, **options: Any) -> ServiceSpec:
    """The specification of a new service. UsageError, in Docker's words, for options that do not go together."""
    spec = _applied(ServiceSpec(name), {(f"{option}_add" if option in LISTS else option): value for option, value in _named(options).items()})
    _check_mode(spec, {option for option, value in options.items() if value is not None})
    return spec


def changed(spec: ServiceSpec, **options: Any) -> ServiceSpec:
    """`spec` after an update: SCALARS, LISTS with `_add` and `_rm`, `health_*`, `no_healthcheck`, and `force`."""
    named = _named(options)
    new = _applied(spec, named)
    _check_mode(new, {option for option in named if option in ("replicas", "max_concurrent", "replicas_max_per_node")})
    for option, many in LISTS.items():
        if many.sorted and (f"{option}_add" in named or f"{option}_rm" in named):
            new = _put(new, many.path, tuple(sorted(_get(new, many.path))))
    if "publish_add" in named or "publish_rm" in named:
        new = _put(new, "endpoint.ports", tuple(sorted(new.endpoint.ports, key=lambda port: (port.published, port.target, port.protocol))))
    return new


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, by Docker's names."""
    named = {_OTHER_NAMES.get(name, name): value for name, value in options.items() if value is not None}
    return {name: value for name, value in named.items() if value != () or name in SCALARS}


def _applied(spec: ServiceSpec, options: Mapping[str, Any]) -> ServiceSpec:
    health: dict[str, Any] = {}
    for option, value in options.items():
        many, _, how = option.rpartition("_")
        plain = many if how in ("add", "rm") and option not in UNSUPPORTED else option
        if option in SCALARS:
            scalar = SCALARS[option]
            spec = _put(spec, scalar.path, tuple(value) if isinstance(value, list) else _parsed(scalar.parse, value))
        elif how == "rm" and many in LISTS:
            spec = _without(spec, many, value)
        elif how == "add" and many in LISTS:
            spec = _with(spec, LISTS[many], value)
        elif option in _HEALTH:
            name, parse = _HEALTH[option]
            health[name] = _parsed(parse, value)
        elif option == "no_healthcheck":
            health["none"] = bool(value)
        elif option == "force":
            spec = _put(spec, "task.force_update", spec.task.force_update + bool(value))
        elif plain in UNSUPPORTED:
            raise UsageError(UNSUPPORTED[plain])
        else:
            raise UsageError(f"{option!r} is no option of a service: they are called as the flags of vxtool service create, with _ for -")
    return replace(spec, task=replace(spec.task, health=parsing.health(**health, before=spec.task.health))) if health else spec


def _parsed(parse: Callable[[str], Any], value: Any) -> Any:
    return parse(value) if isinstance(value, str) else value


def _get(spec: Any, path: str) -> Any:
    for name in path.split("."):
        spec = getattr(spec, name)
    return spec


def _put(spec: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    return replace(spec, **{name: _put(getattr(spec, name), rest, value) if rest else value})


def _items(many: Many, values: Any) -> list[Any]:
    """Every value read, those that stand for several each on its own."""
    read = [_parsed(many.parse, value) for value in ([values] if isinstance(values, str) else _listed(values))]
    return [item for one in read for item in (one if many.several and isinstance(one, tuple) else (one,))]


def _listed(values: Any) -> Iterable[Any]:
    """`{"key": "value"}` is as good as `["key=value"]`."""
    return (f"{key}={value}" for key, value in values.items()) if isinstance(values, Mapping) else values


def _with(spec: ServiceSpec, many: Many, values: Any) -> ServiceSpec:
    before, added = _get(spec, many.path), _items(many, values)
    if isinstance(before, Mapping):
        return _put(spec, many.path, {**before, **dict(added)})  # type: ignore[no-any-return]
    merged = {many.key(item): item for item in before}
    merged.update((many.key(item), item) for item in added)
    return _put(spec, many.path, tuple(merged.values()))  # type: ignore[no-any-return]


def _without(spec: ServiceSpec, option: str, values: Any) -> ServiceSpec:
    many = LISTS[option]
    before = _get(spec, many.path)
    if option == "publish":
        return _put(spec, many.path, _unpublished(before, values))  # type: ignore[no-any-return]
    unwanted = {_parsed(many.wanted, value) for value in ([values] if isinstance(values, str) else values)}
    if isinstance(before, Mapping):
        return _put(spec, many.path, {key: value for key, value in before.items() if key not in unwanted})  # type: ignore[no-any-return]
    name = _host_name if option == "host" else many.key
    return _put(spec, many.path, tuple(item for item in before if name(item) not in unwanted))  # type: ignore[no-any-return]


def _unpublished(ports: tuple[PortConfig, ...], values: Any) -> tuple[PortConfig, ...]:
    """By target port, protocol and mode; what is published under which number does not matter."""
    unwanted = {(port.target, port.protocol, port.mode) for port in _items(LISTS["publish"], values)}
    return tuple(port for port in ports if (port.target, port.protocol, port.mode) not in unwanted)


def _check_mode(spec: ServiceSpec, given: set[str]) -> None:
    replicated = spec.mode in (ServiceMode.REPLICATED, ServiceMode.REPLICATED_JOB)
    for option in ("replicas", "replicas_max_per_node"):
        if option in given and not replicated:
            raise UsageError(f"{option.replace('_', '-')} can only be used with replicated or replicated-job mode")
    if "max_concurrent" in given and spec.mode is not ServiceMode.REPLICATED_JOB:
        raise UsageError("max-concurrent can only be used with replicated-job mode")
    if spec.mode in JOBS and any(option.startswith(("update_", "rollback_")) for option in given):
        raise UsageError("update and rollback configuration is not supported for jobs")


_MOODS = (
    "amber brisk calm candid clever daring eager early fleet gentle glad honest jolly keen lively lucid merry nimble patient quick quiet steady "
    "sunny wise"
)
_PEOPLE = (
    "agner baran bellman boggs cerf clark crocker davies dijkstra erlang feinler floyd hopper jacobson kahn kleinrock lamport licklider "
    "metcalfe mockapetris nagle nyquist perlman pouzin postel roberts shannon shoch thacker zimmermann"
)


def random_name(taken: Iterable[str] = (), choose: random.Random | None = None) -> str:
    """Two words, as Docker names what nobody named: here somebody whom networks owe something."""
    choose = choose or random.Random()
    known = set(taken)
    names = [f"{mood}_{person}" for mood in _MOODS.split() for person in _PEOPLE.split()]
    choose.shuffle(names)
    return next((name for name in names if name not in known), f"{names[0]}{len(known)}")


# --------------------------------------------------------------------------------------------------------------------
# The facade
# --------------------------------------------------------------------------------------------------------------------


def _to_change(view: View, name: str) -> Service:
    """UsageError in a manager's words; those of the view are the command line's own, of `inspect` and `ps`."""
    try:
        return view.service(name)
    except UsageError as error:
        if str(error) == f"no such service: {name}":
            raise UsageError(f"service {name} not found") from None
        raise


class Services:
    def __init__(self, client: SwarmClient) -> None:
        self.client = client

    def create(self, name: str | None = None, **options: Any) -> Service:
        """`image` is needed; a service without a name is given one."""
        view = self.client.view()
        name = name or random_name(service.spec.name for service in view.services.values())
        return self.client.create_service(_resolved(view, service_spec(name, **options)))

    def update(self, name: str, **options: Any) -> Service:
        view = self.client.view()
        service = _to_change(view, name)
        return self.client.update_service(service, changed(service.spec, **_by_id(view, service, options)))

    def scale(self, name: str, replicas: int) -> Service:
        service = self.get(name)
        if service.spec.mode not in (ServiceMode.REPLICATED, ServiceMode.REPLICATED_JOB):
            raise UsageError("scale can only be used with replicated or replicated-job mode")
        return self.client.scale_service(service, replicas)

    def rollback(self, name: str) -> Service:
        return self.client.roll_back_service(self.get(name))

    def remove(self, name: str) -> None:
        self.client.remove_service(self.get(name).id)

    def get(self, name: str) -> Service:
        return _to_change(self.client.view(), name)

    def list(self) -> list[Service]:
        return sorted(self.client.view().services.values(), key=lambda service: service.spec.name)

    def tasks(self, name: str) -> tuple[Task, ...]:
        """Its tasks and what is remembered of former ones, the oldest first."""
        view = self.client.view()
        return view.tasks_of.get(view.service(name).id, ())

    def inspect(self, name: str) -> dict[str, Any]:
        from vxtool.swarm import inspecting

        return inspecting.service(self.get(name))


class Nodes:
    def __init__(self, client: SwarmClient) -> None:
        self.client = client

    def update(
        self,
        name: str,
        *,
        availability: Availability | str | None = None,
        role: Role | str | None = None,
        label_add: Iterable[str] | Mapping[str, str] = (),
        label_rm: Iterable[str] = (),
    ) -> Node:
        """UsageError for a label that is to be removed and is not there, as Docker's."""
        node = self.get(name)
        labels = dict(node.labels)
        labels.update(map(parsing.label, _listed(label_add)))
        for key in label_rm:
            if key not in labels:
                raise UsageError(f"key {key} doesn't exist in node's labels")
            del labels[key]
        return self.client.update_node(
            node,
            availability=_one_of(Availability, 'invalid Availability: "{}"', availability),
            role=_one_of(Role, 'invalid Role: "{}"', role),
            labels=labels if labels != dict(node.labels) else None,
        )

    def remove(self, name: str, force: bool = False) -> None:
        self.client.remove_node(self.get(name).id, force)

    def get(self, name: str) -> Node:
        return self.client.view().node(name)

    def list(self) -> list[Node]:
        return list(self.client.view().nodes.values())

    def tasks(self, name: str) -> tuple[Task, ...]:
        view = self.client.view()
        return view.tasks_on.get(view.node(name).id, ())

    def inspect(self, name: str) -> dict[str, Any]:
        from vxtool.swarm import inspecting

        return inspecting.node(self.get(name))


class Networks:
    def __init__(self, client: SwarmClient) -> None:
        self.client = client

    def create(
        self,
        name: str,
        *,
        subnets: Iterable[str | SubnetSpec] = (),
        internal: bool = False,
        attachable: bool = False,
        ingress: bool = False,
        encrypted: bool = False,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Network:
        given = tuple(SubnetSpec(subnet) if isinstance(subnet, str) else subnet for subnet in subnets)
        all_options = {**(options or {}), **({"encrypted": ""} if encrypted else {})}
        return self.client.create_network(
            NetworkSpec(
                name, subnets=given, internal=internal, attachable=attachable, ingress=ingress, options=all_options, labels=dict(labels or {})
            )
        )

    def remove(self, name: str) -> None:
        self.client.remove_network(self.get(name).id)

    def get(self, name: str) -> Network:
        return self.client.view().network(name)

    def list(self) -> list[Network]:
        return sorted(self.client.view().networks.values(), key=lambda network: network.spec.name)

    def inspect(self, name: str, node: str | None = None, verbose: bool = False) -> dict[str, Any]:
        """As Docker on `node` tells it, which lists that node's endpoints; None: on the manager."""
        from vxtool.swarm import inspecting

        view = self.client.view()
        return inspecting.network(view, view.network(name), view.node(node) if node is not None else None, verbose)


def _one_of(kind: type[Any], wrong: str, value: Any) -> Any:
    return None if value is None else _choice(kind, wrong)(value)


def _resolved(view: View, spec: ServiceSpec) -> ServiceSpec:
    """Its networks by id, as they are kept, in the order of their names (Docker's command line sorts them, too, but by id: by chance)."""
    wanted = sorted(
        (replace(one, network=view.network(one.network).id) for one in spec.task.networks), key=lambda one: view.networks[one.network].spec.name
    )
    return replace(spec, task=replace(spec.task, networks=tuple(wanted)))


def _by_id(view: View, service: Service, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an update with networks by id: a specification that is kept knows no other names."""
    told = dict(options)
    here = {wanted.network for wanted in service.spec.task.networks}
    if told.get("network_rm"):
        told["network_rm"] = [view.network(name).id for name in told["network_rm"]]
        here -= set(told["network_rm"])
    if told.get("network_add"):
        added: list[TaskNetwork] = [_parsed(parsing.network, one) for one in told["network_add"]]
        told["network_add"] = [replace(one, network=view.network(one.network).id) for one in added]
        for one in told["network_add"]:
            if one.network in here:
                raise UsageError(f"service is already attached to network {view.networks[one.network].spec.name}")
    return told
