"""What all verbs have in common: help, completion, errors, and how little is loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from vxtool.cli import VERBS, vxtool
from vxtool.decode.columns import COLUMNS

Invoke = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, invoke: Invoke) -> None:
    result = invoke(verb, "--help")
    assert result.exit_code == 0
    assert f"vxtool {verb} " in result.stdout.replace("Usage: vxtool", "")
    assert invoke(verb, "-h").stdout == result.stdout


def test_help_lists_the_verbs_and_the_version_is_the_package_s(invoke: Invoke) -> None:
    import vxtool as package

    shown = invoke("--help").stdout
    assert all(f"  {verb} " in shown for verb in VERBS)
    assert invoke("--version").stdout == f"vxtool {package.__version__}\n"


def test_every_option_of_decode_stands_under_a_heading() -> None:
    from vxtool.cli.decode import SECTIONS, command

    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(p.name for p in command.params if p.name and p.name != "captures")


_SPY = """
import runpy, sys
sys.stdout = open("/dev/null", "w")
try:
    runpy.run_module("vxtool", run_name="__main__")
finally:
    print(*sys.modules, file=sys.stderr)
"""


def _loaded(*arguments: str) -> set[str]:
    """Modules that this command imports."""
    done = subprocess.run([sys.executable, "-c", _SPY, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    return set(done.stderr.split())


HEAVY = {"pandas", "pyarrow", "scipy", "matplotlib", "scapy"}


@pytest.mark.parametrize("arguments", [["--help"], ["decode", "--help"], ["--version"], ["completion", "bash"]], ids=" ".join)
def test_help_loads_nothing_but_click(arguments: list[str]) -> None:
    loaded = _loaded(*arguments)
    assert "click" in loaded
    assert not loaded & {*HEAVY, "numpy", "rich"}


@pytest.mark.parametrize("output", [[], ["--yaml"], ["--json"]], ids=" ".join)
def test_reading_an_expectation_needs_no_numpy(output: list[str]) -> None:
    loaded = _loaded("expect", "show", *output, "captures/swarm-steady")
    assert "vxtool.expect.docker" in loaded
    assert not loaded & {*HEAVY, "numpy"}


@pytest.mark.parametrize("output", [[], ["-v"], ["--csv"], ["--json"], ["-w", "/dev/null"]], ids=" ".join)
def test_decoding_loads_numpy_and_nothing_as_heavy(output: list[str]) -> None:
    loaded = _loaded("decode", *output, "captures/made/vlans.pcap")
    assert "numpy" in loaded
    assert not loaded & {*HEAVY, "rich"}


def test_the_summary_loads_rich_and_no_pandas() -> None:
    loaded = _loaded("decode", "--summary", "captures/made/vlans.pcap")
    assert "rich" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_vxtool(shell: str, invoke: Invoke) -> None:
    assert "_VXTOOL_COMPLETE" in invoke("completion", shell).stdout


def test_the_shell_completes_verbs_and_options(process: Process) -> None:
    def complete(words: str, number: int) -> list[str]:
        done = process(COMP_WORDS=words, COMP_CWORD=str(number), _VXTOOL_COMPLETE="bash_complete")
        return [line.split(",")[1] for line in done.stdout.decode().splitlines()]

    assert complete("vxtool de", 1) == ["decode"]
    assert "--vni" in complete("vxtool decode --v", 2)
    assert complete("vxtool decode --color a", 3) == ["auto", "always"]


def test_a_wrong_verb_is_one_sentence_and_2(invoke: Invoke) -> None:
    result = invoke("decod")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no such command 'decod'" in result.stderr


def test_no_verb_shows_the_help_and_is_2(invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "Verbs:" in result.stderr


def test_an_unexpected_exception_is_one_sentence_that_tells_how_to_report_it(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("on\x1b[31mfire")

    monkeypatch.setattr(vxtool.get_command(None, "completion"), "callback", broken)  # type: ignore[arg-type]
    result = invoke("completion", "bash")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "RuntimeError: on\\x1b[31mfire" in result.stderr
    assert "VXTOOL_TRACEBACK=1" in result.stderr
    with pytest.raises(RuntimeError, match="fire"):
        invoke("completion", "bash", VXTOOL_TRACEBACK="1")


def test_the_reference_of_columns_is_current(invoke: Invoke) -> None:
    shown = invoke("columns", "--markdown").stdout
    assert (ROOT / "docs" / "columns.md").read_text() == shown, "run: vxtool columns --markdown > docs/columns.md"
    assert all(f"| `{column.name}` |" in shown for column in COLUMNS)


def test_columns_can_be_searched_by_words(invoke: Invoke) -> None:
    names = [line.split()[0] for line in invoke("columns", "arp", "address").stdout.splitlines()]
    assert names == ["inner_arp_sha", "inner_arp_spa", "inner_arp_tha", "inner_arp_tpa"]
    assert invoke("columns", "nosuchword").exit_code == 2
