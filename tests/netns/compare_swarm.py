"""A lab's swarm beside Docker's: the same commands given to both, what they answer and what becomes of it compared, the result as Markdown.

    python -m tests.netns.compare_swarm --write docs/compared-with-docker.md

Starts three real engines as one swarm on this machine (`host.sh up 3`, in namespaces of their own) and a lab of three nodes, walks through
swarm_steps.SEQUENCE on both at once, and takes everything down again. Needs root, dockerd 20.10 and the script host.sh (option --host); about six
minutes. Not one of the tests: CI has no engine.
"""

from __future__ import annotations

import argparse
import difflib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from tests.netns import swarm_steps
from tests.netns.swarm_steps import FILES, REASONS, SEQUENCE, Reason

NODES = ("sathish-vm1", "sathish-vm2", "sathish-vm3")
LAB = "compared"

QUIET = 1.5
"""Seconds without a change after which a service has come to rest; longer than any restart delay in the sequence."""

PATIENCE = 60.0

PROGRAM = (sys.executable, "-m", "vxtool")

VERSIONS = "Docker Engine {{.Server.Version}}, asked by its command line {{.Client.Version}}"

T = TypeVar("T")


# --------------------------------------------------------------------------------------------------------------------
# What is compared
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What a command has answered."""

    code: int
    out: str = ""
    err: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A task as it is at one moment. `addresses`: network -> address."""

    service: str
    slot: str
    node: str
    desired: str
    state: str
    message: str
    error: str
    addresses: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """`here`: in the lab; `there`: with Docker."""

    step: str
    place: str
    here: str
    there: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"`{self.step}` {self.place}: {_quoted(self.here)} here, {_quoted(self.there)} there"


@dataclass(slots=True)
class Findings:
    """What has been compared so far. `section`: of the sequence."""

    reasons: Sequence[Reason] = REASONS
    section: str = ""
    told: TextIO | None = None  # where differences without a reason are told at once
    same: Counter[str] = field(default_factory=Counter)
    differences: list[tuple[str, Difference]] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)

    def compare(self, step: str, place: str, here: object, there: object) -> None:
        """One field: of a table, a message, a document, or what became of a command."""
        if here == there:
            self.same[self.section] += 1
            return
        found = self._judged(Difference(step, place, str(here), str(there)))
        self.differences.append((self.section, found))
        if found.reason is None and self.told is not None:
            print(f"   {found}", file=self.told, flush=True)

    def _judged(self, found: Difference) -> Difference:
        fits = (reason.why for reason in self.reasons if reason.fits(found.step, found.place, found.here, found.there))
        return replace(found, reason=next(fits, None))

    def kept(self) -> dict[str, Any]:
        """As JSON; `again` makes the findings of it, with the reasons that there are then."""
        return {
            "steps": self.steps,
            "same": self.same,
            "differences": [[section, found.step, found.place, found.here, found.there] for section, found in self.differences],
        }

    @classmethod
    def again(cls, kept: Mapping[str, Any]) -> Findings:
        findings = cls(same=Counter(kept["same"]), steps=Counter(kept["steps"]))
        findings.differences = [(section, findings._judged(Difference(*texts))) for section, *texts in kept["differences"]]
        return findings

    def of(self, section: str, *, explained: bool) -> list[Difference]:
        return [found for where, found in self.differences if where == section and (found.reason is not None) is explained]

    @property
    def unexplained(self) -> list[Difference]:
        return [found for _, found in self.differences if found.reason is None]


def _quoted(text: str) -> str:
    return f"`{text}`" if text else "nothing"


# --------------------------------------------------------------------------------------------------------------------
# Reading what was told: what must differ is taken out, what is left is compared
# --------------------------------------------------------------------------------------------------------------------

