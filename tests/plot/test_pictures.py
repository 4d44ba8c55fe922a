"""Pictures show what the captures say: who sent how much to whom, what was chosen how often, where the fault is, and text as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

import vxtool
from tests.verify.build import CAPTURES, Scene, healthy, phases
from vxtool import plot
from vxtool.model import Cluster, Timeline
from vxtool.plot.style import FAULT, plain
from vxtool.verify import engine
from vxtool.verify.case import Case
from vxtool.verify.verdicts import Verdict

Judged = tuple[Case, tuple[Verdict, ...]]
CASE_PICTURES: dict[str, Callable[[Case, tuple[Verdict, ...]], Figure]] = {
    "cluster": plot.cluster,
    "mesh": lambda case, _: plot.mesh(case),
    "timeline": plot.timeline,
    "checksums": lambda case, _: plot.checksums(case),
    "sizes": lambda case, _: plot.sizes(case),
}


def _judged(scene: Scene) -> Judged:
    case = scene.case()
    return case, engine.judge(case)


@cache
def steady() -> Judged:
    return _judged(healthy("swarm-steady"))


@cache
def wrong_vni() -> Judged:
    """sathish-vm2 sends network web on VNI 4099."""
    scene = healthy("swarm-steady")
    return _judged(
        scene.edit(lambda packet: packet.set(vni=4099) if packet.tunnelled and packet.vni == 4097 and packet.outer_src == "192.168.68.110" else None)
    )


@cache
def three_phases() -> Judged:
    return _judged(phases())


@cache
def two_nodes() -> Judged:
    return _judged(healthy("swarm-no-ipvs"))


SCENES: dict[str, Callable[[], Judged]] = {
    "steady": steady,
    "wrong VNI": wrong_vni,
    "three phases": three_phases,
    "two nodes": two_nodes,
}


def _words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible() and text.get_text()]


def _boxes(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Each visible text and the room it takes (pixels), inside the panel it belongs to or the figure."""
    figure.savefig(BytesIO(), format="png", dpi=100)
    beyond = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _undrawn(axis, axes.axison)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in beyond and text.get_visible() and text.get_text().strip() and not text.get_rotation() % 90:
            yield text.get_text(), text.get_window_extent()


def _undrawn(axis: Axis, shown: bool) -> list[Text]:
    """Labels that are kept and not drawn: of ticks outside the limits, and of axes that are switched off."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if not shown or not low <= tick.get_loc() <= high]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("picture", CASE_PICTURES)
def test_no_label_covers_another_one_or_leaves_the_picture(scene: str, picture: str) -> None:
    case, verdicts = SCENES[scene]()
    figure = CASE_PICTURES[picture](case, verdicts)
    boxes = [(words, box) for words, box in _boxes(figure) if box.width > 0]
    page = figure.bbox
    outside = [words for words, box in boxes if box.x0 < page.x0 - 2 or box.x1 > page.x1 + 2 or box.y0 < page.y0 - 2 or box.y1 > page.y1 + 2]
    covered = [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if _common(a, b) > 6]
    assert (outside, covered) == ([], [])


def _common(a: Bbox, b: Bbox) -> float:
    """Square pixels that two boxes, each shrunk by its margin, have in common."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0) - 2
    height = min(a.y1, b.y1) - max(a.y0, b.y0) - 4
    return width * height if width > 0 and height > 0 else 0.0


def test_the_cluster_picture_counts_the_frames_of_each_direction_once() -> None:
    words = _words(plot.cluster(steady()[0]))
    assert {"392", "400", "410 + 5", "406 + 5"} <= set(words)  # tshark counts the same in the captures of both ends
    assert {"● sathish-vm1", "VTEP 192.168.68.109"} <= set(words)


def test_captures_that_follow_each_other_add_up() -> None:
    scenes = [healthy(f"swarm-phases/{phase}") for phase in ("steady", "scaled", "drained")]
    whole, _ = three_phases()
    parts = [scene.case() for scene in scenes]

    def frames(case: Case) -> int:
        labels = [re.findall(r"[\d,]+", words) for words in _words(plot.cluster(case)) if re.fullmatch(r"[\d,]+( \+ [\d,]+)*", words)]
        return sum(int(number.replace(",", "")) for numbers in labels for number in numbers)

    assert frames(whole) == sum(map(frames, parts)) > 0


def test_a_healthy_cluster_has_nothing_red() -> None:
    figure = plot.cluster(*steady())
    assert FAULT not in _arrow_colors(figure)
    assert not any("✗" in words for words in _words(figure))


def test_the_culprit_and_the_frames_that_prove_it_are_red_and_marked() -> None:
    figure = plot.cluster(*wrong_vni())
    assert _arrow_colors(figure).count(FAULT) == 1
    assert [words for words in _words(figure) if "VX-" in words] == ["✗ VX-VNI"]
    assert any(words.startswith("✗ 406") for words in _words(figure))


