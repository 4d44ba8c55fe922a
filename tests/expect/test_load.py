"""`--expect` arguments: what makes one moment, and when it begins."""

import os
import shutil
from io import BytesIO, TextIOWrapper
from ipaddress import ip_address
from pathlib import Path

import pytest

from vxtool.errors import ExpectationError, UsageError
from vxtool.expect import Spec, load, load_cluster, parse_spec, to_yaml
from vxtool.model import Cluster, Node

PHASES = Path(__file__).parents[2] / "captures/swarm-phases"
NAMES = ("steady", "scaled", "drained")
TIMES = (PHASES / "times.txt").read_text().split()


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("steady", Spec("steady")),
        ("-", Spec("-")),
        ("steady@1795310940.769868191", Spec("steady", 1795310940769868191)),
        ("steady@1795310940769868191", Spec("steady", 1795310940769868191)),
        ("steady@2026-11-22T01:29:00Z", Spec("steady", 1795310940_000_000_000)),
        ("steady@2026-11-22T02:29:00+01:00", Spec("steady", 1795310940_000_000_000)),
        ("-@1795310940", Spec("-", 1795310940_000_000_000)),
        ("me@host/state", Spec("me@host/state")),
        ("a@b@1795310940", Spec("a@b", 1795310940_000_000_000)),
        ("@1795310940", Spec("@1795310940")),
    ],
)
def test_what_follows_the_last_at_is_a_time_if_it_reads_as_one(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


def test_a_file_that_has_an_at_in_its_name_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "state@5"
    path.mkdir()
    assert parse_spec(str(path)) == Spec(str(path))


@pytest.mark.parametrize(("text", "why"), [(f"{PHASES}@yesterday", "not a time"), ("steady@+5s", "not from a frame")])
def test_a_time_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_spec(text)


def test_three_dated_folders_are_three_moments() -> None:
    timeline = load([f"{PHASES / name}@{time}" for name, time in zip(NAMES, TIMES, strict=True)])
    assert [moment.time_ns for moment in timeline.moments] == [int(time.replace(".", "")) for time in TIMES]
    assert [cluster.service_by_name["web"].replicas for cluster in timeline.clusters] == [6, 3, 8]
    assert timeline.at(timeline.changes_ns[0] - 1).service_by_name["web"].replicas == 6


def test_the_order_of_arguments_does_not_matter() -> None:
    specs = [f"{PHASES / name}@{time}" for name, time in zip(NAMES, TIMES, strict=True)]
    assert load(specs) == load(specs[::-1])


def test_files_without_a_time_are_one_moment() -> None:
    timeline = load([str(PHASES / "steady" / name) for name in ("nodes.json", "services.json", "inspectv-web-vm1.json")])
    (moment,) = timeline.moments
    assert moment.time_ns is None
    assert {network.name for network in moment.cluster.networks if network.vnis} == {"web"}
    assert len(moment.cluster.nodes) == 3


def copied(tmp_path: Path, ages: dict[str, int]) -> list[str]:
    paths = []
    for name, age in ages.items():
        folder = tmp_path / name
        folder.mkdir()
        for file in (PHASES / name).iterdir():
            if file.suffix in {".json", ".txt"}:
                shutil.copyfile(file, folder / file.name)
                os.utime(folder / file.name, (age, age))
        paths.append(str(folder))
    return paths


def test_folders_without_a_time_are_dated_by_their_newest_file(tmp_path: Path) -> None:
    timeline = load(copied(tmp_path, {"drained": 3000, "steady": 1000, "scaled": 2000}))
    assert [moment.time_ns for moment in timeline.moments] == [1000 * 10**9, 2000 * 10**9, 3000 * 10**9]
    assert [cluster.service_by_name["web"].replicas for cluster in timeline.clusters] == [6, 3, 8]
    assert any("its newest file" in note for note in timeline.clusters[0].notes)


def test_folders_copied_at_once_are_dated_by_what_docker_updated_last(tmp_path: Path) -> None:
    timeline = load(copied(tmp_path, {"drained": 1000, "steady": 1000, "scaled": 1000}))
    assert [cluster.service_by_name["web"].replicas for cluster in timeline.clusters] == [6, 3, 8]
    # vm3 was drained at 01:31:05: what says so cannot be older.
    assert timeline.moments[2].time_ns == 1795311065_700148807
    assert any("UpdatedAt" in note for note in timeline.clusters[0].notes)


def test_folders_that_cannot_be_told_apart_in_time_are_refused(tmp_path: Path) -> None:
    (first,) = copied(tmp_path, {"steady": 1000})
    second = tmp_path / "again"
    shutil.copytree(first, second)
    with pytest.raises(ExpectationError, match="FOLDER@TIME"):
        load([first, str(second)])


def test_one_folder_without_a_time_holds_before_the_dated_ones() -> None:
    timeline = load([f"{PHASES / 'scaled'}@{TIMES[1]}", str(PHASES / "steady")])
    assert [cluster.service_by_name["web"].replicas for cluster in timeline.clusters] == [6, 3]
    assert timeline.moments[0].time_ns is None


def test_two_kinds_of_statement_for_one_moment_are_refused(tmp_path: Path) -> None:
    (folder,) = copied(tmp_path, {"steady": 1000})
    (Path(folder) / "mine.yaml").write_text("schema: vxtool-expect@1\n")
    with pytest.raises(ExpectationError, match="several"):
        load([folder])


def test_nothing_is_no_expectation() -> None:
    with pytest.raises(UsageError, match="--expect"):
        load([])


def test_a_written_expectation_may_come_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    text = to_yaml(Cluster(nodes=(Node("vm1", advertise=ip_address("192.168.68.109")),)))
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(text.encode())))
    assert [node.name for node in load_cluster("-").nodes] == ["vm1"]
