"""The fuzzer over compiled parts that watch every read and write: AddressSanitizer and UndefinedBehaviorSanitizer (gcc).

    python -m tests.fuzz.asan --mutants 100000 --seed 1        all options of tests.fuzz; several times slower
    python -m tests.fuzz.asan dns --mutants 100000             of tests.fuzz.dns

Copies vxtool to .cache/asan, compiles it there with the sanitizers, and starts the fuzzer on that copy. A read outside of a buffer ends
the worker, which the fuzzer reports with the number of the mutant. The compiled parts check their bounds anyway: this is a check of the
checks, and of what they were told about lengths.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / ".cache" / "asan"
FLAGS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"


def build() -> None:
    """A fresh copy, compiled with the sanitizers."""
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT / "vxtool", COPY / "vxtool", ignore=shutil.ignore_patterns("*.so", "_*.c", "__pycache__"))
    shutil.copytree(ROOT / "tests" / "fuzz", COPY / "tests" / "fuzz")
    kernels = [str(path) for path in sorted((COPY / "vxtool").rglob("*.pyx"))]
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "-i", "-3", "-f", "-X", "show_performance_hints=False", *kernels]
    subprocess.run(
        command, cwd=COPY, env={**os.environ, "CFLAGS": FLAGS, "LDFLAGS": "-fsanitize=address,undefined"}, check=True, stdout=subprocess.DEVNULL
    )


def libraries() -> str:
    """What must be loaded before Python, which is not compiled with the sanitizers itself."""
    return " ".join(
        subprocess.run(("gcc", f"-print-file-name={name}"), capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    )


def main() -> int:
    build()
    environment = {
        **os.environ,
        "LD_PRELOAD": libraries(),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python frees nothing at its end
        "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
        "PYTHONMALLOC": "malloc",  # each object its own piece of memory, with a fence around it
    }
    program = ["tests.fuzz", "--no-limit", "--patience", "60", "--captures", str(ROOT / "captures"), *sys.argv[1:]]
    if sys.argv[1:2] == ["dns"]:
        program = ["tests.fuzz.dns", "--no-limit", *sys.argv[2:]]
    command = [sys.executable, "-m", *program]
    return subprocess.run(command, cwd=COPY, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
