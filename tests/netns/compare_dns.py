"""The embedded DNS of a lab beside that of a Docker Engine that runs now: the same session of dig in both, line by line, the result as Markdown.

    python -m tests.netns.compare_dns > docs/compared-with-docker-dns.md

Starts two real engines as one swarm on this machine (`host.sh up 2`) and a lab of two nodes, creates the same networks, services and containers in
both, and asks the same questions with the same dig, while everything runs, while a service stops, and after it. Needs root, dockerd 20.10, dig and
dnsmasq, and the script host.sh (option --host); two minutes. Not one of the tests: CI has no engine.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.netns.engines import HOST, Engines, engines
from tests.netns.swarms import Town, town
from vxtool.model import EndpointMode, TaskState
from vxtool.swarm.identities import container_id
from vxtool.swarm.objects import Dns, EndpointSpec, NetworkSpec, RestartCondition, RestartPolicy, ServiceSpec, TaskNetwork, TaskSpec

GATEWAY = "172.18.0.1"  # of docker_gwbridge, on every node: there a server outside listens, in the namespace of node 1
OUTSIDE = (
    "dnsmasq",
    "--keep-in-foreground",
    "--no-resolv",
    "--no-hosts",
    "--conf-file=/dev/null",
    "--pid-file=",
    "--user=root",
    f"--listen-address={GATEWAY}",
    "--bind-interfaces",
    "--local=/nxdomain.example/",
    "--address=/www.example.org/203.0.113.7",
    "--txt-record=text.example.org,hello",
    "--cname=alias.example.org,www.example.org",
    *(f"--host-record=many.example.org,203.0.113.{number}" for number in range(100, 180)),
)
SLOW = "trap 'sleep 8; exit 0' TERM; while :; do sleep 0.05; done"

# {task}: the name of the second task of web, {address} what it has, {short} its short id; {vip} web's.
STEADY = tuple(
    line.strip()
    for line in """
    web A
    web AAAA
    web MX
    web TXT
    web ANY
    web SRV
    WEB A
    wEb.WeB A
    web.web A
    web.WEB A
    web.back A
    tasks.web A
    tasks.web AAAA
    tasks.web.web A
    +tcp tasks.web A
    +tcp web A
    +noedns tasks.web A
    site A
    tasks.site A
    site.web A
    {task} A
    {task}.web A
    {task} AAAA
    {short} A
    {short}.web A
    web.2 A
    rr A
    tasks.rr A
    rr.web A
    +noedns big A
    big A
    +bufsize=512 tasks.big A
    +bufsize=1232 tasks.big A
    +noedns tasks.big A
    +noedns +ignore tasks.big A
    +tcp tasks.big A
    client A
    asker A
    me A
    -x {address}
    -x {vip}
    -x 10.0.1.1
    -x 127.0.0.1
    web PTR
    nosuch A
    nosuch.web A
    www.example.org A
    www.example.org AAAA
    +tcp www.example.org A
    alias.example.org A
    text.example.org TXT
    many.example.org A
    +noedns +ignore many.example.org A
    +tcp many.example.org A
    nothing.nxdomain.example A
    +norecurse web A
    +cdflag web A
    +dnssec web A
    +nsid web A
    -c CH version.bind TXT
    +opcode=status web A
    +opcode=notify web A
    . NS
    tasks. A
    web.web.web A
    """.strip().splitlines()
)
STOPPING = ("slow A", "tasks.slow A", "{slow} A", "{slow}.web A", "{slowshort} A", "-x {slowaddress}", "web A")
GONE = ("slow A", "tasks.slow A", "{slow} A", "-x {slowaddress}", "web A")
NDOTS = ("nosuch A", "nosuch AAAA", "nosuch TXT", "nosuch MX", "web A", "www.example.org A")


QUESTION = b"\3web\0\0\1\0\1"
OPT = b"\0\0\x29\x10\0\0\0\0\0\0\0"
RECORD = b"\3web\0\0\1\0\1\0\0\0\0\0\4\1\2\3\4"


def message(*counts: int, flags: int = 0x0100, body: bytes = QUESTION) -> bytes:
    return struct.pack("!HHHHHH", 0x1234, flags, *(*counts, 0, 0, 0, 0)[:4]) + body


RAW = {
    "nothing": b"",
    "half a header": message(1)[:6],
    "a header alone": message(1, body=b""),
    "a header that claims nothing": message(0, body=b""),
    "a reply": message(1, flags=0x8100),
    "opcode 2": message(1, flags=0x1000),
    "opcode 4": message(1, flags=0x2000),
    "opcode 4, RD and CD": message(1, flags=0x2110),
    "opcode 5": message(1, flags=0x2900),
    "every flag a query can have": message(1, flags=0x07FF),
    "no question": message(0),
    "two questions": message(2, body=2 * QUESTION),
    "two questions claimed": message(2),
    "a question that is cut off": message(1, body=QUESTION[:-1]),
    "a question without a class": message(1, body=QUESTION[:-2]),
    "a name that is cut off": message(1, body=QUESTION[:3]),
    "a name that leads to itself": message(1, body=b"\xc0\x0c\0\1\0\1"),
    "a label of 64 bytes": message(1, body=b"\x40" + 64 * b"a" + b"\0\0\1\0\1"),
    "a name of 256 bytes": message(1, body=4 * (b"\x3f" + 63 * b"a") + b"\0\0\1\0\1"),
    "a dot in a label": message(1, body=b"\7web.web\0\0\1\0\1"),
    "another class": message(1, body=b"\3web\0\0\1\0\3"),
    "an answer": message(1, 1, body=QUESTION + RECORD),
    "two answers": message(1, 2, body=QUESTION + 2 * RECORD),
    "two more records": message(1, 0, 0, 2, body=QUESTION + OPT + RECORD),
    "three more records": message(1, 0, 0, 3, body=QUESTION + OPT + 2 * RECORD),
    "a record that is claimed": message(1, 0, 0, 1),
    "a record that is cut off": message(1, 0, 0, 1, body=QUESTION + RECORD[:-2]),
    "an OPT record that is cut off": message(1, 0, 0, 1, body=QUESTION + OPT[:-2]),
    "bytes after the question": message(1, body=QUESTION + b"abc"),
    "bytes after the OPT record": message(1, 0, 0, 1, body=QUESTION + OPT + b"abc"),
}
"""Messages that dig does not send."""

SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
    own.settimeout(1)
    own.sendto(bytes.fromhex(sys.argv[1]), ("127.0.0.11", 53))
    try:
        print(own.recv(65535).hex())
    except TimeoutError:
        pass
"""