def _arrow_colors(figure: Figure) -> list[str]:
    from matplotlib.colors import to_hex

    return [to_hex(arrow.get_edgecolor()).upper() for arrow in figure.findobj(FancyArrowPatch) if isinstance(arrow, FancyArrowPatch)]


def test_a_node_that_nobody_expected_is_drawn_as_such() -> None:
    case = healthy("swarm-steady").edit(lambda p: p.set(outer_src="192.168.68.210") if p.outer_src == "192.168.68.110" else None).case()
    words = _words(plot.cluster(case))
    assert "not in the expectation" in words
    assert any("192.168.68.210" in text for text in words)


def test_the_mesh_shows_what_each_balancer_chose() -> None:
    words = _words(plot.mesh(steady()[0]))
    assert words.count("16") == 3
    assert words.count("17") == 9
    assert words.count("33 together") == 3


def test_the_timeline_marks_where_the_evidence_lies() -> None:
    case, verdicts = wrong_vni()
    marked = plot.timeline(case, verdicts)
    assert "evidence of a failing check" in _words(marked)
    assert "evidence of a failing check" not in _words(plot.timeline(*steady()))


def test_the_timeline_says_when_the_expectation_changed() -> None:
    assert "the expectation changes" in _words(plot.timeline(three_phases()[0]))
    assert "the expectation changes" not in _words(plot.timeline(steady()[0]))


@pytest.mark.parametrize("picture", [plot.timeline, plot.sizes, plot.checksums], ids=lambda picture: picture.__name__)
def test_a_dataframe_is_drawn_as_well(picture: Callable[[object], Figure]) -> None:
    frames = vxtool.decode(CAPTURES / "swarm-steady" / "vm1.pcap", checksums=True)
    assert any("VNI 4096" in words or "lco" in words for words in _words(picture(frames)))


@pytest.mark.parametrize("picture", CASE_PICTURES)
def test_an_empty_capture_and_an_empty_expectation_give_a_sentence(picture: str) -> None:
    scene = Scene((replace(healthy("swarm-steady").shots[0], frames=()),), Timeline.of(Cluster()))
    [sentence] = _words(CASE_PICTURES[picture](scene.case(), ()))
    assert sentence.count(" ") > 2


@pytest.mark.parametrize("picture", CASE_PICTURES)
def test_columns_that_no_chosen_check_needed_are_not_missed(picture: str) -> None:
    case = healthy("swarm-steady").case(engine.chosen("docker-swarm", ["VX-VNI"]))
    CASE_PICTURES[picture](case, ()).savefig(BytesIO(), format="png")


TEXTS = ["$x^2$", r"\$a$", "$", r"$\frac{", "a\x1b[31mb", "\u202egpj", "<script>alert(1)</script>", "&amp;", "]]>", "x" * 5000, "<!--", "\ud800"]
ELEMENTS = {"svg", "title", "g", "path", "rect", "text", "tspan", "use", "defs", "clipPath", "pattern", "circle"}


@pytest.mark.parametrize("first", range(0, len(TEXTS), 4), ids=lambda first: f"texts {first + 1} to {first + 4}")
def test_text_from_packets_is_never_markup(first: int) -> None:
    *names, network = TEXTS[first : first + 4]

    def renamed(cluster: Cluster) -> Cluster:
        nodes = (replace(node, name=names[i]) for i, node in enumerate(cluster.nodes))
        networks = (replace(one, name=network if one.name == "web" else one.name) for one in cluster.networks)
        return replace(cluster, nodes=tuple(nodes), networks=tuple(networks))

    case = healthy("swarm-steady", ["vm1"]).expecting(renamed).case()
    for name, picture in CASE_PICTURES.items():
        drawn = plot.svg(picture(case, ()), name, "a picture")
        root = ElementTree.fromstring(drawn)
        assert {element.tag for element in root.iter()} <= ELEMENTS
        words = "".join(root.itertext())
        assert all(plain(text, 20).replace(r"\$", "$") in words for text in names if name == "cluster")


def test_a_label_is_not_longer_than_it_may_be() -> None:
    assert len(plain("x" * 5000, 20)) == 20


def test_two_pictures_in_a_page_share_no_id_and_refer_to_nothing_outside() -> None:
    case, verdicts = steady()
    ids: list[str] = []
    for name, picture in CASE_PICTURES.items():
        drawn = plot.svg(picture(case, verdicts), name, name)
        ids += re.findall(r'\bid="([^"]+)"', drawn)
        assert not re.search(r"https?:", drawn)
        own = set(re.findall(r'\bid="([^"]+)"', drawn))
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', drawn)) <= own
    assert len(ids) == len(set(ids))


def test_drawing_leaves_pyplot_alone() -> None:
    code = "import sys, vxtool; from vxtool import plot; plot.timeline(vxtool.decode(sys.argv[1])); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(CAPTURES / "swarm-steady" / "vm1.pcap")], check=True, cwd=Path(vxtool.__file__).parents[1])


def test_importing_the_package_does_not_load_matplotlib() -> None:
    code = "import sys, vxtool.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(vxtool.__file__).parents[1])
