"""How fast and how frugal decoding is, side by side with tshark, tcpdump, scapy and dpkt, in one run on one machine.

    python benchmarks/decode.py            about five minutes
    python benchmarks/decode.py --huge     also memory on a capture of 3 GB (written to .cache/)

Times are the best of several runs with the file in the page cache; every program reads the same file. Where a program reads only a part of it
(scapy, dpkt), the table says so and compares frames per second. Prints a table in Markdown; benchmarks/README.md holds the last one.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "benchmarks"
MILLION = 1_000_000
SWARM = ROOT / "captures" / "swarm-steady" / "vm1.pcap"
SCAPY_FRAMES, DPKT_FRAMES = 5_000, 50_000
HUGE = 11 * MILLION  # 3.2 GB
VXTOOL = (sys.executable, "-m", "vxtool", "decode")

# What tshark calls the columns that a row has. Columns it does not know (offsets, checksum classes, padding) are left out, to its advantage.
_FIELDS = {
    "frame": "number time_epoch interface_name cap_len len",
    "eth": "src dst type",
    "vlan": "id",
    "ip": "version src dst ttl dsfield id len flags.df flags.mf frag_offset proto checksum",
    "ipv6": "src dst hlim tclass plen nxt",
    "udp": "srcport dstport length checksum",
    "tcp": "srcport dstport flags seq_raw ack_raw window_size_value len options.mss_val checksum",
    "icmp": "type code ident seq mtu",
    "icmpv6": "type code",
    "arp": "opcode src.hw_mac src.proto_ipv4 dst.hw_mac dst.proto_ipv4",
    "esp": "spi sequence",
    "vxlan": "flags vni gbp next_proto",
    "geneve": "vni proto_type flags",
    "dns": "id flags count.queries count.answers qry.name qry.type a resp.ttl",
}
FIELDS = [f"{protocol}.{name}" for protocol, names in _FIELDS.items() for name in names.split()]
# No names, no state between frames: the fastest that tshark can be with these fields.
TSHARK = (
    "tshark",
    "-n",
    "-d",
    "udp.port==8472,vxlan",
    "-o",
    "ip.defragment:FALSE",
    "-o",
    "tcp.desegment_tcp_streams:FALSE",
    "-o",
    "tcp.analyze_sequence_numbers:FALSE",
)
TSHARK_FIELDS = (*TSHARK, "-T", "fields", "-E", "occurrence=a", *(word for name in FIELDS for word in ("-e", name)))


@dataclass(frozen=True, slots=True)
class Run:
    """One program run to its end."""

    seconds: float
    peak_mb: float


def run(command: tuple[str, ...], *, times: int = 1) -> Run:
    """The fastest of several runs, its output thrown away. Raises RuntimeError when the program fails (exit code 1, damage, is fine)."""
    best: Run | None = None
    for _ in range(times):
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            raise RuntimeError(f"{' '.join(command[:6])} ... ended with {process.returncode}")
        if best is None or seconds < best.seconds:
            best = Run(seconds, usage.ru_maxrss / 1024)
    assert best is not None
    return best


def clock(work: str, path: Path, *, times: int = 3) -> float:
    """Seconds of the fastest of several runs of one of WORK below, in a process of its own.

    This process must stay small: what a child has needed at most (ru_maxrss) begins with the memory of the process it was forked from.
    """
    command = (sys.executable, __file__, "--work", work, str(path), str(times))
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def mixed(frames: int) -> Path:
    """See traffic.py, which needs scapy."""
    command = (sys.executable, str(Path(__file__).with_name("traffic.py")), str(frames))
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


# --------------------------------------------------------------------------------------------------------------------
# Stages of ours, and the libraries
# --------------------------------------------------------------------------------------------------------------------


def scan(path: Path) -> int:
    from vxtool.capture import open_capture

    with open_capture(path) as capture:
        return sum(len(frames) for frames in capture)


def columns(path: Path) -> int:
    """File to columns, batch after batch, as every output of the command line is fed."""
    from vxtool.api import Decoding

    with Decoding([(None, str(path))], reuse=True) as batches:
        return sum(len(batch) for batch in batches)


def with_scapy(path: Path) -> int:
    """Every layer of each frame; not one field is read."""
    import scapy.layers.all
    from scapy.utils import PcapReader

    assert scapy.layers.all  # what scapy finds in a frame depends on what was imported
    with PcapReader(str(path)) as reader:
        return sum(1 for packet in islice(reader, SCAPY_FRAMES) if packet.lastlayer())


def with_reference(path: Path) -> int:
    """The same columns, filled by scapy."""
    import vxtool

    return len(vxtool.reference(path))


def with_dpkt(path: Path) -> int:
    """Outer frame, VXLAN, inner frame: dpkt finds no tunnel by itself."""
    import dpkt

    found = 0
    with path.open("rb") as file:
        for _, data in islice(dpkt.pcap.Reader(file), DPKT_FRAMES):
            ip = dpkt.ethernet.Ethernet(data).data
            udp = getattr(ip, "data", None)
            if isinstance(udp, dpkt.udp.UDP) and udp.dport in (4789, 8472):
                found += int.from_bytes(udp.data[4:7], "big") > 0
                dpkt.ethernet.Ethernet(udp.data[8:])
    return found


def table(path: Path) -> int:
    """A pandas DataFrame of all columns."""
    import vxtool

    return len(vxtool.decode(path))


WORK: dict[str, Callable[[Path], int]] = {
    "scan": scan,
    "columns": columns,
    "table": table,
    "scapy": with_scapy,
    "reference": with_reference,
    "dpkt": with_dpkt,
}


def work(name: str, path: str, times: str) -> None:
    """What `clock` starts: prints seconds."""
    best = float("inf")
    for _ in range(int(times)):
        begin = time.perf_counter()
        WORK[name](Path(path))
        best = min(best, time.perf_counter() - begin)
    print(best)


# --------------------------------------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    what: str
    measured: str
    target: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        return f"| {self.what} | {self.measured} | {self.target} | {'' if self.met is None else 'yes' if self.met else '**no**'} |"


def rate(frames: int, seconds: float) -> str:
    return f"{frames / seconds:,.0f} frames/s"


def million(path: Path) -> Iterator[Line]:
    """Everything on the made capture of a million frames."""
    frames = MILLION
    ours = clock("columns", path, times=7)
    tcpdump = run(("tcpdump", "-r", str(path), "--count"), times=5).seconds
    begin = CACHE / "begin.pcap"
    subprocess.run(("tcpdump", "-r", str(path), "-c", str(DPKT_FRAMES), "-w", str(begin)), check=True, capture_output=True)
    scapy = clock("scapy", begin, times=2) / SCAPY_FRAMES
    dpkt = clock("dpkt", begin, times=2) / DPKT_FRAMES
    subprocess.run(("tcpdump", "-r", str(path), "-c", str(SCAPY_FRAMES), "-w", str(begin)), check=True, capture_output=True)
    reference = clock("reference", begin, times=1) / SCAPY_FRAMES
    yield Line("file to columns, one core", rate(frames, ours), "5,000,000 frames/s", frames / ours >= 5e6)
    yield Line("`tcpdump -r FILE --count`", rate(frames, tcpdump), f"ours in at most 2 x its time: {ours / tcpdump:.2f} x", ours <= 2 * tcpdump)
    tshark = run((*TSHARK_FIELDS, "-r", str(path)))
    yield Line(
        f"`tshark -T fields`, {len(FIELDS)} fields",
        rate(frames, tshark.seconds),
        f"ours at least 250 x: {tshark.seconds / ours:,.0f} x",
        tshark.seconds >= 250 * ours,
    )
    ratio = reference * frames / ours
    yield Line(
        f"scapy, the same columns ({SCAPY_FRAMES:,} frames)",
        f"{1 / reference:,.0f} frames/s",
        f"ours at least 2,000 x: {ratio:,.0f} x",
        ratio >= 2000,
    )
    yield Line(f"scapy, no field read ({SCAPY_FRAMES:,} frames)", f"{1 / scapy:,.0f} frames/s", f"ours: {scapy * frames / ours:,.0f} x")
    yield Line(f"dpkt, outer and inner ({DPKT_FRAMES:,} frames)", f"{1 / dpkt:,.0f} frames/s", f"ours: {dpkt * frames / ours:,.0f} x")
    text = run((*VXTOOL, str(path)), times=2)
    yield Line(
        "text, a line for each frame",
        f"{text.seconds:.2f} s, {text.peak_mb:,.0f} MB",
        f"5 x `tshark -T fields`: {tshark.seconds / text.seconds:.1f} x",
        tshark.seconds >= 5 * text.seconds,
    )
    lines = run((*TSHARK, "-r", str(path)))
    yield Line(
        "`tshark`, its own line for each frame", f"{lines.seconds:.2f} s, {lines.peak_mb:,.0f} MB", f"ours: {lines.seconds / text.seconds:.1f} x"
    )
    summary = run((*VXTOOL, "--summary", str(path)), times=3)
    yield Line(
        "`--summary`, in all", f"{summary.seconds:.2f} s, {summary.peak_mb:,.0f} MB", "2 s, 100 MB", summary.seconds < 2 and summary.peak_mb <= 100
    )
    for option in ("--csv", "--ndjson"):
        made = run((*VXTOOL, option, str(path)))
        yield Line(f"`{option}`", f"{made.seconds:.2f} s, {made.peak_mb:,.0f} MB", "100 MB", made.peak_mb <= 100)
    parquet = run((*VXTOOL, "--parquet", str(CACHE / "out.parquet"), str(path)))
    yield Line("`--parquet`", f"{parquet.seconds:.2f} s, {parquet.peak_mb:,.0f} MB", "200 MB", parquet.peak_mb <= 200)
    checksums = run((*VXTOOL, "--summary", "--checksums", str(path)))
    yield Line("`--summary --checksums`", f"{checksums.seconds:.2f} s, {checksums.peak_mb:,.0f} MB")
    yield Line("peak memory of text", f"{text.peak_mb:,.0f} MB", "100 MB", text.peak_mb <= 100)


def small(path: Path) -> Iterator[Line]:
    """What a person waits for."""
    helped = run((sys.executable, "-m", "vxtool", "--help"), times=7).seconds
    yield Line("`vxtool --help`", f"{helped * 1000:.0f} ms", "150 ms", helped < 0.15)
    two_thousand = CACHE / "two-thousand.pcap"
    subprocess.run(("tcpdump", "-r", str(path), "-c", "2000", "-w", str(two_thousand)), check=True, capture_output=True)
    ours, tshark = run((*VXTOOL, str(two_thousand)), times=7).seconds, run((*TSHARK, "-r", str(two_thousand)), times=5).seconds
    yield Line("2,000 frames to text", f"{ours * 1000:.0f} ms", f"less than tshark: {tshark * 1000:.0f} ms", ours < tshark)
    ours, tshark = run((*VXTOOL, str(SWARM)), times=5).seconds, run((*TSHARK, "-r", str(SWARM)), times=3).seconds
    yield Line("a real swarm capture (6,027 frames) to text", f"{ours * 1000:.0f} ms", f"tshark: {tshark * 1000:.0f} ms", ours < tshark)
    ours = clock("columns", SWARM, times=9)
    fields = run((*TSHARK_FIELDS, "-r", str(SWARM)), times=3).seconds
    yield Line("the same to columns", rate(6027, ours), f"`tshark -T fields`: {fields / ours:,.0f} x", None)


def stages(path: Path) -> Iterator[Line]:
    """Where the time of `vxtool decode FILE` and of `vxtool.decode(FILE)` goes."""
    start = run((sys.executable, "-m", "vxtool", "decode", "--limit", "1", str(path)), times=3).seconds
    read = clock("scan", path, times=5)
    walked = clock("columns", path, times=5) - read
    text, csv = run((*VXTOOL, str(path)), times=2).seconds, run((*VXTOOL, "--csv", str(path))).seconds
    yield Line("stage: start of the program", f"{start:.2f} s, {start / text:.0%} of text")
    yield Line("stage: read and scan", f"{read:.2f} s, {read / text:.0%} of text")
    yield Line("stage: walk", f"{walked:.2f} s, {walked / text:.0%} of text")
    yield Line("stage: text output", f"{text - start - read - walked:.2f} s, {(text - start - read - walked) / text:.0%} of text")
    yield Line("stage: CSV output (all columns)", f"{csv - start - read - walked:.2f} s, {(csv - start - read - walked) / csv:.0%} of CSV")
    pandas = clock("table", SWARM)
    yield Line("stage: table (pandas), 6,027 frames", f"{pandas * 1000:.0f} ms, {pandas / 6027 * 1e6:.1f} us a frame")


def huge() -> Iterator[Line]:
    """Memory on a capture of more than 3 GB."""
    path = mixed(HUGE)
    size = path.stat().st_size / 1e9
    for name, options, most in (
        ("text", (), 100),
        ("`--summary`", ("--summary",), 100),
        ("`--csv`", ("--csv",), 100),
        ("`--parquet`", ("--parquet", str(CACHE / "out.parquet")), 200),
    ):
        made = run((*VXTOOL, *options, str(path)))
        yield Line(f"{name}, {size:.1f} GB", f"{made.peak_mb:,.0f} MB, {made.seconds:.1f} s", f"{most} MB", made.peak_mb <= most)
    shutil.rmtree(CACHE / "out.parquet", ignore_errors=True)


def machine() -> str:
    """The machine and the versions that were measured."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    tools = [subprocess.run((tool, "--version"), capture_output=True, text=True, check=False).stdout for tool in ("tshark", "tcpdump")]
    # "TShark (Wireshark) 4.0.17 (Git v4...)", "tcpdump version 4.99.3"
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in ("numpy", "scapy", "dpkt"))]
    versions += [" ".join(word for word in said.split("\n")[0].split()[:3] if word != "(Wireshark)") for said in tools]
    load = f"load average before the start {os.getloadavg()[0]:.1f}"
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GB, Linux {platform.release()}, {load}; {', '.join(versions)}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--huge", action="store_true", help="also memory on a capture of 3 GB")
    options.add_argument("--only", choices=("million", "small", "stages", "huge"), help="one part alone")
    options.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.work:
        work(*chosen.work)
        return
    path = mixed(MILLION)
    print(
        f"{machine()}\n\n{MILLION:,} frames, {path.stat().st_size / 1e6:.0f} MB ({path.stat().st_size / MILLION - 16:.0f} bytes a frame on average)\n"
    )
    print("| | measured | target | met |\n|---|---|---|---|")
    parts: dict[str, Callable[[], Iterator[Line]]] = {
        "million": lambda: million(path),
        "small": lambda: small(path),
        "stages": lambda: stages(path),
        "huge": huge,
    }
    for name, part in parts.items():
        if chosen.only == name or (not chosen.only and (name != "huge" or chosen.huge)):
            for line in part():
                print(line, flush=True)


if __name__ == "__main__":
    main()
