"""What a specification must be, whatever else there is: refused in swarmkit's words where it has some (manager/controlapi), or docker/cli's.

Knows specifications and no store: whether a name is taken, or a port, is asked elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from signal import Signals

from vxtool.errors import UsageError
from vxtool.model import MTU_OPTION, EndpointMode, PublishMode, overlay_mtu
from vxtool.swarm import constraint
from vxtool.swarm.allocator import VNI_OPTION
from vxtool.swarm.ipam import LAST_VNI
from vxtool.swarm.objects import EndpointSpec, HealthCheck, NetworkSpec, Resources, SubnetSpec, TaskSpec, UpdateConfig

__all__ = ["check_endpoint", "check_name", "check_network", "check_task", "check_update"]


PREDEFINED = frozenset({"bridge", "docker_gwbridge", "host", "none"})
"""Networks that every node has of its own."""

_NAME = re.compile(r"[a-zA-Z0-9]+(?:[a-zA-Z0-9-_]*[a-zA-Z0-9])?", re.ASCII)
_LEAST_CPU = 1_000_000  # billionths
_LEAST_MEMORY = 4 << 20
_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST_SIGNAL = 64  # signal(7)
_LEAST_TIME = 0.001  # seconds, of a health check
_MOST_TIME = float(1 << 63) / 1e9  # seconds: Docker counts nanoseconds in 63 bits
_LEAST_MTU = 68  # of IPv4 (RFC 791)


def check_name(name: str) -> None:
    if not name:
        raise UsageError("meta: name must be provided")
    if not _NAME.fullmatch(name):
        raise UsageError("name must be valid as a DNS name component")
    if len(name) > 63:
        raise UsageError("name must be 63 characters or fewer")


def check_task(task: TaskSpec) -> None:
    for resources in (task.limits, task.reservations):
        _check_resources(resources)
    if task.restart.delay < 0:
        raise UsageError("TaskSpec: restart-delay cannot be negative")
    if task.restart.max_attempts < 0:
        raise UsageError("TaskSpec: restart-max-attempts cannot be negative")
    if task.stop_grace < 0:
        raise UsageError("ContainerSpec: stop-grace-period cannot be negative")
    if task.placement.max_replicas < 0:
        raise UsageError("Placement: replicas-max-per-node cannot be negative")
    if task.restart.window < 0:
        raise UsageError("TaskSpec: restart-window cannot be negative")
    for name, seconds in (("stop-grace-period", task.stop_grace), ("restart-delay", task.restart.delay), ("restart-window", task.restart.window)):
        if not seconds < _MOST_TIME:  # nor is it, when it is no number
            raise UsageError(f"{name}: {seconds} s is no time")
    _check_signal(task.stop_signal)
    if task.health is not None:
        _check_health(task.health)
    if any("\0" in text for text in _texts(task)):  # execve(2) ends a text there
        raise UsageError("ContainerSpec: a command, its arguments and its environment cannot contain NUL")
    constraint.parse(task.placement.constraints)
    if not task.image:
        raise UsageError("ContainerSpec: image reference must be provided")


def _check_resources(resources: Resources) -> None:
    if resources.nano_cpus and resources.nano_cpus < _LEAST_CPU:
        raise UsageError(f"invalid cpu value {resources.nano_cpus / 1e9:g}: Must be at least {_LEAST_CPU / 1e9:g}")
    if resources.memory_bytes and resources.memory_bytes < _LEAST_MEMORY:
        raise UsageError(f"invalid memory value {resources.memory_bytes}: Must be at least 4MiB")


def _check_signal(text: str) -> None:
    """As moby's signal.ParseSignal: a number, or a name with or without SIG."""
    name = text.upper().removeprefix("SIG")
    known = 0 < int(name) <= _LAST_SIGNAL if name.isascii() and name.isdecimal() and len(name) < 4 else f"SIG{name}" in Signals.__members__
    if text and not known:
        raise UsageError(f"Invalid signal: {text}")


def _check_health(check: HealthCheck) -> None:
    """As moby's validateHealthCheck (daemon/container.go); what it finds out when it asks for the first time (health.go) is said at once."""
    kind, *command = check.test or ("NONE",)
    if kind not in ("NONE", "CMD", "CMD-SHELL"):
        raise UsageError(f"Unknown probe type '{kind}' (expected 'CMD')")
    if kind != "NONE" and not any(command):
        raise UsageError(f"Healthcheck: {kind} needs a command")
    for name, seconds in (("Interval", check.interval), ("Timeout", check.timeout), ("StartPeriod", check.start_period)):
        if seconds and not seconds >= _LEAST_TIME:
            raise UsageError(f"{name} in Healthcheck cannot be less than 1ms")
        if not seconds < _MOST_TIME:
            raise UsageError(f"{name} in Healthcheck: {seconds} s is no time")
    if check.retries < 0:
        raise UsageError("Retries in Healthcheck cannot be negative")


