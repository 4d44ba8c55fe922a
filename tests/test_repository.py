"""What the repository says of itself: captures are what their scripts make, the README's examples are real, and light commands stay light."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CAPTURES = ROOT / "captures"
SCRIPTS = sorted(CAPTURES.glob("made/[!_]*.py"))
VXTOOL = (sys.executable, "-m", "vxtool")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_made_capture_is_byte_for_byte_what_its_script_makes(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
    monkeypatch.syspath_prepend(script.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scapy's imports
        runpy.run_path(str(script), run_name="__main__")
    made = sorted(tmp_path.iterdir())
    assert made
    for file in made:
        assert file.read_bytes() == (script.parent / file.name).read_bytes(), f"captures/made/{file.name} is out of date: make captures"


def test_every_capture_has_a_script_or_an_origin() -> None:
    for capture in sorted(CAPTURES.rglob("*.pcap*")):
        if capture.parent.name == "made":
            assert any(capture.name.startswith(script.stem) for script in SCRIPTS), f"{capture} has no script beside it"
        else:
            folder = CAPTURES / capture.relative_to(CAPTURES).parts[0]
            assert (folder / "ORIGIN.md").exists(), f"nobody says where {capture} comes from"


def test_no_file_is_too_large_for_a_repository() -> None:
    large = [path for path in CAPTURES.rglob("*") if path.is_file() and path.stat().st_size > 1_500_000]
    assert not large


LIGHT = {
    "text": ("decode", "captures/swarm-no-ipvs/vm1.pcap"),
    "verbose": ("decode", "-v", "captures/swarm-no-ipvs/vm1.pcap", "--limit", "2"),
    "csv": ("decode", "--csv", "captures/swarm-no-ipvs/vm1.pcap"),
    "ndjson": ("decode", "--ndjson", "captures/swarm-no-ipvs/vm1.pcap"),
    "filter": ("decode", "--where", "vni == 4097", "captures/swarm-no-ipvs/vm1.pcap"),
    "summary": ("decode", "--summary", "captures/swarm-no-ipvs/vm1.pcap"),
    "help": ("decode", "--help"),
}
HEAVY = {"pandas", "pyarrow", "scipy", "matplotlib", "scapy", "dns"}


@pytest.mark.parametrize("arguments", LIGHT.values(), ids=LIGHT)
def test_what_only_some_commands_need_is_not_imported_by_the_others(arguments: tuple[str, ...]) -> None:
    code = f"""
import sys
from vxtool.cli import main
sys.argv = ["vxtool", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY!r}), file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.strip() == ""


def _examples() -> list[tuple[str, str]]:
    """Commands in the README and the output printed there: blocks fenced as ```console, each command on a line that begins with `$ `."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = example.partition("\n")
            found.append((command, output))
    return found


@pytest.mark.parametrize(("command", "output"), _examples(), ids=lambda text: text[:60])
def test_an_example_in_the_readme_prints_what_the_readme_shows(command: str, output: str) -> None:
    words = shlex.split(command)
    assert words[0] == "vxtool"
    ran = subprocess.run(
        [*VXTOOL, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False, env={"COLUMNS": "100", "PATH": "/usr/bin:/bin"}
    )
    finds_a_fault = words[1] == "verify" and "\nerror " in output
    assert ran.returncode == (1 if finds_a_fault else 0), ran.stderr
    assert ran.stdout.rstrip() == output.rstrip()