_WORDS = (
    (re.compile(r"@sha256:[0-9a-f]{64}"), ""),
    (re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL), "<certificate>"),
    (re.compile(r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}"), "<token>"),
    (re.compile(r"SWMTKN-1-[0-9a-z-]+"), "<token>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( \+0000 UTC|Z)", re.IGNORECASE), "<time>"),
    (re.compile(r"\b(less than a second|about an? (minute|hour)|\d+ (second|minute|hour|day|week)s?) ago", re.IGNORECASE), "<ago>"),
    (re.compile(r"(?<!com\.)\b(docker|vxtool)\b"), "PROGRAM"),
)
"""What is of this run, and the name of the program: pattern -> what stands for it."""

_ID = re.compile(r"\b([0-9a-f]{64}|[0-9a-z]{25}|[0-9a-z]{12}|[0-9a-f]{10})\b")

_BEFORE_AN_ERROR = re.compile(r"^(Error: |Could not attach to network \S+: |rpc error: code = \w+ desc = |PROGRAM(?: [a-z-]+){0,2}: )+")
_NOT_AN_ERROR = re.compile(r"^(Usage:|Run 'PROGRAM|See 'PROGRAM|exit status \d+$|\s*$)")
_HINT = re.compile(r" \(see PROGRAM [a-z -]*--help\)$")
_PROGRESS = re.compile(r"^(overall progress: |\w+/\w+: |verify: Waiting |\w+: +$)")


@dataclass(frozen=True, slots=True)
class Reader:
    """`names`: what an id belongs to, `<service web>`."""

    names: Mapping[str, str]

    def plain(self, text: str) -> str:
        for pattern, word in _WORDS:
            text = pattern.sub(word, text)
        return _ID.sub(self._name, text)

    def _name(self, match: re.Match[str]) -> str:
        id = match[0]
        known = self.names.get(id) or next((name for whole, name in self.names.items() if whole.startswith(id)), "")
        return known or ("<id>" if any(character.isdigit() for character in id) else id)

    def lines(self, text: str) -> list[list[str]]:
        """Each line as the cells of a table: what stands apart by two blanks or more."""
        kept = [line.rstrip() for line in self.plain(text).splitlines()]
        return [re.split(r"\s{2,}|\t", line.strip()) for line in kept if line.strip() and not _PROGRESS.match(line)]

    def errors(self, text: str) -> list[str]:
        """Messages without what says who speaks."""
        lines = [_HINT.sub("", line.strip()) for line in self.plain(text).splitlines() if not _NOT_AN_ERROR.match(line)]
        return [_BEFORE_AN_ERROR.sub("", line.replace("Error response from daemon: ", "")) for line in lines]

    def document(self, text: str) -> dict[str, str] | None:
        """Path -> value of each field of JSON, in order, objects by the order of their keys as well; None for what is no JSON."""
        found: dict[str, str] = {}
        texts = [text] if text[:2] in ("[\n", "[]", "{\n") else text.splitlines()
        if not texts or not all(one.startswith(("{", "[")) for one in texts):
            return None
        try:
            for number, one in enumerate(texts):
                self._walk(json.loads(one), f"{number}" if len(texts) > 1 else "", found)
        except ValueError:
            return None
        return found

    def _walk(self, value: Any, path: str, found: dict[str, str]) -> None:
        if isinstance(value, dict):
            named = {self.plain(key): one for key, one in value.items()}
            if path.endswith(swarm_steps.BY_CHANCE):  # keys are ids of containers: what is in which is by chance
                named = {str(place): one for place, one in enumerate(sorted(value.values(), key=lambda one: self.plain(json.dumps(one))))}
            found[f"{path} keys"] = " ".join(named)
            for key, one in named.items():
                self._walk(one, f"{path}.{key}" if path else key, found)
        elif isinstance(value, list):
            found[f"{path} length"] = str(len(value))
            if path.endswith(swarm_steps.IN_ANY_ORDER):
                value = sorted(value, key=lambda one: self.plain(json.dumps(one)))
            for place, one in enumerate(value):
                self._walk(one, f"{path}[{place}]", found)
        else:
            found[path] = self.plain(value) if isinstance(value, str) else json.dumps(value)