class Side(Protocol):
    """A swarm with the services of this comparison."""

    name: str

    def facts(self) -> Mapping[str, str]:
        """What stands for each word in braces."""

    def tasks(self, service: str) -> list[tuple[str, str, str]]:
        """(name, address in web, short id) of each task that runs, by slot."""

    def inside(self, container: str) -> list[str]:
        """The words before a command that make it run in the container's network namespace."""

    def resolv(self, container: str) -> str: ...

    def stop_slow(self) -> None: ...


# -- Docker's --------------------------------------------------------------------------------------------------------------


class Docker:
    def __init__(self, made: Engines) -> None:
        self._made = made
        self.name = f"Docker {made.docker(1, 'version', '-f', '{{.Server.Version}}')}"

    def fill(self) -> None:
        docker = self._made.docker
        for network in ("web", "back"):
            docker(1, "network", "create", "-d", "overlay", "--attachable", network)
        self._service("web", 3, "name=web,alias=site")
        self._service("rr", 3, "web", "--endpoint-mode", "dnsrr")
        self._service("big", 30, "web")
        self._service("slow", 1, "web", "--stop-grace-period", "20s", command=("sh", "-c", SLOW))
        for container, options in {
            "client": (),
            "asker": ("--network-alias", "me", "--dns-search", "example.org"),
            "ndots": ("--dns-option", "ndots:1"),
        }.items():
            words = ("run", "-d", "--name", container, "--network", "web", "--dns", GATEWAY, *options, "httpd", "sleep", "100000")
            docker(1, *words)

    def _service(self, name: str, replicas: int, network: str, *options: str, command: Sequence[str] = ()) -> None:
        words = ("service", "create", "--quiet", "--no-resolve-image", "--name", name, "--replicas", str(replicas), "--network", network)
        self._made.docker(1, *words, *options, "httpd", *command)

    def outside(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["nsenter", "--net=/run/netns/rs-h1", "--", *OUTSIDE], stderr=subprocess.DEVNULL)

    def facts(self) -> Mapping[str, str]:
        network = self._made.docker(1, "network", "inspect", "-f", "{{.Id}}", "web")
        form = '{{range .Endpoint.VirtualIPs}}{{if eq .NetworkID "NETWORK"}}{{.Addr}}{{end}}{{end}}'.replace("NETWORK", network)
        return {"vip": self._made.docker(1, "service", "inspect", "-f", form, "web").partition("/")[0]}

    def tasks(self, service: str) -> list[tuple[str, str, str]]:
        form = '{{.Name}} {{(index .NetworkSettings.Networks "web").IPAddress}} {{.Id}}'
        found = []
        for node in (1, 2):
            ids = self._made.docker(node, "ps", "-q", "-f", f"label=com.docker.swarm.service.name={service}").split()
            for line in self._made.docker(node, "inspect", "-f", form, *ids).splitlines() if ids else ():
                name, address, id = line.removeprefix("/").split()
                found.append((name, address, id[:12]))
        return sorted(found, key=lambda one: int(one[0].split(".")[1]))

    def inside(self, container: str) -> list[str]:
        return self._made.inside(1, container)

    def resolv(self, container: str) -> str:
        return self._made.docker(1, "exec", container, "cat", "/etc/resolv.conf")

    def stop_slow(self) -> None:
        self._made.docker(1, "service", "rm", "slow")


