"""Compose files: what one says in the swarm, what is refused and where, and what a hostile one cannot do."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.swarm.local import LocalSwarm
from vxtool.errors import UsageError
from vxtool.model import EndpointMode, PublishMode, ServiceMode, TaskState
from vxtool.swarm.compose import Compose, load
from vxtool.swarm.objects import (
    Dns,
    FailureAction,
    HealthCheck,
    NetworkSpec,
    Order,
    Placement,
    PortConfig,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    SubnetSpec,
    TaskNetwork,
    UpdateConfig,
)
from vxtool.swarm.stack import Stack, deploy, remove, services_of, stack, stacks, tasks_of


def _loaded(*texts: str, **environment: str) -> Compose:
    return load([(f"{'ab'[number]}.yaml", text) for number, text in enumerate(texts)], environment)


def _service(keys: str, more: str = "", **environment: str) -> ServiceSpec:
    """The service `web` of the stack `demo` with these keys, in flow style."""
    (service,) = stack(_loaded(f"services: {{web: {{image: httpd, {keys}}}}}\n{more}", **environment), "demo").services
    return service


FULL = """
version: "3.8"
x-policy: &policy {condition: on-failure, delay: 2s, max_attempts: 3, window: 1m30s}
services:
  web:
    image: httpd
    entrypoint: /bin/httpd -f
    command: ["-p", "80"]
    environment: {COLOUR: blue, LEVEL: 3, HOME: null}
    hostname: "{{.Node.Hostname}}"
    user: "1000"
    working_dir: /srv
    labels: [kind=container]
    stop_grace_period: 1m
    stop_signal: SIGINT
    dns: 192.0.2.53
    dns_search: [example.net]
    extra_hosts: ["db:10.0.0.9"]
    networks: {front: {aliases: [www]}, back: null}
    ports: ["8080:80", {target: 53, published: 53, protocol: udp, mode: host}]
    healthcheck: {test: "true", interval: 5s, timeout: 2s, retries: 4, start_period: 1s}
    deploy:
      replicas: 3
      endpoint_mode: vip
      labels: {kind: service}
      update_config: {parallelism: 2, delay: 10s, failure_action: rollback, monitor: 20s, max_failure_ratio: 0.3, order: start-first}
      rollback_config: {parallelism: 0}
      resources:
        limits: {cpus: "0.5", memory: 64M, pids: 10}
        reservations: {cpus: "0.25", memory: 32M, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}
      restart_policy: *policy
      placement: {constraints: [node.role == worker], preferences: [{spread: node.labels.az}], max_replicas_per_node: 2}
networks:
  front: {attachable: true, driver_opts: {encrypted: ""}, ipam: {config: [{subnet: 10.9.0.0/24}]}, labels: {a: b}}
  back: {internal: true, name: shared_back}
