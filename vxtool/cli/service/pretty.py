"""A service as `docker service inspect --pretty` shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vxtool.cli.docker_tables import ago, bytes_size
from vxtool.cli.printable import printable
from vxtool.model import ServiceMode
from vxtool.swarm.objects import Service, UpdateState

if TYPE_CHECKING:
    from vxtool.swarm.objects import Resources, UpdateConfig
    from vxtool.swarm.view import View

__all__ = ["go_duration", "page"]

_MODES = {ServiceMode.REPLICATED: "Replicated", ServiceMode.GLOBAL: "Global"}


def page(view: View, service: Service) -> str:
    text = "\n".join(_lines(view, service)) + "\n\n"
    return printable(text, "\n\t")


def _lines(view: View, service: Service) -> Iterator[str]:
    spec = service.spec
    task, placement = spec.task, spec.task.placement
    yield ""
    yield f"ID:\t\t{service.id}"
    yield f"Name:\t\t{spec.name}"
    if spec.labels:
        yield "Labels:"
        yield from (f" {key}={value}" if value else f" {key}" for key, value in sorted(spec.labels.items()))
    yield "Service Mode:" + (f"\t{_MODES[spec.mode]}" if spec.mode in _MODES else "")
    if spec.mode is ServiceMode.REPLICATED:
        yield f" Replicas:\t{spec.replicas}"
    if (status := service.update_status) is not None:
        yield "UpdateStatus:"
        yield f" State:\t\t{status.state.value}"
        if status.started_at is not None:
            yield f" Started:\t{ago(view.now - status.started_at)}"
        if status.state is UpdateState.COMPLETED and status.completed_at is not None:
            yield f" Completed:\t{ago(view.now - status.completed_at)}"
        yield f" Message:\t{status.message}"
    yield "Placement:"
    if placement.constraints:
        yield f" Constraints:\t[{' '.join(placement.constraints)}]"
    if placement.preferences:
        yield f" Preferences:   [{' '.join(f'spread={descriptor}' for descriptor in placement.preferences)}]"
    if placement.max_replicas:
        yield f" Max Replicas Per Node:   {placement.max_replicas}"
    yield from _policy("UpdateConfig:", "Update order:      ", spec.update)
    yield from _policy("RollbackConfig:", "Rollback order:    ", spec.rollback)
    yield "ContainerSpec:"
    yield f" Image:\t\t{task.image}"
    if task.args:
        yield f" Args:\t\t{' '.join(task.args)} "
    if task.env:
        yield f" Env:\t\t{' '.join(task.env)} "
    if task.workdir:
        yield f" Dir:\t\t{task.workdir}"
    yield " Init:\t\tfalse"
    if task.user:
        yield f" User: {task.user}"
    if task.log_driver:
        yield "Log Driver:"
        yield f" Name:\t\t{task.log_driver}"
    yield "Resources:"
    yield from _resources(" Reservations:", task.reservations)
    yield from _resources(" Limits:", task.limits)
    if task.networks:
        names = (view.networks[one.network].spec.name if one.network in view.networks else one.network for one in task.networks)
        yield f"Networks: {' '.join(names)} "
    yield f"Endpoint Mode:\t{spec.endpoint.mode.value}"
    if service.ports:
        yield "Ports:"
        for port in service.ports:
            yield f" PublishedPort = {port.published}"
            yield f"  Protocol = {port.protocol}"
            yield f"  TargetPort = {port.target}"
            yield f"  PublishMode = {port.mode.value}" + (" " if port is service.ports[-1] else "")
    if (check := task.health) is not None:
        yield " Healthcheck:"
        yield f"  Interval = {go_duration(check.interval)}"
        yield f"  Retries = {check.retries}"
        yield f"  StartPeriod =\t{go_duration(check.start_period)}"
        yield f"  Timeout =\t{go_duration(check.timeout)}"
        if check.test:
            yield "  Tests:"
            yield "\n".join(f"\t Test = {word}" for word in check.test) + " "


def _policy(title: str, order: str, update: UpdateConfig) -> Iterator[str]:
    yield title
    yield f" Parallelism:\t{update.parallelism}"
    if update.delay:
        yield f" Delay:\t\t{go_duration(update.delay)}"
    yield f" On failure:\t{update.failure_action.value}"
    if update.monitor:
        yield f" Monitoring Period: {go_duration(update.monitor)}"
    yield f" Max failure ratio: {update.max_failure_ratio:g}"
    yield f" {order}{update.order.value}"


def _resources(title: str, resources: Resources) -> Iterator[str]:
    if resources.nano_cpus or resources.memory_bytes or resources.pids:
        yield title
        if resources.nano_cpus:
            yield f"  CPU:\t\t{resources.nano_cpus / 1_000_000_000:g}"
        if resources.memory_bytes:
            yield f"  Memory:\t{bytes_size(resources.memory_bytes)}"
        if resources.pids:
            yield f"  PIDs:\t\t{resources.pids}"


def go_duration(seconds: float) -> str:
    """`1h2m3.5s`, `1m30s`, `250ms`, `0s`, as Go prints a duration."""
    nano = round(seconds * 1_000_000_000)
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nano and nano < min(size * 1000, 1_000_000_000):
            return f"{sign}{_decimal(nano, size)}{unit}"
    minutes, rest = divmod(nano, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    return sign + (f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text)


def _decimal(number: int, unit: int) -> str:
    whole, part = divmod(number, unit)
    return f"{whole}.{part:0{len(str(unit)) - 1}d}".rstrip("0").rstrip(".") if part else str(whole)