# -- ours ------------------------------------------------------------------------------------------------------------------


class Ours:
    def __init__(self, made: Town) -> None:
        self._made = made
        self.name = "lab"

    def fill(self) -> None:
        client = self._made.client
        client.create_network(NetworkSpec("back", attachable=True))
        self._service("web", 3, TaskNetwork("web", aliases=("site",)))
        self._service("rr", 3, TaskNetwork("web"), EndpointMode.DNSRR)
        self._service("big", 30, TaskNetwork("web"))
        spec = TaskSpec("host", args=("sh", "-c", SLOW), networks=(TaskNetwork("web"),), stop_grace=20.0)
        client.create_service(ServiceSpec("slow", spec, replicas=1))
        self._made.settled("slow", 1)
        view = client.view()
        network, node = view.network("web").id, view.node(self._made.nodes[0]).id
        once = RestartPolicy(RestartCondition.NONE)
        for container, dns, aliases in (
            ("client", Dns((GATEWAY,)), ()),
            ("asker", Dns((GATEWAY,), ("example.org",)), ("me",)),
            ("ndots", Dns((GATEWAY,), (), ("ndots:1",)), ()),
        ):
            wanted = (TaskNetwork(network, aliases=aliases),)
            task = client.run_container(TaskSpec("host", args=("sleep", "100000"), container=container, networks=wanted, dns=dns, restart=once), node)
            self._made.until(lambda view, task=task: view.tasks[task.id].state is TaskState.RUNNING)  # type: ignore[misc]

    def _service(self, name: str, replicas: int, network: TaskNetwork, mode: EndpointMode = EndpointMode.VIP) -> None:
        spec = ServiceSpec(name, TaskSpec("httpd", networks=(network,)), replicas=replicas, endpoint=EndpointSpec(mode))
        self._made.client.create_service(spec)
        self._made.settled(name, replicas, 60.0)

    def outside(self) -> subprocess.Popen[bytes]:
        path = self._made.lab.running.path(self._made.nodes[0])
        return subprocess.Popen(["nsenter", f"--net={path}", "--", *OUTSIDE], stderr=subprocess.DEVNULL)

    def facts(self) -> Mapping[str, str]:
        view = self._made.client.view()
        return {"vip": next(str(address.ip) for id, address in view.service("web").vips if id == view.network("web").id)}

    def tasks(self, service: str) -> list[tuple[str, str, str]]:
        view = self._made.client.view()
        network = view.network("web").id
        return [
            (
                view.task_name(task),
                next(str(one.address.ip) for one in task.networks if one.network == network and one.address),
                container_id(view.nodes[task.node].hostname, view.task_name(task))[:12],
            )
            for task in sorted(self._made.running(view, service), key=lambda task: task.slot)
        ]

    def inside(self, container: str) -> list[str]:
        return ["nsenter", f"--net={self._made.lab.running.path(f'{self._made.nodes[0]}:{container}')}", "--"]

    def resolv(self, container: str) -> str:
        return self._made.lab.exec(container, ["cat", "/etc/resolv.conf"]).stdout.strip()

    def stop_slow(self) -> None:
        self._made.client.remove_service(self._made.client.view().service("slow").id)


