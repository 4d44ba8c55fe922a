"""A document of the wrong shape is refused in one sentence: which file, where in it, what is there, what is wanted."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxtool.errors import ExpectationError
from vxtool.expect import load_cluster, parse_text

CAPTURES = Path(__file__).parents[2] / "captures"
PHASE = CAPTURES / "swarm-phases/steady"


def changed(path: str, *steps: str | int, to: object) -> str:
    document = json.loads((PHASE / path).read_text())
    here: Any = document
    for step in steps[:-1]:
        here = here[step]
    here[steps[-1]] = to
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            changed("inspect-web-vm1.json", 0, "IPAM", "Config", 0, "Subnet", to="10.0.1.0/33"),
            "[0].IPAM.Config[0].Subnet is '10.0.1.0/33', but a subnet",
        ),
        (changed("inspect-web-vm1.json", 0, "IPAM", "Config", 0, "Subnet", to=None), "[0].IPAM.Config[0].Subnet is null, but a subnet"),
        (changed("inspect-web-vm1.json", 0, "IPAM", "Config", to="x"), "[0].IPAM.Config is 'x', but a list is wanted"),
        (changed("inspect-web-vm1.json", 0, "Containers", to=[]), "[0].Containers is a list, but an object is wanted"),
        (
            changed("inspect-web-vm1.json", 0, "Containers", "lb-web", "MacAddress", to="02:42"),
            "[0].Containers.lb-web.MacAddress is '02:42', but a MAC",
        ),
        (changed("inspect-web-vm1.json", 0, "Containers", "lb-web", "IPv4Address", to=7), "[0].Containers.lb-web.IPv4Address is 7, but an address"),
        (changed("inspect-web-vm1.json", 0, "Options", "com.docker.network.driver.overlay.vxlanid_list", to="4097;1"), "is '4097;1', but VNIs"),
        (changed("inspect-web-vm1.json", 0, "Ingress", to="no"), "[0].Ingress is 'no', but true or false is wanted"),
        (changed("inspect-web-vm1.json", 0, "Id", to=""), "[0].Id is '', but a name is wanted"),
        (
            changed("inspectv-web-vm1.json", 0, "Services", "web", "Tasks", 0, "Info", "Host IP", to="vm1"),
            "Tasks[0].Info['Host IP'] is 'vm1', but an IP",
        ),
        (changed("inspectv-ingress-vm1.json", 0, "Services", "web", "Ports", to=["80"]), "Ports[0] is '80', but a text like \"Target: 80"),
        (changed("nodes.json", 1, "Status", "State", to="happy"), "[1].Status.State is 'happy', but one of unknown, down, ready, disconnected"),
        (changed("nodes.json", 2, "Spec", to="x"), "[2].Spec is 'x', but an object is wanted"),
        (
            changed("services.json", 2, "Endpoint", "Ports", 0, "TargetPort", to=70000),
            "[2].Endpoint.Ports[0].TargetPort is 70000, but a whole number",
        ),
        (changed("services.json", 0, "Spec", "Name", to=None), "[0].Spec.Name is null, but a name is wanted"),
        (changed("services.json", 2, "Endpoint", "VirtualIPs", 0, "Addr", to="ten"), "[2].Endpoint.VirtualIPs[0].Addr is 'ten', but an address"),
        ('[{"IPAM": {}, "Name": "x", "Id": "y"}, 3]', "[1] is 3, but a network, node, service"),
        ('{"a": ', "line 1, column 7: this is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('{"IPAM": {}, "Name": "\\ud800", "Id": "y"}', "half of a surrogate pair"),
        (json.dumps({"IPAM": {}, "Name": "x" * 5000, "Id": "y"}), "a text of 5,000 characters"),
        ("1" * 5000, "no expectation in it"),
        ("[" + "1" * 5000 + "]", "not JSON that an engine prints"),
        ('{"hello": 1}', "no expectation in it"),
        ("hello", "no expectation in it"),
        ("", "no expectation in it"),
    ],
    ids=lambda value: None if len(value) > 80 or "{" in value else value,
)
def test_what_is_wrong_is_said_and_where(text: str, said: str) -> None:
    with pytest.raises(ExpectationError) as caught:
        parse_text(text, "vm1/inspect.json")
    assert str(caught.value).startswith("vm1/inspect.json")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def told(text: str, source: str) -> str:
    """The one sentence, or the source's name when there is nothing to say."""
    try:
        parse_text(text, source)
    except ExpectationError as error:
        return str(error)
    return source


JSON = sorted(path for path in PHASE.iterdir() if path.suffix == ".json")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in below for found in places(one, (*path, key)))]


MUTATIONS: list[Callable[[random.Random], Any]] = [
    lambda chance: None,
    lambda chance: "",
    lambda chance: [],
    lambda chance: {},
    lambda chance: True,
    lambda chance: chance.randrange(-1, 1 << 70),
    lambda chance: 1.5,
    lambda chance: "\x1b[31mred",
    lambda chance: "10.0.1.3/24",
    lambda chance: [[[]]],
    lambda chance: {"Name": {"Name": []}},
]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_gives_a_cluster_or_one_sentence(seed: int) -> None:
    chance = random.Random(seed)
    document = json.loads(chance.choice(JSON).read_text())
    for _ in range(chance.choice((1, 1, 2, 5))):
        path = chance.choice(places(document))
        value = chance.choice(MUTATIONS)(chance)
        if not path:
            document = value
            break
        here = document
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = copy.deepcopy(value)
    assert told(json.dumps(document), "x.json").startswith("x.json")


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_tables_cut_and_shaken_give_a_cluster_or_one_sentence(data: st.DataObject) -> None:
    text = (PHASE / data.draw(st.sampled_from(["tasks.txt", "nodes.txt", "services.txt"]))).read_text()
    start, end = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    assert told(text[:start] + data.draw(st.text(max_size=8)) + text[end:], "x.txt").startswith("x.txt")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vxtool.expect.sources.FILE_LIMIT", 1000)
    path = tmp_path / "inspect.json"
    path.write_text("[" + " " * 1000 + "]")
    with pytest.raises(ExpectationError, match="larger than"):
        load_cluster(str(path))


def test_a_log_whose_lines_begin_with_brackets_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "dmesg.txt").write_text("kernel:\n" + "[[[[ 1.0] up\n" * 20_000)
    (tmp_path / "nodes.json").write_bytes((PHASE / "nodes.json").read_bytes())
    cluster = load_cluster(str(tmp_path))
    assert len(cluster.nodes) == 3
    assert cluster.notes == ("passed over, no expectation: dmesg.txt",)


@pytest.mark.parametrize("bad", ["no-such-file", "vm1.pcap"])
def test_a_file_named_by_the_user_must_be_an_expectation(bad: str) -> None:
    with pytest.raises(ExpectationError, match=bad):
        load_cluster(str(PHASE / bad))


def test_a_folder_of_folders_says_what_to_give_instead() -> None:
    with pytest.raises(ExpectationError, match=r"drained, scaled, steady"):
        load_cluster(str(CAPTURES / "swarm-phases"))


def test_powershell_s_utf_16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    path.write_text((PHASE / "nodes.json").read_text(), encoding="utf-16")
    assert len(load_cluster(str(path)).nodes) == 3