"""


def test_every_key_of_a_service_says_in_the_swarm_what_it_says_in_docker() -> None:
    made = stack(_loaded(FULL), "demo")
    (web,) = made.services
    task = web.task
    assert (web.name, web.mode, web.replicas) == ("demo_web", ServiceMode.REPLICATED, 3)
    assert web.labels == {"kind": "service", "com.docker.stack.namespace": "demo", "com.docker.stack.image": "httpd"}
    assert web.update == UpdateConfig(2, 10.0, FailureAction.ROLLBACK, 20.0, 0.3, Order.START_FIRST)
    assert web.rollback == UpdateConfig(0)
    assert web.endpoint.mode is EndpointMode.VIP
    assert web.endpoint.ports == (PortConfig(53, 53, "udp", PublishMode.HOST), PortConfig(80, 8080))
    assert (task.image, task.command, task.args) == ("httpd:latest", ("/bin/httpd", "-f"), ("-p", "80"))
    assert task.env == ("COLOUR=blue", "HOME", "LEVEL=3")
    assert task.labels == {"kind": "container", "com.docker.stack.namespace": "demo"}
    assert (task.hostname, task.user, task.workdir) == ("{{.Node.Hostname}}", "1000", "/srv")
    assert (task.stop_grace, task.stop_signal, task.hosts) == (60.0, "SIGINT", ("db:10.0.0.9",))
    assert task.dns == Dns(("192.0.2.53",), ("example.net",))
    assert task.health == HealthCheck(("CMD-SHELL", "true"), 5.0, 2.0, 1.0, 4)
    assert task.limits == Resources(500_000_000, 64 << 20, pids=10)
    assert task.reservations == Resources(250_000_000, 32 << 20, {"gpu": 2})
    assert task.restart == RestartPolicy(RestartCondition.ON_FAILURE, 2.0, 3, 90.0)
    assert task.placement == Placement(("node.role == worker",), ("node.labels.az",), 2)
    assert task.networks == (TaskNetwork("demo_front", ("www", "web")), TaskNetwork("shared_back", ("web",)))
    assert made.networks == (
        NetworkSpec("shared_back", internal=True, labels={"com.docker.stack.namespace": "demo"}),
        NetworkSpec(
            "demo_front",
            subnets=(SubnetSpec("10.9.0.0/24"),),
            attachable=True,
            options={"encrypted": ""},
            labels={"a": "b", "com.docker.stack.namespace": "demo"},
        ),
    )


def test_a_service_that_names_no_network_is_in_the_default_one_of_its_stack() -> None:
    made = stack(_loaded("services: {web: {image: httpd}}\nnetworks: {unused: {}}"), "demo")
    assert [network.name for network in made.networks] == ["demo_default"]
    assert made.services[0].task.networks == (TaskNetwork("demo_default", ("web",)),)


@pytest.mark.parametrize(
    ("external", "name"), [("external: true", "web"), ("external: true, name: other", "other"), ("external: {name: other}", "other")], ids=str
)
def test_an_external_network_keeps_its_name_and_is_not_made(external: str, name: str) -> None:
    made = stack(_loaded(f"services: {{a: {{image: httpd, networks: [web]}}}}\nnetworks: {{web: {{{external}}}}}"), "demo")
    assert (made.networks, made.external) == ((), (name,))
    assert made.services[0].task.networks == (TaskNetwork(name, ("a",)),)


SAID = {
    "deploy: {mode: global}": ("mode", ServiceMode.GLOBAL),
    "deploy: {mode: replicated-job, replicas: 4}": ("max_concurrent", 4),
    "deploy: null": ("replicas", 1),
    "deploy: {replicas: 0}": ("replicas", 0),
    "deploy: {endpoint_mode: dnsrr}": ("endpoint.mode", EndpointMode.DNSRR),
    "ports: ['3000-3001:80-81']": ("endpoint.ports", (PortConfig(80, 3000), PortConfig(81, 3001))),
    "ports: [80]": ("endpoint.ports", (PortConfig(80),)),
    "ports: [{target: 80}]": ("endpoint.ports", (PortConfig(80),)),
    "ports: ['127.0.0.1:8080:80']": ("endpoint.ports", (PortConfig(80, 8080),)),
    "ports: [22:22]": ("endpoint.ports", (PortConfig(22, 22),)),  # no number in base 60
    "command: 'a \"b c\" $$HOME'": ("task.args", ("a", "b c", "$HOME")),
    "command: []": ("task.args", ()),
    "environment: [A=1, B=, C]": ("task.env", ("A=1", "B=", "C")),
    "environment: {A: 1.0, B: yes, C: 0x10, D: '${NONE}'}": ("task.env", ("A=1", "B=yes", "C=16", "D=")),
    "healthcheck: {disable: true}": ("task.health", HealthCheck(("NONE",))),
    "healthcheck: {test: [CMD, 'true'], interval: 0s}": ("task.health", HealthCheck(("CMD", "true"))),
    "extra_hosts: {db: 10.0.0.9, cache: 10.0.0.8}": ("task.hosts", ("cache:10.0.0.8", "db:10.0.0.9")),
    "dns: [192.0.2.1, 192.0.2.2]": ("task.dns.nameservers", ("192.0.2.1", "192.0.2.2")),
    "x-mine: [1, 2]": ("replicas", 1),
}


@pytest.mark.parametrize("keys", SAID)
def test_what_a_key_says(keys: str) -> None:
    field, value = SAID[keys]
    seen: Any = _service(keys)
    for step in field.split("."):
        seen = getattr(seen, step)
    assert seen == value


VARIABLES = {
    "$NAME": "blue",
    "${NAME}": "blue",
    "${NAME}-${NAME}": "blue-blue",
    "a$$b": "a$b",
    "$${NAME}": "${NAME}",
    "${NONE}": "",
    "${NONE:-red}": "red",
    "${EMPTY:-red}": "red",
    "${EMPTY-red}": "",
    "${NONE-red-green}": "red-green",
    "${NAME:?is wanted}": "blue",
    "${EMPTY?may be-empty}": "",
    "{NAME}": "{NAME}",
}


@pytest.mark.parametrize("text", VARIABLES)
def test_variables_are_put_in(text: str) -> None:
    assert _service(f"hostname: 'h{text}'", NAME="blue", EMPTY="").task.hostname == f"h{VARIABLES[text]}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("${NONE?is wanted}", "required variable NONE is missing a value: is wanted"),
        ("${EMPTY:?is wanted}", "required variable EMPTY is missing a value: is wanted"),
        ("${NAME", "${NAME"),
        ("$", "$"),
        ("${}", "${}"),
        ("${1}", "${1}"),
    ],
)
def test_a_variable_that_cannot_be_put_in_is_refused_with_its_place(text: str, shown: str) -> None:
    with pytest.raises(UsageError) as told:
        _service(f"hostname: '{text}'", EMPTY="")
    said = "invalid interpolation format for services.web.hostname: "
    assert str(told.value) == f'a.yaml, line 1: {said}"{shown}"; you may need to escape any $ with another $'


def test_a_variable_may_stand_for_a_number_or_a_truth_where_one_is_wanted() -> None:
    made = stack(
        _loaded(
            "services: {web: {image: httpd, deploy: {replicas: '${N}'}, ports: [{target: '${P}'}]}}\nnetworks: {default: {attachable: '${YES}'}}",
            N="4",
            P="80",
            YES="on",
        ),
        "demo",
    )
    assert (made.services[0].replicas, made.services[0].endpoint.ports, made.networks[0].attachable) == (4, (PortConfig(80),), True)


WRONG = {
    "services: {web: {image: httpd, foo: 1}}": "services.web Additional property foo is not allowed",
    "services: {web: {image: httpd, deploy: {mode: global, foo: 1}}}": "services.web.deploy Additional property foo is not allowed",
    "services: {web: {image: httpd, deploy: {x-foo: 1}}}": "services.web.deploy Additional property x-foo is not allowed",
    "foo: 1": "(root) Additional property foo is not allowed",
    "networks: {web: {foo: 1}}": "networks.web Additional property foo is not allowed",
    "services: {web: {image: 3}}": "services.web.image must be a string",
    "services: [web]": "services must be a mapping",
    "services: {web: httpd}": "services.web must be a mapping",
    "services: {web: {image: httpd, ports: '80'}}": "services.web.ports must be a list",
    "services: {web: {image: httpd, ports: [1.5]}}": "services.web.ports.0 must be a number, string or mapping",
    "services: {web: {image: httpd, ports: [a]}}": "services.web.ports.0 is wrong: invalid containerPort: a",
    "services: {web: {image: httpd, ports: [80, 80]}}": "services.web.ports.1 array items[0,1] must be unique",
    "services: {web: {image: httpd, ports: [{published: 80}]}}": "services.web.ports.0 lacks target, the port in the container",
    "services: {web: {image: httpd, ports: [{target: 99999}]}}": "services.web.ports.0.target is 99999: a number from 0 to 65535 is wanted",
    "services: {web: {image: httpd, environment: {A: true}}}": "services.web.environment.A must be a string, number or null",
    "services: {web: {image: httpd, environment: a}}": "services.web.environment must be a mapping or list",
    "services: {web: {image: httpd, deploy: {replicas: '3'}}}": "services.web.deploy.replicas must be a integer",
    "services: {web: {image: httpd, deploy: {replicas: 1e99}}}": "services.web.deploy.replicas must be a integer",
    "services: {web: {image: httpd, deploy: {replicas: -1}}}": "services.web.deploy.replicas is -1: it cannot be negative",
    "services: {web: {image: httpd, deploy: {replicas: '${X:-a}'}}}": (
        'services.web.deploy.replicas failed to cast to expected type: strconv.ParseInt: parsing "a": invalid syntax'
    ),
    "services: {web: {image: httpd, deploy: {mode: often}}}": (
        'services.web.deploy.mode must be one of the following: "replicated", "global", "replicated-job", "global-job"'
    ),
    "services: {web: {image: httpd, deploy: {update_config: {order: any}}}}": (
        'services.web.deploy.update_config.order must be one of the following: "start-first", "stop-first"'
    ),
    "services: {web: {image: httpd, deploy: {resources: {limits: {cpus: 0.5}}}}}": "services.web.deploy.resources.limits.cpus must be a string",
    "services: {web: {image: httpd, deploy: {resources: {limits: {memory: 5X}}}}}": (
        "services.web.deploy.resources.limits.memory is wrong: invalid suffix: 'X'"
    ),
    "services: {web: {image: httpd, deploy: {update_config: {max_failure_ratio: .nan}}}}": (
        "services.web.deploy.update_config.max_failure_ratio is no number to reckon with: nan"
    ),
    "services: {web: {image: httpd, stop_grace_period: 5}}": "services.web.stop_grace_period must be a string",
    "services: {web: {image: httpd, stop_grace_period: '5'}}": 'services.web.stop_grace_period is wrong: time: missing unit in duration "5"',
    "services: {web: {image: httpd, command: 'a \"b'}}": "services.web.command is wrong: EOF found when expecting closing quote",
    "services: {web: {image: httpd, dns: [a]}}": "services.web.dns.0 is wrong: IP address is not correctly formatted: a",
    "services: {web: {image: httpd, healthcheck: {test: [a]}}}": (
        'services.web.healthcheck.test begins with "a": the first item must be either NONE, CMD or CMD-SHELL'
    ),
    "services: {web: {image: httpd, volumes: [/a:/b]}}": (
        "services.web.volumes is given, but the lab has no volumes: its programs see the files of this machine"
    ),
    "secrets: {a: {file: b}}": "secrets is given, but the lab has no secrets: give them as environment variables",
    "configs: {a: {file: b}}": "configs is given, but the lab has no configs: give them as environment variables",
    "services: {web: {image: httpd, mem_limit: 1g}}": "services.web.mem_limit is an unsupported option. Set resource limits using deploy.resources",
    "services: {web: {image: httpd, extends: a}}": "services.web.extends is an unsupported option. Support for `extends` is not implemented yet.",
    "services: {web: {image: httpd, env_file: a}}": "services.web.env_file.0 names a file, but there are none to read here",
    "networks: {web: {driver: bridge}}": "networks.web.driver is bridge: the lab builds overlay networks, no others",
    "networks: {web: {external: {name: a}, name: b}}": ("network web: network.external.name and network.name conflict; only use network.name"),
    "networks: {'a b': {}}": "networks Additional property a b is not allowed (a name has letters, digits, and . _ -)",
    "version: '2.4'": "unsupported Compose file version: 2.4 (there are 3, 3.0 to 3.13)",
    "version: 3.8": "version must be a string",
    "version: [3]": "version must be a string",
    "- web": "top-level object must be a mapping",
    "": "top-level object must be a mapping",
    "1: 2": "non-string key at top level: 1",
    "services: {1: {image: a}}": "non-string key in services: 1",
    "services: {[a]: {image: a}}": "non-string key in services: a list",
    "x-a: 1\nx-a: 2": 'mapping key "x-a" already defined at line 3',
    "x-a: &a [*a]": "anchor 'a' value contains itself",
    "x-a: *b": "unknown anchor 'b' referenced",
    "x-a: {<<: 3}": "map merge requires map or sequence of maps as the value",
    "x-a: !!python/object/apply:os.system [ls]": "the tag tag:yaml.org,2002:python/object/apply:os.system means nothing in a Compose file",
    "x-a: 1\n---\nx-b: 2": "a second YAML document; one is wanted",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named_with_its_place_and_line(text: str) -> None:
    with pytest.raises(UsageError) as told:
        _loaded(f"\n\n{text}")
    place, _, said = str(told.value).partition(": ")
    assert said == WRONG[text]
    assert place == f"a.yaml, line {3 + text.count(chr(10)) if text else 1}"


CONTRADICTIONS = {
    "deploy: {mode: global, replicas: 3}": "replicas can only be used with replicated or replicated-job mode",
    "networks: [nowhere]": 'undefined network "nowhere"',
    "healthcheck: {test: a, disable: true}": "test and disable can't be set at the same time",
    "image: 'A B'": "invalid image reference: invalid reference format: A B",
    "image: ''": "invalid image reference: no image specified",
}


@pytest.mark.parametrize("keys", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused_with_the_service(keys: str) -> None:
    image = "" if keys.startswith("image") else "image: httpd, "
    with pytest.raises(UsageError) as told:
        stack(_loaded(f"services: {{web: {{{image}{keys}}}}}"), "demo")
    assert str(told.value) == f"service web: {CONTRADICTIONS[keys]}"


def test_what_is_passed_over_is_named() -> None:
    keys = "build: ., links: [db], container_name: a, expose: ['80'], depends_on: [db], init: true, healthcheck: {test: a, start_interval: 1s}"
    assert _loaded(f"services: {{web: {{image: httpd, {keys}, networks: {{default: {{ipv4_address: 10.0.0.5}}}}}}}}").warnings == [
        "Ignoring unsupported options: build, links",
        "Ignoring deprecated options:\n\ncontainer_name: Setting the container name is not supported.\n\n"
        "expose: Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
        "Ignoring options that the lab does not have: depends_on, healthcheck.start_interval, init, networks.default.ipv4_address",
    ]


def test_variables_of_files_come_first_and_those_without_a_value_are_the_caller_s() -> None:
    files = {"one.env": "# a comment\nA=file\nB=file\nC\nD\n", "two.env": "B=second\n"}
    text = "services: {web: {image: httpd, env_file: [one.env, two.env], environment: {A: stated, E: null, F: null}}}"
    made = load([("a.yaml", text)], {"C": "caller", "E": "caller"}, files.__getitem__)
    assert stack(made, "demo").services[0].task.env == ("A=stated", "B=second", "C=caller", "E=caller", "F")


# -- several files -----------------------------------------------------------------------------------------------------

MERGED = [
    ("image: httpd", "image: echo", "image: echo"),
    ("command: a b", "command: c", "command: [c]"),
    ("command: a b", "command: []", "command: [a, b]"),
    ("environment: [A=1, B=2]", "environment: {B: 3, C: 4}", "environment: {A: '1', B: '3', C: '4'}"),
    ("dns: 192.0.2.1", "dns: 192.0.2.2", "dns: [192.0.2.1, 192.0.2.2]"),
    ("healthcheck: {test: [CMD, a], retries: 2}", "healthcheck: {test: [CMD, b]}", "healthcheck: {test: [CMD, b], retries: 2}"),
    ("deploy: {replicas: 3, labels: {a: b}}", "deploy: {replicas: 0, labels: {c: d}}", "deploy: {replicas: 0, labels: {a: b, c: d}}"),
    (
        "deploy: {placement: {constraints: [a==b]}}",
        "deploy: {placement: {constraints: [c==d]}}",
        "deploy: {placement: {constraints: [a==b, c==d]}}",
    ),
    ("ports: ['81:81', '80:80']", "ports: ['80:80', '79:79']", "ports: ['79:79', '80:80', '81:81']"),
    ("networks: [a, b]", "networks: {b: {aliases: [x]}}", "networks: {a: {}, b: {aliases: [x]}}"),
    ("networks: {a: {aliases: [x, y]}}", "networks: {a: {aliases: [z]}}", "networks: {a: {aliases: [z]}}"),
]


@pytest.mark.parametrize(("base", "over", "both"), MERGED, ids=[over for _, over, _ in MERGED])
def test_a_later_file_is_laid_over_an_earlier_one(base: str, over: str, both: str) -> None:
    merged = _loaded(f"services: {{web: {{{base}}}}}", f"services: {{web: {{{over}}}}}")
    assert merged.services == _loaded(f"services: {{web: {{{both}}}}}").services


def test_files_of_two_versions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"b\.yaml, line 1: version mismatched between two composefiles : 3\.8 and 3\.7"):
        _loaded('version: "3.8"', 'version: "3.7"')


def test_the_merged_file_says_the_same_as_the_files_it_was_made_of() -> None:
    first = _loaded(FULL, 'version: "3.8"\nservices: {web: {deploy: {replicas: 5}}, db: {image: echo, environment: {A: $$B}}}')
    again = _loaded(yaml.safe_dump(first.document(), sort_keys=False))
    assert stack(again, "demo") == stack(first, "demo")
    assert "delay: 10s" in yaml.safe_dump(first.document())
    assert "window: 1m30s" in yaml.safe_dump(first.document())


# -- YAML --------------------------------------------------------------------------------------------------------------


def test_a_key_of_its_own_counts_more_than_a_merged_one_and_the_first_of_several_merged_ones_most() -> None:
    text = """
