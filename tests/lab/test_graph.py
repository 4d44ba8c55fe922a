"""Pictures of labs: each says everything there is, is well-formed, and lets no name become markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from vxtool.errors import UsageError
from vxtool.lab import graph
from vxtool.lab.graph import FORMATS, draw
from vxtool.lab.spec import EndpointWish, LabSpec, from_options
from vxtool.lab.topology import Impairment, Topology

SVG = "{http://www.w3.org/2000/svg}"
TOPOLOGIES = ("one_segment", "two_racks,n=4", "leaf_spine", "wide_area", "single")
EVIL = 'a"]<script>alert(1)</script>&--;\\'


def of(topology: str, **how: object) -> LabSpec:
    return from_options(topology, **how)  # type: ignore[arg-type]


def impaired(topology: Topology, number: int, impairment: Impairment) -> Topology:
    links = list(topology.links)
    links[number] = replace(links[number], impairment=impairment)
    return replace(topology, links=tuple(links))


def words(drawing: str) -> str:
    """What a reader sees of an SVG."""
    return "\n".join("".join(element.itertext()) for element in ElementTree.fromstring(drawing).iter(f"{SVG}text"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_machine_address_endpoint_and_network_is_told(topology: str, format: str) -> None:
    lab = of(topology)
    drawn = draw(lab.topology, lab.cluster, format)
    seen = words(drawn) if format == "svg" else drawn
    for machine in lab.topology.machines:
        assert machine.name in seen
        for end in lab.topology.ends(machine.name):
            assert end.interface is None or str(end.interface) in seen
    for endpoint in lab.cluster.endpoints:
        assert endpoint.name in seen
        assert str(endpoint.ip) in seen
    for network in lab.cluster.networks if format != "mermaid" else ():
        assert network.name in seen
        assert f"VNI {network.vnis[0]}" in seen
    assert drawn.endswith("\n")


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_wrong_with_a_link_is_said(format: str) -> None:
    lab = of("two_racks")
    drawn = draw(impaired(lab.topology, 0, Impairment(rate=10_000_000, delay_ms=20, loss=1.5)), lab.cluster, format)
    seen = words(drawn) if format == "svg" else drawn
    for told in ("rate 10mbit", "delay 20ms", "loss 1.5%"):
        assert told in seen
        assert told not in draw(lab.topology, lab.cluster, format)


def test_an_impaired_link_is_drawn_dashed_and_no_other() -> None:
    lab = of("two_racks")
    drawn = ElementTree.fromstring(draw(impaired(lab.topology, 1, Impairment(down=True)), lab.cluster, "svg"))
    [dashed] = [path for path in drawn.iter(f"{SVG}path") if "impaired" in path.get("class", "")]
    [title] = dashed.iter(f"{SVG}title")
    assert title.text == f"{lab.topology.links[1].name}: down"


@pytest.mark.parametrize("format", FORMATS)
def test_no_name_becomes_markup(format: str) -> None:
    lab = of("one_segment")
    [first, *others] = lab.cluster.endpoints
    cluster = replace(lab.cluster, endpoints=(replace(first, name=EVIL), *others))
    drawn = draw(lab.topology, cluster, format)
    if format != "ascii":
        assert "<script" not in drawn
    if format == "svg":
        assert EVIL in words(drawn)
        assert "script" not in {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(drawn).iter()}
    if format == "mermaid":
        assert drawn.count('"') == draw(lab.topology, lab.cluster, format).count('"')


@pytest.mark.parametrize("format", FORMATS)
def test_a_control_character_in_a_name_stays_one_line_and_is_none(format: str) -> None:
    lab = of("one_segment")
    [first, *others] = lab.cluster.endpoints
    cluster = replace(lab.cluster, endpoints=(replace(first, name="a\x1b[2J\nb"), *others))
    drawn = draw(lab.topology, cluster, format)
    assert "\x1b" not in drawn
    assert len(drawn.splitlines()) == len(draw(lab.topology, lab.cluster, format).splitlines())


def test_the_tree_in_text_is_ascii_and_looks_so() -> None:
    lab = of("two_racks")
    number = next(number for number, link in enumerate(lab.topology.links) if {link.a.machine, link.b.machine} == {"vm1", "s1"})
    drawn = draw(impaired(lab.topology, number, Impairment(loss=2)), lab.cluster, "ascii")
    assert drawn.isascii()
    assert drawn == (
        "two_racks: 2 nodes, 1 router, 2 switches, 1 network, 6 endpoints\n"
        "\n"
        "  web  10.0.1.0/24  VNI 4097  MTU 1450\n"
        "\n"
        "r1 (router)\n"
        "|   eth0 192.168.68.1/24\n"
        "|   eth1 192.168.69.1/24\n"
        "+-- s1 (switch)\n"
        "|   +-- vm1 eth0 192.168.68.109/24 [loss 2%]\n"
        "|           * web.1  web 10.0.1.3\n"
        "|           * web.3  web 10.0.1.5\n"
        "|           * web.5  web 10.0.1.7\n"
        "+-- s2 (switch)\n"
        "    +-- vm2 eth0 192.168.69.109/24\n"
        "            * web.2  web 10.0.1.4\n"
        "            * web.4  web 10.0.1.6\n"
        "            * web.6  web 10.0.1.8\n"
    )


def test_a_link_beside_the_tree_is_told_at_both_ends() -> None:
    lab = of("leaf_spine")
    drawn = draw(lab.topology, lab.cluster, "ascii")
    assert drawn.count("also linked to") == 2


def test_an_endpoint_in_two_networks_is_drawn_once_with_both_addresses() -> None:
    lab = of("one_segment", networks=["front", "back"], endpoints=[EndpointWish("proxy.1", "sathish-vm1", {"front": None, "back": None})])
    [proxy] = graph.sandboxes(lab.cluster, "sathish-vm1")
    assert [one.network for one in proxy.attachments] == ["front", "back"]
    assert words(draw(lab.topology, lab.cluster, "svg")).count("proxy.1") == 1


def test_of_many_endpoints_only_the_number_is_told() -> None:
    lab = of("one_segment", endpoints=60)
    [all_of_it] = graph.sandboxes(lab.cluster, "sathish-vm1")
    assert (all_of_it.name, all_of_it.attachments[0].address) == ("30 endpoints", "10.0.1.3 .. 10.0.1.61")


@pytest.mark.parametrize("topology", [*TOPOLOGIES, "one_segment,n=10", "one_segment,n=50", "two_racks,n=50", "leaf_spine,n=12"])
def test_no_box_lies_on_another_or_beside_the_page(topology: str) -> None:
    lab = of(topology, endpoints=24)
    drawing = ElementTree.fromstring(draw(lab.topology, lab.cluster, "svg"))
    width, height = (float(drawing.get(side, "0")) for side in ("width", "height"))
    boxes = []
    for group in drawing.iter(f"{SVG}g"):
        box = next(group.iter(f"{SVG}rect"))
        boxes.append(tuple(float(box.get(side, "0")) for side in ("x", "y", "width", "height")))
    assert len(boxes) == len(lab.topology.machines)
    for number, (x, y, wide, high) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height
        for other_x, other_y, other_wide, other_high in boxes[:number]:
            assert x >= other_x + other_wide or other_x >= x + wide or y >= other_y + other_high or other_y >= y + high


def test_an_svg_is_a_file_that_stands_for_itself_and_can_be_read_aloud() -> None:
    lab = of("one_segment")
    drawn = draw(lab.topology, lab.cluster, "svg")
    drawing = ElementTree.fromstring(drawn)
    assert drawing.get("role") == "img"
    title, description = drawing.find(f"{SVG}title"), drawing.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert drawing.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert "network web: 10.0.1.0/24" in (description.text or "")
    assert not re.search(r"href|url\(|@import", drawn)


@pytest.mark.parametrize(("path", "format"), [("a.svg", "svg"), ("a.b.MMD", "mermaid"), ("x/y.dot", "dot"), ("y.gv", "dot"), ("y.txt", "ascii")])
def test_the_suffix_of_a_file_tells_the_format(path: str, format: str) -> None:
    assert graph.format_of(path) == format


def test_a_suffix_that_tells_nothing_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="--format"):
        graph.format_of("lab.png")


def test_a_lab_that_does_not_run_can_be_drawn_without_root(tmp_path: Path) -> None:
    from vxtool.cli.lab.graph import command

    file = tmp_path / "lab.svg"
    ran = CliRunner().invoke(command, ["--of", "two_racks,n=4", "-o", str(file)])
    assert (ran.exit_code, ran.output) == (0, "")
    assert "vm4" in words(file.read_text())
    assert "vm4" in CliRunner().invoke(command, ["--of", "two_racks,n=4"]).output