def _run(words: Sequence[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


# -- what is compared --------------------------------------------------------------------------------------------------------


@dataclass
class Session:
    """What one side has answered: (part, question) -> what counts of it, with names for what differs from swarm to swarm."""

    name: str
    answers: dict[tuple[str, str], str] = field(default_factory=dict)


def meaning(told: str, names: Mapping[str, str]) -> str:
    """Of what dig prints: status, flags, counts, records in order of their text, size. Ids and addresses get the names of what has them."""
    if "no servers could be reached" in told:
        return "no reply"
    head = re.search(r"status: (\S+),.*\n;; flags: ([a-z ]*); QUERY: (\d+), ANSWER: (\d+), AUTHORITY: (\d+), ADDITIONAL: (\d+)", told)
    size = re.search(r"MSG SIZE  rcvd: (\d+)", told)
    if head is None or size is None:
        return " / ".join(line for line in told.splitlines() if line.strip())[:200]
    records = []
    for line in told.splitlines():
        if line and not line.startswith(";"):
            name, _ttl, kind, rest = re.split(r"\s+", line, maxsplit=1)[0], *re.split(r"\s+", line, maxsplit=3)[1:4]
            records.append(" ".join((name, _ttl, kind, *rest.split())))
    # Of what does not fit, another part each time.
    named = [] if "tc" in head[2].split() else sorted(_named(record, names) for record in records)
    shown = f": {', '.join(named[:4])}{f', ... ({len(named)})' if len(named) > 4 else ''}" if named else ""
    return f"{head[1]}, {head[2].strip()}, {'+'.join(head.group(3, 4, 5, 6))} records, {size[1]} bytes{shown}"


def header(reply: bytes) -> str:
    """Of a reply to a message that is not as it should be."""
    if not reply:
        return "no reply"
    flags, *counts = struct.unpack_from("!HHHHH", reply, 2)
    return f"flags {flags:#06x}, {'+'.join(map(str, counts))} records, {len(reply)} bytes"


def _named(text: str, names: Mapping[str, str]) -> str:
    for found in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(found)}(?![\w])", names[found], text)
    return text


def ask(
    side: Side, session: Session, part: str, questions: Sequence[str], container: str, facts: Mapping[str, str], names: Mapping[str, str]
) -> None:
    def one(question: str) -> str:
        words = question.format(**facts).split()
        return meaning(_run([*side.inside(container), "dig", "+tries=1", "+time=3", "@127.0.0.11", *words]), names)

    with ThreadPoolExecutor(4) as pool:
        for question, answer in zip(questions, pool.map(one, questions), strict=True):
            session.answers[part, question] = answer


def walk(side: Docker | Ours) -> Session:
    """The session of one side."""
    session = Session(side.name)
    server = side.outside()
    try:
        names: dict[str, str] = {}
        for service in ("web", "rr", "big", "slow"):
            for number, (name, address, short) in enumerate(side.tasks(service), 1):
                names |= {name: f"<{service}.{number}>", address: f"<address of {service}.{number}>", short: f"<id of {service}.{number}>"}
        (task, address, short), (slow, slowaddress, slowshort) = side.tasks("web")[1], side.tasks("slow")[0]
        facts = {"task": task, "address": address, "short": short, "slow": slow, "slowaddress": slowaddress, "slowshort": slowshort} | dict(
            side.facts()
        )
        names |= {facts["vip"]: "<vip of web>"}
        for one in ("big", "slow", "client", "asker"):
            names[_run([*side.inside("client"), "dig", "@127.0.0.11", "+short", one]).strip()] = f"<address of {one}>"
        for text, name in list(names.items()):
            if re.fullmatch(r"[\d.]+", text):
                names[".".join(reversed(text.split("."))) + ".in-addr.arpa."] = f"<reverse of {name.removeprefix('<')}"
        for container in ("client", "asker", "ndots"):
            session.answers["resolv.conf", container] = " / ".join(side.resolv(container).splitlines())
        ask(side, session, "everything runs", STEADY, "client", facts, names)
        for what, message in RAW.items():
            told = _run([*side.inside("client"), sys.executable, "-c", SEND, message.hex()]).strip()
            session.answers["messages as dig does not send them", what] = header(bytes.fromhex(told))
        ask(side, session, "the user has set ndots:1", NDOTS, "ndots", facts, names)
        side.stop_slow()
        time.sleep(3.0)
        ask(side, session, "the only task of slow is stopping", STOPPING, "client", facts, names)
        time.sleep(12.0)
        ask(side, session, "slow is gone", GONE, "client", facts, names)
    finally:
        server.terminate()
        server.wait()
    return session


# -- the page ----------------------------------------------------------------------------------------------------------------

_CUT_OFF = "the engine's DNS library takes a question that ends after its type; for ours it is none that can be read"

REASONS: Mapping[str, str] = {
    "alias.example.org A": "the engine writes a forwarded reply anew, and each name but once; ours hands on what the server sent",
    "a question that is cut off": _CUT_OFF,
    "a question without a class": _CUT_OFF,
}
"""Questions that are answered differently on purpose -> why."""


def page(there: Session, here: Session) -> Iterator[str]:
    yield "# The embedded DNS of a lab, compared with Docker's"
    yield ""
    yield "Made by `python -m tests.netns.compare_dns` (needs root and a dockerd). The same networks, services and containers in a real swarm of two"
    yield f"engines ({there.name}) and in a lab of two nodes; the same dig in a container of each. Of each reply: status, flags, how many records a"
    yield "section has, the records (but of a cut-off reply), how many bytes. Ids and addresses have the names of what has them. `no reply`: dig"
    yield "waited 3 s."
    yield ""
    same = sum(answer == here.answers[key] for key, answer in there.answers.items())
    yield f"**{same} of {len(there.answers)} are the same.**"
    part = ""
    for (where, question), answer in there.answers.items():
        if where != part:
            part = where
            yield ""
            yield f"## {part[0].upper()}{part[1:]}"
            yield ""
            yield "| asked | Docker | lab |"
            yield "|---|---|---|"
        mine = here.answers[where, question]
        reason = f" ({REASONS[question]})" if question in REASONS else ""
        yield f"| `{question}` | {_cell(answer)} | {'the same' if mine == answer else f'**{_cell(mine)}**{reason}'} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=HOST, help="the script that starts engines")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("root is needed")
    with town(nodes=2) as made:
        ours = Ours(made)
        ours.fill()
        here = walk(ours)
    with engines(2, options.host) as engine:
        docker = Docker(engine)
        docker.fill()
        there = walk(docker)
    print("\n".join(page(there, here)))
    wrong = [key for key, answer in there.answers.items() if here.answers[key] != answer and key[1] not in REASONS]
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
