"""Which captures the witnesses look at: `pytest tests/witness --captures DIR` (may be given several times), else those of the repository."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HOMES = (REPOSITORY / "captures", REPOSITORY.parent / "shared" / "captures")
SUFFIXES = (".pcap", ".pcapng", ".cap", ".ntar")
COMPRESSED = (".gz", ".zst", ".xz")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--captures", action="append", type=Path, metavar="DIR", help="folder or file of captures for tests/witness (default: captures/)"
    )


def captures(homes: list[Path]) -> Iterator[tuple[str, Path]]:
    """Every capture below the given folders under a short name; the same bytes under another name only once."""
    seen = set()
    for home in homes:
        for path in [home] if home.is_file() else sorted(home.rglob("*")):
            plain = path.name
            for ending in COMPRESSED:
                plain = plain.removesuffix(ending)
            if not path.is_file() or not (plain.endswith(SUFFIXES) or path == home):
                continue
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest not in seen:
                seen.add(digest)
                yield str(path.relative_to(home)) if path != home else path.name, path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "capture_path" in metafunc.fixturenames:
        homes = metafunc.config.getoption("captures", default=None) or [home for home in HOMES if home.is_dir()]
        found = list(captures(homes))
        metafunc.parametrize("capture_path", [path for _, path in found], ids=[name for name, _ in found])
