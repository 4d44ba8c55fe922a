"""The Python interface: the same whatever was imported first, typed, and honest about damage."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vxtool
from vxtool.errors import CaptureError, FilterError, UsageError

CAPTURES = Path(__file__).parents[1] / "captures"
VM1 = CAPTURES / "swarm-steady" / "vm1.pcap"


@pytest.mark.parametrize(
    "code",
    [
        "import vxtool; vxtool.decode(F)",
        "import vxtool.decode; vxtool.decode(F)",
        "import vxtool.decode.where; import vxtool; vxtool.decode(F)",
        "import vxtool; vxtool.iter_frames(F); vxtool.decode(F)",
        "from vxtool import decode; decode(F)",
        "import vxtool; vxtool.decode(F); import vxtool.decode.walk; vxtool.decode(F)",
        "from vxtool.decode.columns import ROW; from vxtool import decode, iter_frames; decode(F)",
    ],
)
def test_decode_can_be_called_whatever_was_imported_first(code: str) -> None:
    code = f"F = {str(CAPTURES / 'made' / 'vlans.pcap')!r}; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=CAPTURES.parent)
    assert done.returncode == 0, done.stderr


def test_importing_vxtool_loads_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import vxtool, sys; print('numpy' in sys.modules)"], capture_output=True, text=True, cwd=CAPTURES.parent, check=True
    )
    assert done.stdout == "False\n"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nosuch"):
        vxtool.nosuch  # noqa: B018
    assert {"decode", "iter_frames", "reference"} <= set(dir(vxtool))


def test_paths_files_sequences_and_mappings_are_sources() -> None:
    whole = vxtool.decode(VM1, columns=["frame"])
    assert len(whole) == 6027
    assert len(vxtool.decode(str(VM1), columns=["frame"])) == 6027
    with VM1.open("rb") as file:
        assert len(vxtool.decode(file, columns=["frame"])) == 6027
    assert len(vxtool.decode(io.BytesIO(VM1.read_bytes()), columns=["frame"])) == 6027
    both = vxtool.decode([VM1, VM1.with_name("vm2.pcap")], columns=["ts", "vantage"])
    assert set(both["vantage"]) == {"vm1", "vm2"}
    assert both["ts"].is_monotonic_increasing
    assert set(vxtool.decode({"a": VM1, "b": VM1}, columns=["vantage"])["vantage"]) == {"a", "b"}


def test_batches_keep_their_rows_after_the_next_one() -> None:
    batches = list(vxtool.iter_frames([VM1, VM1.with_name("vm2.pcap")]))
    assert len(batches) > 1
    rows = np.concatenate([batch.rows["frame"] for batch in batches])
    assert sorted(rows.tolist()) == sorted([*range(1, 6028), *range(1, len(rows) - 6026)])


def test_a_limit_stops_in_the_middle_of_a_batch() -> None:
    with vxtool.iter_frames(VM1, where="vni == 4096", limit=7) as batches:
        assert [len(batch) for batch in batches] == [7]
    assert list(vxtool.iter_frames(VM1, limit=0)) == []


def test_damage_is_told_after_the_last_batch() -> None:
    path = CAPTURES / "made" / "damage_cut_frame.pcap"
    with vxtool.iter_frames(path) as batches:
        list(batches)
        assert batches.damage
    assert vxtool.decode(path).attrs["damage"][0]["path"] == str(path)
    assert vxtool.decode(VM1).attrs["damage"] == []


@pytest.mark.parametrize("path", [VM1, CAPTURES / "made" / "names.pcap", CAPTURES / "made" / "pcapng_blocks.pcapng"], ids=lambda path: path.name)
def test_the_reference_is_the_same_table(path: Path) -> None:
    import pandas as pd

    first, second = vxtool.decode(path, limit=200), vxtool.reference(path, limit=200)
    pd.testing.assert_frame_equal(first, second, check_categorical=False)
    assert list(vxtool.reference(path, columns=["vni", "frame"], limit=3)) == ["vni", "frame"]


def test_mistakes_are_errors_of_their_kind() -> None:
    with pytest.raises(CaptureError):
        vxtool.decode("/nonexistent")
    with pytest.raises(FilterError):
        vxtool.decode(VM1, where="vnii == 1")
    with pytest.raises(UsageError):
        vxtool.decode(VM1, columns=["vnii"])
    with pytest.raises(UsageError):
        vxtool.decode([])
    with pytest.raises(UsageError):
        vxtool.decode(VM1, ports=[70000])


def test_type_checkers_see_the_function(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(
        'import vxtool\nimport vxtool.decode.where\nreveal_type(vxtool.decode("x"))\nreveal_type(vxtool.iter_frames("x"))\n'
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(CAPTURES.parent / "pyproject.toml"), str(tmp_path / "use.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CAPTURES.parent, timeout=300, check=False)
    assert 'Revealed type is "pandas' in done.stdout, done.stdout
    assert 'Revealed type is "vxtool.api.Decoding"' in done.stdout
