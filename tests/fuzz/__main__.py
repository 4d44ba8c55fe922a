"""Runs many mutants over every core, and says what went wrong with which.

    python -m tests.fuzz --mutants 1000000 --seed 1          an hour or less on two cores
    python -m tests.fuzz --only 4711 --seed 1                one mutant again, in this process, with its traceback
    python -m tests.fuzz --only 4711 --seed 1 --write x.pcap and keep its bytes

Found are: exceptions, crashes (the worker dies), hangs (a mutant takes longer than --patience), and memory (a worker that grows, or one
mutant that wants more than a gigabyte). Exit code 0 when nothing was found, else 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import os
import resource
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path

from tests.fuzz.mutate import mutant, seeds

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
WARM = 0.1  # of a worker's mutants, before its memory is measured for the first time: caches fill
GROWTH_MB = 16  # what allocators and caches may still take after that
PERMITTED_MB = 1024  # of address space, above what the program itself needs
PAGE = os.sysconf("SC_PAGE_SIZE")

fork = multiprocessing.get_context("fork")


def memory_mb() -> tuple[float, float]:
    """Address space and resident memory of this process."""
    size, resident = Path("/proc/self/statm").read_text().split()[:2]
    return int(size) * PAGE / 1e6, int(resident) * PAGE / 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """What all workers share."""

    seed: int
    mutants: int
    workers: int
    captures: tuple[Path, ...]
    limit: bool  # memory; not under AddressSanitizer, which reserves terabytes of address space and keeps what was freed in quarantine


class Worker:
    """One process and what it tells: the mutant it is at, since when, and what it has done."""

    def __init__(self, plan: Plan, place: int, first: int) -> None:
        self.plan, self.place = plan, place
        self.at = fork.Value("q", first, lock=False)
        self.since = fork.Value("d", time.monotonic(), lock=False)
        self.rows = fork.Value("q", 0, lock=False)
        self.before, self.after = fork.Value("d", 0, lock=False), fork.Value("d", 0, lock=False)
        self.findings = fork.SimpleQueue()
        self.process: ForkProcess = fork.Process(target=self._run, args=(first,))
        self.process.start()

    def _run(self, first: int) -> None:
        from tests.fuzz.path import WholePath

        faulthandler.enable()
        captures, path = seeds(*self.plan.captures), WholePath()
        if self.plan.limit:
            most = int((memory_mb()[0] + PERMITTED_MB) * 1e6)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        warm = self.plan.mutants * WARM
        for number in range(first, self.plan.mutants, self.plan.workers):
            self.at.value, self.since.value = number, time.monotonic()
            origin, data, dice = mutant(number, self.plan.seed, captures)
            try:
                self.rows.value += path.take(data, dice)
            except Exception:  # the point of it all: whatever it is, it is a finding
                self.findings.put((number, origin, traceback.format_exc(limit=-6)))
            if not self.before.value and number >= warm:
                self.before.value = memory_mb()[1]
        self.after.value = memory_mb()[1]
        self.at.value = self.plan.mutants


def again(options: argparse.Namespace, captures: tuple[Path, ...]) -> int:
    """One mutant in this process."""
    from tests.fuzz.path import WholePath

    origin, data, dice = mutant(options.only, options.seed, seeds(*captures))
    print(f"mutant {options.only} of seed {options.seed}: {len(data):,} bytes, from {origin}")
    if options.write:
        options.write.write_bytes(data)
    print(f"{WholePath().take(data, dice)} rows")
    return 0


def run(plan: Plan, patience: float, *, quiet: bool = False) -> int:
    """All of them; how many findings there were."""
    begin = told = time.monotonic()
    workers = [Worker(plan, place, place) for place in range(plan.workers)]
    ended: list[Worker] = []
    found = 0
    while workers:
        time.sleep(0.05)
        now = time.monotonic()
        for place, worker in enumerate(workers):
            while not worker.findings.empty():
                number, origin, trace = worker.findings.get()
                found += 1
                print(f"mutant {number} from {origin}:\n{trace}", flush=True)
            hung = now - worker.since.value > patience and worker.at.value < plan.mutants
            if hung:
                worker.process.kill()
            if hung or not worker.process.is_alive():
                worker.process.join()
                if not worker.findings.empty():
                    continue
                ended.append(worker)
                if worker.at.value < plan.mutants:
                    found += 1
                    how = f"took longer than {patience:.0f} s" if hung else f"ended its process with {worker.process.exitcode}"
                    print(f"mutant {worker.at.value} {how}", flush=True)
                    workers[place] = Worker(plan, worker.place, worker.at.value + plan.workers)
                else:
                    del workers[place]
                    break
        if not quiet and now - told > 60:
            told = now
            done = min(worker.at.value for worker in workers) if workers else plan.mutants
            print(f"{done:,} mutants, {done / (now - begin):,.0f} a second, {found} findings", flush=True)
    seconds = time.monotonic() - begin
    growth = max((worker.after.value - worker.before.value for worker in ended if worker.before.value and worker.after.value), default=0.0)
    if plan.limit and growth > GROWTH_MB:
        found += 1
        print(f"memory grew by {growth:.0f} MB")
    rows = sum(worker.rows.value for worker in ended)
    if not quiet:
        most = max(worker.after.value for worker in ended)
        print(f"seed {plan.seed}: {plan.mutants:,} mutants, {rows:,} rows in {seconds:,.0f} s, {plan.mutants / seconds:,.0f} mutants a second")
        print(
            f"memory of each of {plan.workers} processes: {most:.0f} MB at the end, {growth:+.1f} MB since a tenth of the mutants; findings: {found}"
        )
    return found


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mutants", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", type=int, help="run this mutant alone")
    options.add_argument("--write", type=Path, help="with --only: keep the mutant's bytes in this file")
    options.add_argument("--captures", type=Path, action="append", help="folders of captures to begin from (default: captures/)")
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument("--patience", type=float, default=10, help="seconds that a mutant may take")
    options.add_argument("--no-limit", action="store_true", help="do not judge memory")
    chosen = options.parse_args()
    captures = tuple(chosen.captures or (CAPTURES,))
    if chosen.only is not None:
        return again(chosen, captures)
    return 1 if run(Plan(chosen.seed, chosen.mutants, chosen.workers, captures, not chosen.no_limit), chosen.patience) else 0


if __name__ == "__main__":
    sys.exit(main())
