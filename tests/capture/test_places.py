"""A capture that was taken at several places says so itself, in the names of its interfaces: each frame has the vantage it was captured at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.made import enhanced, frames, interface, opened, option, pcap, section
from vxtool.capture import Capture, CaptureWriter, Interface, merge, open_capture


def file_of(*names: str, count: int = 12) -> bytes:
    """Frames that take turns among interfaces of these names ("": without a name)."""
    described = b"".join(interface(options=option(2, name.encode()) if name else b"") for name in names)
    return section() + described + b"".join(enhanced(one, number=i % len(names)) for i, one in enumerate(frames(count)))


def vantages(capture: Capture) -> list[str]:
    return [found.vantages[entry["vantage"]] for found in capture for entry in found.index]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("vm1/eth0", "vm1"),
        ("vm1:web.1/eth0", "vm1:web.1"),
        ("web@vm1/vxlan0", "web@vm1"),
        ("eth0", None),
        ("/tmp/pipe", None),
        ("rpcap://host/eth0", None),
        ("\\Device/NPF", None),
        ("vm1/", None),
        ("", None),
        (None, None),
    ],
)
def test_a_place_is_what_stands_before_the_slash_of_an_interface_s_name(name: str | None, place: str | None) -> None:
    assert Interface(1, name).place == place


def test_each_frame_has_the_vantage_of_its_interface() -> None:
    assert vantages(opened(file_of("vm1/eth0", "vm2/eth0", "vm1/eth1"))) == ["vm1", "vm2", "vm1"] * 4


def test_one_place_names_the_capture_better_than_its_file_does(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(file_of("vm1/eth0"))
    with open_capture(path) as capture:
        assert vantages(capture) == ["vm1"] * 12


def test_what_the_user_says_counts_more_than_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(file_of("vm1/eth0", "vm2/eth0"))
    with open_capture(path, vantage="here") as capture:
        assert vantages(capture) == ["here"] * 12


def test_interfaces_without_a_place_are_at_the_file_s_vantage_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(file_of("vm1/eth0", "", "eth7"))
    with open_capture(path) as capture:
        assert vantages(capture) == ["vm1", "x", "x"] * 4


def test_a_later_section_adds_places_and_moves_none() -> None:
    assert (
        vantages(opened(file_of("vm1/eth0", "vm2/eth0", count=4) + file_of("vm3/eth0", "vm2/eth0", count=4)))
        == ["vm1", "vm2"] * 2 + ["vm3", "vm2"] * 2
    )


def test_merged_files_share_the_places_they_have_in_common(tmp_path: Path) -> None:
    (tmp_path / "a.pcapng").write_bytes(file_of("vm1/eth0", "vm2/eth0"))
    (tmp_path / "b.pcapng").write_bytes(file_of("vm2/eth1", "vm3/eth0"))
    (tmp_path / "c.pcap").write_bytes(pcap(frames(12)))
    found = list(merge([open_capture(tmp_path / name) for name in ("a.pcapng", "b.pcapng", "c.pcap")]))
    names = [(batch.vantages[entry["vantage"]], batch.interfaces[entry["interface"]].name) for batch in found for entry in batch.index]
    assert names == [("vm1", "vm1/eth0"), ("vm2", "vm2/eth1"), ("c", None), ("vm2", "vm2/eth0"), ("vm3", "vm3/eth0"), ("c", None)] * 6


def test_places_are_kept_by_whoever_writes_the_frames_again(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "x.pcapng") as writer:
        for batch in opened(file_of("vm1/eth0", "vm2/eth0")):
            writer.write(batch.select(batch.index["frame"] > 1))
    with open_capture(tmp_path / "x.pcapng") as capture:
        assert vantages(capture) == ["vm2", "vm1"] * 5 + ["vm2"]
