"""How fast and how frugal the checks are: all of them over 1,000,000 frames, and over three captures of a real swarm from the command line.

    python benchmarks/verify.py            about a minute
    python benchmarks/verify.py FILE...    the same over other captures

Seconds are those of the processor, so that other work on the machine does not count; what the user waits for is told beside them. The expectation
of the large capture is drafted from its beginning, as a user would. Prints a table in Markdown with the time of every stage and check, the slowest
first; benchmarks/README.md holds the last one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SWARM = ROOT / "captures" / "swarm-steady"
MILLION, DRAFTED = 1_000_000, 50_000
SLOWEST = 12  # checks shown one by one
WORKER = "--work"


@contextmanager
def stage(name: str, times: dict[str, float]) -> Iterator[None]:
    begin = time.process_time()
    yield
    times[name] = time.process_time() - begin


def work(paths: Iterable[Path]) -> None:
    """All checks over captures, in this process; prints seconds of each stage and check."""
    sys.path.insert(0, str(ROOT))
    from vxtool.capture import open_capture
    from vxtool.decode.batch import Batch
    from vxtool.decode.walk import Options, walk
    from vxtool.expect import draft
    from vxtool.verify.engine import build, chosen

    def batches(path: Path, most: int = sys.maxsize) -> Iterator[Batch]:
        with open_capture(path) as capture:
            for frames in capture:
                yield Batch(frames, walk(frames, Options(checksums=True)))
                most -= len(frames)
                if most <= 0:
                    return

    files = list(paths)
    expected = draft(batch for path in files for batch in batches(path, DRAFTED))
    times: dict[str, float] = {}
    checks = chosen("docker-swarm")
    with stage("read, walk and keep the columns", times):
        case = build([(path.name, None, batches(path)) for path in files], expected, checks=checks)
    with stage("talks and vantages", times):
        _ = case.talks, case.tunnel_talks, case.vantages
    with stage("connections", times):
        _ = case.connections
    for one in checks:
        with stage(one.id, times):
            list(one.run(case))
    print(len(case.table))
    for name, seconds in times.items():
        print(f"{seconds:.4f} {name}")


def measured(command: tuple[str, ...]) -> tuple[float, float, float, str]:
    """Seconds of the processor and of the clock, MB at most and output of a program.

    This process must stay small: a child's ru_maxrss begins with that of its parent.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    waited = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1) or not said:
        raise RuntimeError(f"{' '.join(command[:6])} ... ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, waited, usage.ru_maxrss / 1024, said


def row(what: str, value: str, target: str = "", met: bool | None = None) -> str:
    return f"| {what} | {value} | {target} | {'' if met is None else 'yes' if met else '**no**'} |"


def main(arguments: list[str]) -> None:
    if arguments[:1] == [WORKER]:
        work(map(Path, arguments[1:]))
        return
    files = arguments
    if not files:
        made = subprocess.run((sys.executable, str(Path(__file__).with_name("traffic.py")), str(MILLION)), check=True, capture_output=True, text=True)
        files = [made.stdout.strip()]
    _, waited, peak, said = measured((sys.executable, __file__, WORKER, *files))
    frames, *lines = said.splitlines()
    times = [(float(seconds), name) for seconds, _, name in (line.partition(" ") for line in lines)]
    total = sum(seconds for seconds, _ in times)
    stages, checks = ([item for item in times if item[1].startswith("VX-") is one] for one in (False, True))
    print(
        f"{int(frames):,} frames, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n\n| | measured | target | met |\n|---|---|---|---|"
    )
    print(
        row(f"all {len(checks)} checks, reading included", f"{total:.2f} s ({waited:.1f} s by the clock, start and draft included)", "5 s", total < 5)
    )
    print(row("peak memory", f"{peak:,.0f} MB", "700 MB", peak < 700))
    steady = tuple(str(SWARM / f"vm{n}.pcap") for n in (1, 2, 3))
    seconds, waited, memory, _ = min(measured((sys.executable, "-m", "vxtool", "verify", *steady, "--expect", str(SWARM))) for _ in range(3))
    print(
        row(
            "`vxtool verify`, three captures of a real swarm",
            f"{seconds:.2f} s ({waited:.1f} s by the clock), {memory:,.0f} MB",
            "2.5 s",
            waited < 2.5,
        )
    )
    for seconds, name in stages:
        print(row(f"stage: {name}", f"{seconds:.2f} s"))
    slowest = sorted(checks, reverse=True)
    for seconds, name in slowest[:SLOWEST]:
        print(row(f"`{name}`", f"{seconds:.2f} s"))
    print(row(f"the other {len(slowest[SLOWEST:])} checks", f"{sum(seconds for seconds, _ in slowest[SLOWEST:]):.2f} s"))


if __name__ == "__main__":
    main(sys.argv[1:])