def compare(findings: Findings, step: str, here: tuple[Told, Reader], there: tuple[Told, Reader]) -> None:
    """What both have answered to a step."""
    (mine, read_mine), (other, read_other) = here, there
    # 125 and 1 are Docker's own exit codes for what could not be done, 2 is vxtool's.
    findings.compare(step, "exit code", "fine" if mine.code == 0 else "fails", "fine" if other.code == 0 else "fails")
    for texts in _paired(read_mine.errors(mine.err), read_other.errors(other.err)):
        findings.compare(step, "message", *texts)
    documents = read_mine.document(mine.out), read_other.document(other.out)
    if documents[0] is not None and documents[1] is not None:
        for path in dict.fromkeys([*documents[0], *documents[1]]):
            if not swarm_steps.UNCOMPARED.search(path):
                findings.compare(step, path, documents[0].get(path, ""), documents[1].get(path, ""))
        return
    left_to_chance = step.startswith(swarm_steps.PLACED_BY_CHANCE)
    tables = [
        [tuple("<node>" if left_to_chance and cell in NODES else cell for cell in line) for line in lines]
        for lines in (read_mine.lines(mine.out), read_other.lines(other.out))
    ]
    if step.startswith(swarm_steps.SORTED) or any(re.search(r"\.<node ", cell) for line in tables[1] for cell in line):
        tables = [sorted(lines) for lines in tables]  # tasks of a global service stand in the order of their nodes' ids
    for line, other_line in _paired(*tables):
        if len(line) == len(other_line):
            for cell, other_cell in zip(line, other_line, strict=True):
                findings.compare(step, f"column {line[0]}" if len(line) == 1 else f"in the line of {other_line[0]}", cell, other_cell)
        else:
            findings.compare(step, "line", "   ".join(line), "   ".join(other_line))


def _paired(here: Sequence[T], there: Sequence[T]) -> Iterator[tuple[T, T]]:
    """Line with line; where one side has more, the other has an empty one."""
    if not here and not there:
        return
    empty = type((here or there)[0])()
    for _, a, b, c, d in difflib.SequenceMatcher(None, here, there, autojunk=False).get_opcodes():
        yield from zip_longest(here[a:b], there[c:d], fillvalue=empty)


def compare_tasks(findings: Findings, step: str, here: Sequence[Fact], there: Sequence[Fact], *, addressed: bool = True) -> None:
    """What has become of a service: the history of every slot, how many run on how many nodes, which addresses they have."""
    # Which slots are left when there are fewer, and which one fails first, is by chance: histories without their numbers.
    slots = [sorted(_by_slot(facts).values()) for facts in (here, there)]
    for mine, other in _paired(*slots):
        findings.compare(step, "history of a slot", mine, other)
    findings.compare(step, "tasks a node", _spread(here), _spread(there))
    addresses = [_addresses(facts) if addressed else {} for facts in (here, there)]
    for network in sorted({*addresses[0], *addresses[1]}):
        findings.compare(step, f"addresses in {network}", addresses[0].get(network, ""), addresses[1].get(network, ""))


def _by_slot(facts: Sequence[Fact]) -> dict[str, str]:
    """Of each slot what `service ps` would show, the newest first."""
    slots: dict[str, list[str]] = {}
    for fact in facts:
        slots.setdefault(fact.slot, []).append(f"{fact.desired}/{fact.state}" + (f' "{fact.error}"' if fact.error else ""))
    return {slot: ", ".join(chain) for slot, chain in slots.items()}


def _spread(facts: Sequence[Fact]) -> str:
    counts = Counter(fact.node for fact in facts if fact.desired == "running" and fact.node)
    return " ".join(map(str, sorted(counts.values())))


def _addresses(facts: Sequence[Fact]) -> dict[str, str]:
    """Which slot has which is by chance in Docker: a set."""
    found: dict[str, list[str]] = {}
    for fact in facts:
        if fact.desired == "running":
            for network, address in fact.addresses:
                found.setdefault(network, []).append(address)
    return {network: " ".join(sorted(texts, key=lambda text: tuple(map(int, re.findall(r"\d+", text))))) for network, texts in found.items()}


