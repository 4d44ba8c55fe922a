"""Stacks: services and networks that carry one name, made from a Compose file, changed and removed together.

Knows what `docker stack` calls things, which labels it writes, in which order it asks (docker/cli cli/compose/convert, cli/command/stack); not what
may stand in a Compose file (vxtool.swarm.compose). What is done is said to who calls, line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vxtool.errors import UsageError
from vxtool.model import EndpointMode, PublishMode, ServiceMode, TaskState
from vxtool.swarm import parsing
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.compose import Compose
from vxtool.swarm.objects import (
    Dns,
    EndpointSpec,
    FailureAction,
    HealthCheck,
    Network,
    NetworkSpec,
    Order,
    Placement,
    PortConfig,
    Resources,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceSpec,
    SubnetSpec,
    Task,
    TaskNetwork,
    TaskSpec,
    UpdateConfig,
)
from vxtool.swarm.view import View

__all__ = ["IMAGE", "NAMESPACE", "Stack", "check_name", "deploy", "networks_of", "remove", "services_of", "stack", "stacks", "tasks_of"]

NAMESPACE = "com.docker.stack.namespace"
IMAGE = "com.docker.stack.image"

DEFAULT = "default"
"""The network of a service that names none."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """What is to be there, by full name, in the order in which it is made."""

    name: str
    networks: tuple[NetworkSpec, ...] = ()
    external: tuple[str, ...] = ()  # networks that must be there already
    services: tuple[ServiceSpec, ...] = ()


def check_name(name: str) -> str:
    if not name.strip(" \t\r\n\"'"):
        raise UsageError(f'invalid stack name: "{name}"')
    return name


# --------------------------------------------------------------------------------------------------------------------
# From a Compose file
# --------------------------------------------------------------------------------------------------------------------


def stack(compose: Compose, name: str) -> Stack:
    check_name(name)
    used = sorted({network for service in compose.services.values() for network in service.get("networks") or (DEFAULT,)})
    services = []
    for own, service in sorted(compose.services.items()):
        try:
            services.append(_service(compose, name, own, service))
        except UsageError as error:
            raise UsageError(f"service {own}: {error}") from None
    known = {network: compose.networks.get(network, {}) for network in used}
    return Stack(
        name,
        tuple(_network(name, own, network) for own, network in known.items() if not network.get("external")),
        tuple(network["name"] for network in known.values() if network.get("external")),
        tuple(services),
    )


def _scoped(stack: str, name: str) -> str:
    return f"{stack}_{name}"


def _network(stack: str, own: str, network: Mapping[str, Any]) -> NetworkSpec:
    return NetworkSpec(
        network.get("name") or _scoped(stack, own),
        subnets=tuple(SubnetSpec(config.get("subnet", "")) for config in network.get("ipam", {}).get("config", ())),
        internal=network.get("internal", False),
        attachable=network.get("attachable", False),
        options=network.get("driver_opts", {}),
        labels={**network.get("labels", {}), NAMESPACE: stack},
    )


def _service(compose: Compose, stack: str, own: str, service: Mapping[str, Any]) -> ServiceSpec:
    deploy = service.get("deploy", {})
    image = service.get("image", "")
    if not image:
        raise UsageError("invalid image reference: no image specified")
    try:
        reference = parsing.image(image)
    except UsageError:
        raise UsageError(f"invalid image reference: invalid reference format: {image[:100]}") from None
    mode, replicas, concurrent = _mode(deploy)
    return ServiceSpec(
        _scoped(stack, own),
        _task(compose, stack, own, service, deploy, reference),
        mode,
        replicas,
        concurrent,
        {**deploy.get("labels", {}), NAMESPACE: stack, IMAGE: image},
        _update(deploy.get("update_config")),
        _update(deploy.get("rollback_config")),
        EndpointSpec(
            EndpointMode(deploy.get("endpoint_mode", "vip")),
            tuple(sorted(map(_port, service.get("ports", ())), key=lambda port: (port.published, port.target, port.protocol, port.mode))),
        ),
    )


def _mode(deploy: Mapping[str, Any]) -> tuple[ServiceMode, int, int]:
    """Mode, replicas, and how many of a job at a time: all of them, as Docker has it."""
    mode = ServiceMode(deploy.get("mode", "replicated"))
    if mode in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB) and "replicas" in deploy:
        raise UsageError("replicas can only be used with replicated or replicated-job mode")
    replicas = deploy.get("replicas", 1)
    return mode, replicas, replicas if mode is ServiceMode.REPLICATED_JOB else 0


def _port(port: Mapping[str, Any]) -> PortConfig:
    return PortConfig(port["target"], port.get("published", 0), port["protocol"], PublishMode(port["mode"]))


def _task(compose: Compose, stack: str, own: str, service: Mapping[str, Any], deploy: Mapping[str, Any], image: str) -> TaskSpec:
    resources = deploy.get("resources", {})
    placement = deploy.get("placement", {})
    return TaskSpec(
        image=image,
        command=tuple(service.get("entrypoint", ())),
        args=tuple(service.get("command", ())),
        env=tuple(sorted(name if value is None else f"{name}={value}" for name, value in service.get("environment", {}).items())),
        labels={**service.get("labels", {}), NAMESPACE: stack},
        hostname=service.get("hostname", ""),
        workdir=service.get("working_dir", ""),
        user=service.get("user", ""),
        hosts=tuple(service.get("extra_hosts", ())),
        dns=Dns(tuple(service.get("dns", ())), tuple(service.get("dns_search", ()))),
        health=_health(service.get("healthcheck")),
        stop_signal=service.get("stop_signal", ""),
        reservations=_resources(resources.get("reservations", {})),
        limits=_resources(resources.get("limits", {})),
        restart=_restart(deploy.get("restart_policy", {})),
        placement=Placement(
            tuple(placement.get("constraints", ())),
            tuple(preference.get("spread", "") for preference in placement.get("preferences", ())),
            placement.get("max_replicas_per_node", 0),
        ),
        networks=_networks(compose, stack, own, service.get("networks") or {DEFAULT: {}}),
        stop_grace=float(service.get("stop_grace_period", TaskSpec().stop_grace)),
    )


def _networks(compose: Compose, stack: str, own: str, networks: Mapping[str, Mapping[str, Any]]) -> tuple[TaskNetwork, ...]:
    """By full name; in each the service answers to its own name, too."""
    wanted = []
    for name, asked in networks.items():
        if name not in compose.networks and name != DEFAULT:
            raise UsageError(f'undefined network "{name}"')
        target = compose.networks.get(name, {}).get("name") or _scoped(stack, name)
        if target in ("host", "bridge", "none"):
            raise UsageError(f'network "{target}" is of one node; in the lab services have overlay networks only')
        wanted.append(TaskNetwork(target, (*asked.get("aliases", ()), own)))
    return tuple(sorted(wanted, key=lambda network: network.network))


def _health(check: Mapping[str, Any] | None) -> HealthCheck | None:
    if check is None:
        return None
    if check.get("disable"):
        if check.get("test"):
            raise UsageError("test and disable can't be set at the same time")
        return HealthCheck(("NONE",))
    usual = HealthCheck()
    return HealthCheck(
        tuple(check.get("test", ())),
        float(check.get("interval") or usual.interval),  # 0 is what the engine calls "not said"
        float(check.get("timeout") or usual.timeout),
        float(check.get("start_period", usual.start_period)),
        check.get("retries") or usual.retries,
    )


def _resources(asked: Mapping[str, Any]) -> Resources:
    generic = [one["discrete_resource_spec"] for one in asked.get("generic_resources", ()) if "discrete_resource_spec" in one]
    return Resources(
        parsing.cpus(asked["cpus"]) if asked.get("cpus") else 0,
        int(asked.get("memory", 0)),
        {one.get("kind", ""): one.get("value", 0) for one in generic},
        asked.get("pids", 0),
    )


def _restart(policy: Mapping[str, Any]) -> RestartPolicy:
    usual = RestartPolicy()
    return RestartPolicy(
        RestartCondition(policy.get("condition", usual.condition)),
        float(policy.get("delay", usual.delay)),
        policy.get("max_attempts", usual.max_attempts),
        float(policy.get("window", usual.window)),
    )


def _update(config: Mapping[str, Any] | None) -> UpdateConfig:
    usual, config = UpdateConfig(), config or {}
    return UpdateConfig(
        config.get("parallelism", usual.parallelism),
        float(config.get("delay", usual.delay)),
        FailureAction(config.get("failure_action", usual.failure_action)),
        float(config.get("monitor") or usual.monitor),
        config.get("max_failure_ratio", usual.max_failure_ratio),
        Order(config.get("order", usual.order)),
    )


# --------------------------------------------------------------------------------------------------------------------
# What there is
# --------------------------------------------------------------------------------------------------------------------


def stacks(view: View) -> list[tuple[str, int]]:
    """(name, how many services)."""
    counts: dict[str, int] = {}
    for service in view.services.values():
        if name := service.spec.labels.get(NAMESPACE):
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts.items())


def services_of(view: View, name: str) -> list[Service]:
    there = [service for service in view.services.values() if service.spec.labels.get(NAMESPACE) == name]
    return sorted(there, key=lambda service: service.spec.name)


def networks_of(view: View, name: str) -> list[Network]:
    there = [network for network in view.networks.values() if network.spec.labels.get(NAMESPACE) == name]
    return sorted(there, key=lambda network: network.spec.name)


def tasks_of(view: View, name: str) -> list[Task]:
    """Also those of a service that is gone, as long as they are known."""
    return [task for task in view.tasks.values() if task.service and task.spec.labels.get(NAMESPACE) == name]


# --------------------------------------------------------------------------------------------------------------------
# Doing
# --------------------------------------------------------------------------------------------------------------------


def deploy(client: SwarmClient, wanted: Stack, say: Say, *, prune: bool = False) -> list[str]:
    """Makes what lacks, updates what is there. The ids of the services, in their order. UsageError names what could not be done."""
    view = client.view()
    for name in wanted.external:
        if not any(network.spec.name == name for network in view.networks.values()):
            raise UsageError(
                f'network "{name}" is declared as external, but could not be found.'
                " You need to create a swarm-scoped network before the stack is deployed"
            )
    there = {service.spec.name: service for service in services_of(view, wanted.name)}
    if prune:
        names = {spec.name for spec in wanted.services}
        _remove_services(client, [service for name, service in there.items() if name not in names], say, say)
    networks = {network.spec.name for network in networks_of(view, wanted.name)}
    for network in wanted.networks:
        if network.name not in networks:
            say(f"Creating network {network.name}")
            _named(f"failed to create network {network.name}", lambda network=network: client.create_network(network))  # type: ignore[misc]
    ids = []
    for spec in wanted.services:
        service = there.get(spec.name)
        if service is None:
            say(f"Creating service {spec.name}")
            made = _named(f"failed to create service {spec.name}", lambda spec=spec: client.create_service(spec))  # type: ignore[misc]
            ids.append(made.id)
        else:
            say(f"Updating service {spec.name} (id: {service.id})")
            ids.append(service.id)
            _named(f"failed to update service {spec.name}", lambda service=service, spec=spec: client.update_service(service, _over(service, spec)))  # type: ignore[misc]
    return ids


def _over(service: Service, spec: ServiceSpec) -> ServiceSpec:
    """The tasks are not made anew for nothing: what only `service update --force` counts stays."""
    return replace(spec, task=replace(spec.task, force_update=service.spec.task.force_update))


def _named(what: str, do: Callable[[], Any]) -> Any:
    try:
        return do()
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None


def remove(client: SwarmClient, name: str, say: Say, complain: Say, *, wait: bool = False) -> bool:
    """Services, then networks. False when something of it is left. `wait`: until the tasks have ended, before the networks."""
    view = client.view()
    services, networks = services_of(view, name), networks_of(view, name)
    if not services and not networks:
        complain(f"Nothing found in stack: {name}")
        return True
    done = _remove_services(client, services, say, complain)
    if wait and done:
        view = client.view()
        while any(task.state <= TaskState.RUNNING for task in tasks_of(view, name)):
            view = client.wait(1.0)
    for network in networks:
        say(f"Removing network {network.spec.name}")
        done = _remove_network(client, network, complain) and done
    if not done:
        complain(f"Failed to remove some resources from stack: {name}")
    return done


def _remove_services(client: SwarmClient, services: Iterable[Service], say: Say, complain: Say) -> bool:
    done = True
    for service in sorted(services, key=lambda service: service.spec.name):
        say(f"Removing service {service.spec.name}")
        try:
            client.remove_service(service.id)
        except UsageError as error:
            complain(f"Failed to remove service {service.id}: {error}")
            done = False
    return done


def _remove_network(client: SwarmClient, network: Network, complain: Say) -> bool:
    try:
        client.remove_network(network.id)
    except UsageError as error:
        complain(f"Failed to remove network {network.id}: {error}")
        return False
    return True