x-one: &one {image: one, user: one}
x-two: &two {image: two, user: two, hostname: two}
services:
  web:
    <<: [*one, *two]
    image: own
"""
    (web,) = stack(_loaded(text), "demo").services
    assert (web.task.image, web.task.user, web.task.hostname) == ("own:latest", "one", "two")


BOMBS = {
    "aliases of aliases": "x-a: &a [0,0,0,0,0,0,0,0,0,0]\n"
    + "".join(f"x-{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)),
    "merges of merges": "x-a: &a {k: [0,0,0,0,0,0,0,0,0,0]}\n"
    + "".join(
        f"x-{new}: &{new} {{<<: *{old}, {','.join(f'{new}{n}: *{old}' for n in range(9))}}}\n"
        for old, new in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "brackets": "[" * 100_000,
    "braces": "{a: " * 100_000,
    "a number of a million digits": f"services: {{w: {{image: a, deploy: {{replicas: {'9' * 1_000_000}}}}}}}",
    "a duration of a million digits": f"services: {{w: {{image: a, stop_grace_period: {'9' * 1_000_000}s}}}}",
    "half a pair": "x-a: \ud800",
    "a zero byte": "x-a: \0",
    "an escape that is none": 'x-a: "\\q"',
    "too much": f"x-a: [{'0,' * 200_000}]",
    "five megabytes": "#" * 5_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_hostile_file_is_refused_at_once(name: str) -> None:
    began = time.process_time()
    with pytest.raises(UsageError, match=r"^a\.yaml"):
        _loaded(BOMBS[name])
    assert time.process_time() - began < 4


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["1s", "80:80", "${A", "a=b", "64M", "*"])
_KEYS = st.sampled_from(
    (
        "services",
        "networks",
        "version",
        "web",
        "image",
        "command",
        "environment",
        "deploy",
        "ports",
        "healthcheck",
        "test",
        "labels",
        "replicas",
        "resources",
        "limits",
        "cpus",
        "memory",
        "placement",
        "constraints",
        "preferences",
        "update_config",
        "delay",
        "external",
        "name",
        "ipam",
        "config",
        "subnet",
        "target",
        "dns",
        "extra_hosts",
        "aliases",
    )
)
_TREES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=20)


@given(st.dictionaries(st.sampled_from(["services", "networks", "version", "x-a"]), _TREES | st.dictionaries(_KEYS, _TREES, max_size=3), max_size=3))
def test_whatever_a_file_says_it_is_understood_or_refused_in_a_sentence(tree: dict[str, Any]) -> None:
    with suppress(UsageError):
        stack(_loaded(yaml.safe_dump(tree)), "demo")


# -- in a swarm --------------------------------------------------------------------------------------------------------


def _deployed(swarm: LocalSwarm, wanted: Stack, **how: Any) -> list[str]:
    said: list[str] = []
    deploy(swarm.client, wanted, said.append, **how)
    swarm.run(3)
    return said


TWO = "services: {web: {image: httpd, deploy: {replicas: 2}}, db: {image: echo, networks: [back]}}\nnetworks: {back: {}}"


def test_a_stack_is_made_told_line_by_line_and_runs() -> None:
    swarm = LocalSwarm()
    assert _deployed(swarm, stack(_loaded(TWO), "demo")) == [
        "Creating network demo_back",
        "Creating network demo_default",
        "Creating service demo_db",
        "Creating service demo_web",
    ]
    view = swarm.client.view()
    assert stacks(view) == [("demo", 2)]
    assert {task.state for task in tasks_of(view, "demo")} == {TaskState.RUNNING}
    assert len(tasks_of(view, "demo")) == 3


def test_deploying_the_same_again_makes_no_task_anew() -> None:
    swarm = LocalSwarm()
    _deployed(swarm, stack(_loaded(TWO), "demo"))
    before = {task.id for task in tasks_of(swarm.client.view(), "demo")}
    ids = {service.spec.name: service.id for service in services_of(swarm.client.view(), "demo")}
    assert _deployed(swarm, stack(_loaded(TWO), "demo")) == [f"Updating service {name} (id: {ids[name]})" for name in ("demo_db", "demo_web")]
    assert {task.id for task in tasks_of(swarm.client.view(), "demo")} == before


def test_services_no_longer_named_go_only_when_pruned() -> None:
    swarm = LocalSwarm()
    _deployed(swarm, stack(_loaded(TWO), "demo"))
    less = stack(_loaded("services: {web: {image: httpd}}"), "demo")
    assert _deployed(swarm, less)[0].startswith("Updating service demo_web")
    assert [service.spec.name for service in services_of(swarm.client.view(), "demo")] == ["demo_db", "demo_web"]
    assert _deployed(swarm, less, prune=True)[0] == "Removing service demo_db"
    assert [service.spec.name for service in services_of(swarm.client.view(), "demo")] == ["demo_web"]


@pytest.mark.parametrize("wait", [False, True])
def test_removing_a_stack_leaves_nothing_of_it_and_all_of_the_others(wait: bool) -> None:
    swarm = LocalSwarm()
    _deployed(swarm, stack(_loaded(TWO), "demo"))
    _deployed(swarm, stack(_loaded(TWO), "other"))
    said: list[str] = []
    assert remove(swarm.client, "demo", said.append, said.append, wait=wait)
    assert said == ["Removing service demo_db", "Removing service demo_web", "Removing network demo_back", "Removing network demo_default"]
    swarm.run(20)
    view = swarm.client.view()
    assert stacks(view) == [("other", 2)]
    assert sorted(network.spec.name for network in view.networks.values()) == ["ingress", "other_back", "other_default"]
    assert not tasks_of(view, "demo")


def test_a_network_that_another_service_uses_stays_and_is_told() -> None:
    swarm = LocalSwarm()
    _deployed(swarm, stack(_loaded(TWO), "demo"))
    guest = "services: {a: {image: echo, networks: [n]}}\nnetworks: {n: {external: true, name: demo_back}}"
    _deployed(swarm, stack(_loaded(guest), "guest"))
    said: list[str] = []
    assert not remove(swarm.client, "demo", lambda _: None, said.append)
    assert "is in use by service" in said[0]
    assert said[-1] == "Failed to remove some resources from stack: demo"


def test_an_external_network_that_is_not_there_is_asked_for_before_anything_is_made() -> None:
    swarm = LocalSwarm()
    text = "services: {a: {image: echo, networks: [n, m]}}\nnetworks: {n: {external: true}, m: {}}"
    with pytest.raises(UsageError, match='network "n" is declared as external, but could not be found'):
        _deployed(swarm, stack(_loaded(text), "demo"))
    assert [network.spec.name for network in swarm.client.view().networks.values()] == ["ingress"]


def test_a_service_of_somebody_else_with_the_name_is_not_touched() -> None:
    swarm = LocalSwarm()
    swarm.client.create_service(ServiceSpec("demo_web", _service("").task.__class__(image="echo")))
    with pytest.raises(UsageError, match="failed to create service demo_web: name conflicts with an existing object"):
        _deployed(swarm, stack(_loaded("services: {web: {image: httpd}}"), "demo"))


@pytest.mark.parametrize("name", ["", " ", '"'])
def test_a_stack_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="invalid stack name"):
        stack(_loaded(TWO), name)