def compare_states(findings: Findings, here: Mapping[str, set[Fact]], there: Mapping[str, set[Fact]]) -> None:
    """What the tasks of each service have said in each state, whenever they were looked at; where both sides were seen in it."""
    for service in sorted(here.keys() & there.keys()):
        said = [_said(facts) for facts in (here[service], there[service])]
        for state in sorted(said[0].keys() & said[1].keys()):
            findings.compare(f"tasks of {service}", f"when {state}", "; ".join(sorted(said[0][state])), "; ".join(sorted(said[1][state])))


def _said(facts: set[Fact]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for fact in facts:
        found.setdefault(fact.state, set()).update(f"{kind} {text}" for kind, text in (("message", fact.message), ("error", fact.error)) if text)
    return found


# --------------------------------------------------------------------------------------------------------------------
# Both sides
# --------------------------------------------------------------------------------------------------------------------


class Side(Protocol):
    def run(self, words: Sequence[str], node: int, folder: Path) -> Told: ...

    def tasks(self) -> list[Fact]:
        """All there are, of each slot the newest first."""

    def names(self) -> dict[str, str]:
        """Ids that there are now -> what they belong to."""

    def fill(self, text: str) -> str:
        """A step's placeholders."""

    def down(self) -> set[str]:
        """Names of nodes that are."""

    def silence(self, node: int) -> None:
        """The node's engine, or agent, does nothing any more."""

    def wake(self, node: int) -> None: ...


class _Socket(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engines:
    """Docker Engines in one swarm, by host.sh."""

    def __init__(self, script: Path, client: str, folder: Path) -> None:
        self.script = script
        self.client = client
        self.folder = folder

    def host(self, *words: str) -> None:
        done = subprocess.run(
            [str(self.script), *words], capture_output=True, text=True, check=False, env=os.environ | {"REALSWARM_DIR": str(self.folder)}
        )
        if done.returncode:
            raise SystemExit(f"{self.script} {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")

    def run(self, words: Sequence[str], node: int, folder: Path) -> Told:
        return _run([self.client, "-H", f"unix://{self.folder}/h{node}/docker.sock", *words], folder)

    def ask(self, path: str) -> Any:
        connection = _Socket(f"{self.folder}/h1/docker.sock")
        try:
            connection.request("GET", f"/v1.41/{path}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer if isinstance(answer, list) else []  # a message: there is no swarm

    def tasks(self) -> list[Fact]:
        services = {one["ID"]: one["Spec"]["Name"] for one in self.ask("services")}
        nodes = {one["ID"]: one["Description"]["Hostname"] for one in self.ask("nodes")}
        found = []
        for one in sorted(self.ask("tasks"), key=lambda one: one["CreatedAt"], reverse=True):
            service = services.get(one.get("ServiceID", ""))
            if service is None:
                continue
            node = nodes.get(one.get("NodeID", ""), "")
            addresses = tuple(
                (attached["Network"]["Spec"]["Name"], address)
                for attached in one.get("NetworksAttachments") or ()
                for address in attached.get("Addresses") or ()
            )
            status = one["Status"]
            found.append(
                Fact(
                    service,
                    f"{service}.{one.get('Slot') or node}",
                    node,
                    one["DesiredState"],
                    status["State"],
                    status.get("Message", ""),
                    status.get("Err", ""),
                    addresses,
                )
            )
        return found

    def names(self) -> dict[str, str]:
        services = {one["ID"]: one["Spec"]["Name"] for one in self.ask("services")}
        found = {id: f"<service {name}>" for id, name in services.items()}
        found |= {one["ID"]: f"<node {one['Description']['Hostname']}>" for one in self.ask("nodes")}
        found |= {one["Id"]: f"<network {one['Name']}>" for one in self.ask("networks") if one["Scope"] == "swarm"}
        return found | {one["ID"]: f"<task of {services[one['ServiceID']]}>" for one in self.ask("tasks") if one.get("ServiceID") in services}

    def fill(self, text: str) -> str:
        return _filled(text, lambda *words: self.run(words, 1, Path("/")).out.strip())

    def down(self) -> set[str]:
        return {one["Description"]["Hostname"] for one in self.ask("nodes") if one["Status"]["State"] == "down"}

    def silence(self, node: int) -> None:
        # Stopped, not killed: what it has started could not be taken away without it. To the manager it is the same.
        os.kill(self._pid(node), signal.SIGSTOP)

    def wake(self, node: int) -> None:
        os.kill(self._pid(node), signal.SIGCONT)

    def _pid(self, node: int) -> int:
        return int((self.folder / "pids").read_text().split()[node - 1])


class Lab:
    """A lab of as many nodes, asked with `vxtool`."""

    def up(self) -> None:
        done = _run([*PROGRAM, "lab", "up", "--quiet", "--swarm", "--nodes", str(len(NODES)), "--name", LAB], Path("/"))
        if done.code:
            raise SystemExit(f"vxtool lab up: {done.err}")

    def end(self) -> None:
        _run([*PROGRAM, "lab", "down", LAB], Path("/"))

    def run(self, words: Sequence[str], node: int, folder: Path) -> Told:
        where = ["--node", NODES[node - 1]] if node > 1 or words[:2] == ["swarm", "leave"] else []
        verbs = 1 if words[0] == "run" else 2
        return _run([*PROGRAM, *words[:verbs], *where, *words[verbs:]], folder, VXTOOL_LAB=LAB)

    def view(self) -> Any:
        from vxtool.errors import VxtoolError
        from vxtool.lab import client, registry
        from vxtool.swarm.view import View

        try:
            return client.swarm(registry.find(LAB)).view()
        except VxtoolError:
            return View(version=-1)  # there is no swarm

    def tasks(self) -> list[Fact]:
        view = self.view()
        found = []
        for task in sorted(view.tasks.values(), key=lambda task: task.created_at, reverse=True):
            if task.service not in view.services:
                continue
            node = view.nodes.get(task.node)
            addresses = tuple(
                (view.networks[one.network].spec.name, str(one.address)) for one in task.networks if one.network in view.networks and one.address
            )
            found.append(
                Fact(
                    view.services[task.service].spec.name,
                    view.slot_name(task),
                    node.hostname if node is not None else "",
                    task.desired.name.lower(),
                    task.state.name.lower(),
                    task.message,
                    task.error,
                    addresses,
                )
            )
        return found

    def names(self) -> dict[str, str]:
        view = self.view()
        services = {one.id: one.spec.name for one in view.services.values()}
        found = {id: f"<service {name}>" for id, name in services.items()}
        found |= {one.id: f"<node {one.hostname}>" for one in view.nodes.values()}
        found |= {one.id: f"<network {one.spec.name}>" for one in view.networks.values()}
        return found | {one.id: f"<task of {services[one.service]}>" for one in view.tasks.values() if one.service in services}

    def fill(self, text: str) -> str:
        return _filled(text, lambda *words: self.run(words, 1, Path("/")).out.strip())

    def down(self) -> set[str]:
        return {one.hostname for one in self.view().nodes.values() if one.state.value == "down"}

    def silence(self, node: int) -> None:
        self.run(["lab", "agent", "kill", NODES[node - 1]], 1, Path("/"))

    def wake(self, node: int) -> None:
        self.run(["lab", "agent", "start", NODES[node - 1]], 1, Path("/"))


def _run(words: Sequence[str], folder: Path, **env: str) -> Told:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, cwd=folder, env=os.environ | env, stdin=subprocess.DEVNULL, timeout=120
        )
    except subprocess.TimeoutExpired as late:
        return Told(-1, str(late.stdout or ""), "no answer within two minutes")
    return Told(done.returncode, done.stdout, done.stderr)


def _filled(text: str, ask: Callable[..., str]) -> str:
    """`{token}`: a worker's; `{service:web}`: its id."""
    if "{token}" in text:
        text = text.replace("{token}", ask("swarm", "join-token", "-q", "worker"))
    return re.sub(
        r"\{(node|service|network):(\S+)\}",
        lambda match: ask(match[1], "inspect", "--format", "{{.Id}}" if match[1] == "network" else "{{.ID}}", match[2]),
        text,
    )


class Watcher:
    """Looks at the tasks again and again: what they said in states that are soon over."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._over = threading.Event()
        self.seen: dict[str, set[Fact]] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.03):
            with suppress(OSError, ValueError, KeyError, http.client.HTTPException):  # swarms come and go while we look
                for fact in self._side.tasks():
                    self.seen.setdefault(fact.service, set()).add(fact)

    def end(self) -> dict[str, set[Fact]]:
        self._over.set()
        self._thread.join()
        return self.seen


def settled(side: Side, service: str) -> list[Fact]:
    """The tasks of a service when nothing has changed for a while."""
    of = [fact for fact in side.tasks() if fact.service == service]
    end, since = time.monotonic() + PATIENCE, time.monotonic()
    while time.monotonic() < end:
        time.sleep(0.1)
        now = [fact for fact in side.tasks() if fact.service == service]
        moving = any(fact.state in swarm_steps.MOVING and not fact.error for fact in now if fact.desired in ("running", "complete"))
        # What is to end and has been on no node never runs: it stays as it is.
        moving = moving or any(
            fact.desired in ("shutdown", "remove") and fact.state in ("running", *swarm_steps.MOVING) and fact.node for fact in now
        )
        if now != of or moving:
            of, since = now, time.monotonic()
        elif time.monotonic() - since > QUIET:
            break
    return of


def endpoints(side: Side, network: str, folder: Path) -> str:
    """Addresses of a network's tasks and load balancers on all nodes: whose kind, not whose."""
    found = []
    for node in range(1, len(NODES) + 1):
        for document in json.loads(side.run(["network", "inspect", network], node, folder).out or "[]"):
            for key, one in (document["Containers"] or {}).items():
                kind = "balancer" if key.startswith(("lb-", "ingress-sbox")) else "task"
                found.append((tuple(map(int, re.findall(r"\d+", one["IPv4Address"]))), f"{kind} {one['IPv4Address']} {one['MacAddress']}"))
    return ", ".join(text for _, text in sorted(found))


# --------------------------------------------------------------------------------------------------------------------
# Walking through the sequence
# --------------------------------------------------------------------------------------------------------------------


def walk(lab: Side, engines: Side, folder: Path, only: Sequence[str] = ()) -> Findings:
    """`only`: sections by the beginning of their names."""
    findings = Findings(told=sys.stderr)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    names: tuple[dict[str, str], dict[str, str]] = ({}, {})
    watchers = [Watcher(side) for side in (lab, engines)]
    with ThreadPoolExecutor(2) as pool:

        def both(act: Callable[[Side], T]) -> tuple[T, T]:
            here, there = pool.map(act, (lab, engines))
            return here, there

        for section, steps in SEQUENCE:
            if only and not section.startswith(tuple(only)):
                continue
            findings.section = section
            print(f"-- {section}", file=sys.stderr)
            for step in steps.strip().splitlines():
                findings.steps[section] += 1
                for known, now in zip(names, both(lambda side: side.names()), strict=True):
                    known.update(now)
                one(findings, " ".join(step.split()), both, folder, names)
    findings.section = "what tasks said"
    compare_states(findings, *(watcher.end() for watcher in watchers))
    return findings


Both = Callable[[Callable[[Side], Any]], tuple[Any, Any]]


def one(findings: Findings, step: str, both: Both, folder: Path, names: tuple[dict[str, str], dict[str, str]]) -> None:
    """A step: a command, `settle SERVICE`, `addresses NETWORK`, or `sleep SECONDS`."""
    verb, _, rest = step.partition(" ")
    if verb == "sleep":
        return time.sleep(float(rest))
    if verb == "settle":
        service, _, anyhow = rest.partition(" ")
        return compare_tasks(findings, step, *both(lambda side: settled(side, service)), addressed=not anyhow)
    if verb == "addresses":
        return findings.compare(step, "endpoints of all nodes", *both(lambda side: endpoints(side, rest, folder)))
    where = re.match(r"on (\d): ", step)
    words = re.sub("^create ", f"{swarm_steps.CREATE} ", step[where.end() :] if where else step)
    node = int(where[1]) if where else 1
    told = both(lambda side: side.run(shlex.split(side.fill(words)), node, folder))
    for known, now in zip(names, both(lambda side: side.names()), strict=True):
        known.update(now)
    compare(findings, step, (told[0], Reader(names[0])), (told[1], Reader(names[1])))
    return None


# --------------------------------------------------------------------------------------------------------------------
# How long things take
# --------------------------------------------------------------------------------------------------------------------

TIMES = (
    "6 replicas on 3 nodes, from `service create -d` until all run",
    "from 6 to 30, from `service scale -d` until all run",
    "a node hears nothing any more: until it is down",
    "from then on until its 10 tasks run elsewhere (restart delay 5 s)",
)


def measured(side: Side, folder: Path) -> list[float]:
    """Seconds, as TIMES says. Leaves the swarm as it was, but for the service that is removed and still ends."""

    def until(what: Callable[[list[Fact]], object], seconds: float = 60.0) -> float:
        while not what([fact for fact in side.tasks() if fact.service == "timed"]):
            if time.monotonic() - began > seconds:
                return float("nan")
            time.sleep(0.02)
        return time.monotonic() - began

    def running(facts: list[Fact]) -> list[Fact]:
        return [fact for fact in facts if fact.state == fact.desired == "running"]

    create = "service create -d --no-resolve-image --stop-signal SIGKILL --name timed --replicas 6 httpd"
    began = time.monotonic()
    side.run(create.split(), 1, folder)
    times = [until(lambda facts: len(running(facts)) == 6)]
    began = time.monotonic()
    side.run(["service", "scale", "-d", "timed=30"], 1, folder)
    times.append(until(lambda facts: len(running(facts)) == 30))
    began = time.monotonic()
    side.silence(3)
    try:
        times.append(until(lambda _: "sathish-vm3" in side.down()))
        began = time.monotonic()
        times.append(until(lambda facts: len([fact for fact in running(facts) if fact.node != "sathish-vm3"]) == 30))
    finally:
        side.wake(3)
    side.run(["service", "rm", "timed"], 1, folder)
    began = time.monotonic()
    until(lambda _: not side.down())
    return times


# --------------------------------------------------------------------------------------------------------------------
# The page
# --------------------------------------------------------------------------------------------------------------------


def page(findings: Findings, versions: Sequence[str], times: Sequence[Sequence[float]] = ()) -> Iterator[str]:
    yield "# A lab's swarm, compared with Docker's"
    yield ""
    yield "Made by `python -m tests.netns.compare_swarm --write docs/compared-with-docker.md` (needs root and a dockerd). The same commands, after"
    yield "`docker` and after `vxtool`, were given to a swarm of three real engines and to a lab of three nodes on one machine. Compared were whether"
    yield "they succeed, every message, every cell of every table, every field and the order of the keys of every document, and what became of the"
    yield "services: the history of each slot, how many tasks a node has, which addresses there are. tests/netns/swarm_steps.py has the commands."
    yield ""
    yield "A reason is a sentence of that file with patterns that it fits, written by hand when the difference was first seen: it is a judgement, and"
    yield "where it says `by chance` nothing of that field is compared. What is by chance is another thing in every run."
    yield ""
    yield from (f"- {version}" for version in versions)
    yield ""
    yield "| section | steps | fields the same | differ with a reason | differ without one |"
    yield "| --- | --: | --: | --: | --: |"
    sections = list(dict.fromkeys([*findings.steps, *findings.same]))
    for section in sections:
        explained, not_explained = findings.of(section, explained=True), findings.of(section, explained=False)
        yield f"| {section} | {findings.steps[section] or ''} | {findings.same[section]:,} | {len(explained)} | {len(not_explained)} |"
    explained = [found for _, found in findings.differences if found.reason is not None]
    yield f"| all | {findings.steps.total()} | {findings.same.total():,} | {len(explained)} | {len(findings.unexplained)} |"
    yield ""
    yield "## Differences without a reason"
    yield ""
    yield from [f"- {_cell(str(found))}" for found in findings.unexplained] or ["None."]
    yield ""
    yield "## Differences with a reason"
    yield ""
    yield "| reason | differences | for example | lab | Docker |"
    yield "| --- | --: | --- | --- | --- |"
    for why, count in Counter(found.reason or "" for found in explained).most_common():
        example = next(found for found in explained if found.reason == why)
        yield f"| {_cell(why)} | {count} | {_cell(f'`{example.step}` {example.place}')} | {_shown(example.here)} | {_shown(example.there)} |"
    yield ""
    if times:
        yield "## Times"
        yield ""
        yield "Seconds, one run each, on the machine and at the time of the comparison: the states of tasks are asked every 20 ms."
        yield ""
        yield "| | lab | Docker |"
        yield "| --- | --: | --: |"
        yield from (f"| {what} | {here:.1f} | {there:.1f} |" for what, here, there in zip(TIMES, *times, strict=True))
        yield ""
    yield "## Not compared"
    yield ""
    yield from (f"- {what}" for what in swarm_steps.NOT_COMPARED)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _shown(text: str) -> str:
    short = text if len(text) <= 160 else text[:159] + "…"
    return _cell(_quoted(short))


# --------------------------------------------------------------------------------------------------------------------
# The command
# --------------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path(__file__).parents[3] / "shared/realswarm/host.sh", help="the script that starts engines")
    parser.add_argument("--docker", default="docker", help="the client")
    parser.add_argument("--write", type=Path, help="where the page goes; else it is printed")
    parser.add_argument("--only", action="append", default=[], metavar="SECTION", help="one section, by the beginning of its name")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where to keep what was found, as JSON")
    parser.add_argument("--again", type=Path, metavar="FILE", help="judge what was kept by the reasons that there are now, and run nothing")
    given = parser.parse_args()
    kept = json.loads(given.again.read_text()) if given.again else run(given.host, given.docker, given.only)
    if given.keep:
        given.keep.write_text(json.dumps(kept, indent=1))
    findings = Findings.again(kept)
    text = "".join(f"{line}\n" for line in page(findings, kept["versions"], kept["times"]))
    if given.write:
        given.write.write_text(text)
    else:
        print(text, end="")
    return 1 if findings.unexplained else 0


def run(script: Path, client: str, only: Sequence[str]) -> dict[str, Any]:
    """Both swarms from beginning to end: what was found, with the times and versions, as JSON."""
    if os.geteuid() != 0 or not script.exists():
        raise SystemExit(f"root is needed, and {script} (--host says where it is)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended
    with tempfile.TemporaryDirectory(prefix="compared") as name:
        folder = Path(name)
        engines, lab = Engines(script, client, folder / "engines"), Lab()
        lab.up()
        try:
            engines.host("up", str(len(NODES)))
            try:
                times = [] if only else [measured(side, folder) for side in (lab, engines)]
                findings = walk(lab, engines, folder, only)
                versions = engines.run(["version", "--format", VERSIONS], 1, folder).out.strip()
            finally:
                engines.host("down")
        finally:
            lab.end()
    machine = f"Linux {os.uname().release.partition('-')[0]}, {os.cpu_count()} processors, {time.strftime('%Y-%m-%d')}"
    return findings.kept() | {"times": times, "versions": [versions, machine]}


if __name__ == "__main__":
    sys.exit(main())