def _texts(task: TaskSpec) -> Iterator[str]:
    """What becomes words of a program."""
    yield from (*task.command, *task.args, *task.env, task.workdir, task.user, task.hostname)
    if task.health is not None:
        yield from task.health.test


def check_update(update: UpdateConfig) -> None:
    if update.parallelism < 0:
        raise UsageError("TaskSpec: update-parallelism cannot be negative")
    if update.delay < 0:
        raise UsageError("TaskSpec: update-delay cannot be negative")
    if update.monitor < 0:
        raise UsageError("TaskSpec: update-monitor cannot be negative")
    if not 0 <= update.max_failure_ratio <= 1:
        raise UsageError("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")


def check_endpoint(endpoint: EndpointSpec) -> None:
    for port in endpoint.ports:
        if not (0 < port.target <= 0xFFFF and 0 <= port.published <= 0xFFFF) or port.protocol not in _PROTOCOLS:
            raise UsageError(f"invalid port {port.published or ''}:{port.target}/{port.protocol}: ports are 1 to 65535, of {', '.join(_PROTOCOLS)}")
        if endpoint.mode is EndpointMode.DNSRR and port.mode is PublishMode.INGRESS:
            raise UsageError("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
    published = [(port.protocol, port.published) for port in endpoint.ports if port.published]
    if len(set(published)) < len(published):
        raise UsageError("EndpointSpec: duplicate published ports provided")


def check_network(spec: NetworkSpec) -> None:
    check_name(spec.name)
    if spec.name in PREDEFINED:
        raise UsageError(f"network with name {spec.name} already exists")
    if spec.ingress and spec.attachable:
        raise UsageError("ingress network cannot be attachable")
    if spec.driver != "overlay":
        if spec.ingress:
            raise UsageError("only overlay driver is currently supported for ingress network")
        raise UsageError(f'plugin "{spec.driver}" not found: the networks of a swarm have the driver overlay')
    for subnet in spec.subnets:
        _check_subnet(subnet)
    _check_vnis(spec.options.get(VNI_OPTION, ""))
    mtu = spec.options.get(MTU_OPTION, "0")
    if not (mtu.isascii() and mtu.isdecimal()) or int(mtu) > 0xFFFF:
        raise UsageError(f"invalid MTU value: {mtu}")
    inner = overlay_mtu("encrypted" in spec.options, int(mtu) or None)
    if inner < _LEAST_MTU:
        raise UsageError(f"invalid MTU value: {mtu}: it leaves {inner} bytes for a packet inside, and IPv4 needs {_LEAST_MTU}")


def _check_vnis(text: str) -> None:
    wanted = [part.strip() for part in text.split(",")] if text else []
    for part in wanted:
        if not (part.isascii() and part.isdecimal()) or int(part) > LAST_VNI:
            raise UsageError(f'invalid vxlan id value "{part}" passed: a VNI is a number up to {LAST_VNI}')
    if len(set(map(int, wanted))) < len(wanted):
        raise UsageError(f"a VNI is given twice in {text}: every subnet needs one of its own")


def _check_subnet(asked: SubnetSpec) -> None:
    subnet = _network(asked.subnet, "subnet") if asked.subnet else None
    if asked.range:
        part = _network(asked.range, "ip-range")
        if subnet is None or not part.subnet_of(subnet):
            raise UsageError(f"no matching subnet for range {asked.range}")
    if asked.gateway:
        gateway = _address(asked.gateway, "gateway")
        if subnet is None or gateway not in subnet:
            raise UsageError(f"no matching subnet for gateway {asked.gateway}")
    reserved = {_address(address, f"aux-address {name}"): address for name, address in asked.reserved.items()}
    for address, text in reserved.items():
        if subnet is None or address not in subnet:
            raise UsageError(f"no matching subnet for aux-address {text}")
    if len(reserved) < len(asked.reserved):
        raise UsageError("an aux-address is given twice: each needs an address of its own")


def _network(text: str, what: str) -> IPv4Network:
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        raise UsageError(f"invalid {what} {text}: give an IPv4 network such as 10.0.9.0/24") from None


def _address(text: str, what: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise UsageError(f"invalid {what} {text}: give an IPv4 address of the subnet") from None
