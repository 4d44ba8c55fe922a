"""`vxtool lab exec`, `shell` and `graph` on a running lab, from a pipe and from a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vxtool.lab import programs, registry

ROOT = Path(__file__).resolve().parents[2]
TIOCGPTN = 0x80045430  # which /dev/pts/N belongs to this master
VXTOOL = (sys.executable, "-m", "vxtool", "lab")


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Running]:
    if os.geteuid() != 0:
        pytest.fail("these tests build a lab: run them as root", pytrace=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VXTOOL_RUN", str(tmp_path_factory.mktemp("exec") / "run"))
        patch.delenv("VXTOOL_LAB", raising=False)
        patch.chdir(ROOT)
        subprocess.run([*VXTOOL, "up"], check=True, capture_output=True)
        running = registry.find(None)
        yield running
        registry.end(running)


def vxtool(*words: str, input: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    ran = subprocess.run([*VXTOOL, *words], input=input, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout, ran.stderr


def test_sandboxes_are_where_a_docker_node_has_them() -> None:
    """So that the commands by which verify's verdicts are confirmed can be typed as they are."""
    code, shown, _ = vxtool("exec", "sathish-vm1", "--", "ls", "/var/run/docker/netns")
    overlay = next(name for name in shown.split() if name.startswith("1-"))
    assert (code, sorted({*shown.split()} - {overlay})) == (0, ["web.1", "web.3", "web.5"])
    asked = f"nsenter --net=/var/run/docker/netns/{overlay} bridge fdb show dev vxlan0 | grep -i 02:42:0a:00:01:04 | grep dst"
    code, shown, _ = vxtool("exec", "sathish-vm1", "--", "sh", "-c", asked)
    assert code == 0
    assert "dst 192.168.68.110" in shown


class Terminal:
    """Somebody at a terminal of 40 lines with 123 letters each, who runs a command."""

    def __init__(self, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 123, 0, 0))
            os.environ["SHELL"] = "/bin/bash"
            os.environ["TERM"] = "dumb"
            os.execv(sys.executable, [*VXTOOL, *words])
        self.seen = ""

    def types(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def sees(self, pattern: str) -> re.Match[str]:
        """Waits until this has been written since it last looked."""
        give_up = time.monotonic() + 20
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < give_up, f"{pattern!r} has not come, only {self.seen!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace").replace("\r", "")
                except OSError:
                    break
        found = re.search(pattern, self.seen)
        assert found is not None, f"{pattern!r} has not come, only {self.seen!r}"
        self.seen = self.seen[found.end() :]
        return found

    def end(self) -> int:
        """Waits for the command's end."""
        self.seen = ""
        while select.select([self.fd], [], [], 20)[0]:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


# -- from a pipe -----------------------------------------------------------------------------------------------------------

ANSWERS = {
    "two endpoints on different nodes reach each other": (["web.1", "--", "ping", "-c1", "-W2", "10.0.1.4"], 0, "1 received"),
    "the dashes may be left out, as with docker": (["-it", "web.1", "ping", "-c1", "-W2", "10.0.1.3"], 0, "1 received"),
    "a node": (["sathish-vm1", "--", "hostname"], 0, "sathish-vm1"),
    "an overlay sandbox": (["web@sathish-vm1", "--", "bridge", "fdb", "show", "dev", "vxlan0"], 0, "02:42:0a:00:01:04 dst 192.168.68.110"),
    "a switch": (["s1", "--", "ip", "-br", "link", "show", "s1"], 0, "s1"),
    "a variable and a folder": (["-e", "A=b", "-w", "/usr", "web.1", "--", "sh", "-c", "echo $A $(pwd)"], 0, "b /usr"),
    "a user": (["-u", "1:2", "web.1", "--", "sh", "-c", "id -u; id -g"], 0, "1\n2"),
    "an exit code": (["web.1", "--", "sh", "-c", "exit 42"], 42, ""),
    "a signal": (["web.1", "--", "sh", "-c", "kill -9 $$"], 137, ""),
}


@pytest.mark.parametrize(("words", "code", "told"), ANSWERS.values(), ids=ANSWERS)
def test_exec_answers_as_the_command_does(words: list[str], code: int, told: str) -> None:
    ended, out, err = vxtool("exec", *words)
    assert (ended, err) == (code, "")
    assert told in out


REFUSALS = {
    "no such place": (["exec", "web.77", "--", "true"], 2, "did you mean"),
    "no command": (["exec", "web.1", "--"], 2, "no command"),
    "half a variable": (["exec", "-e", "A", "web.1", "--", "true"], 2, "KEY=VALUE"),
    "no user": (["exec", "-u", "nobodyelse", "web.1", "--", "true"], 2, "no user 'nobodyelse'"),
    "no size": (["exec", "-m", "much", "web.1", "--", "true"], 2, "size"),
    "not found": (["exec", "web.1", "--", "nosuchprogram"], 127, "vxtool: web.1: nosuchprogram: command not found"),
    "two labs to draw": (["graph", "--lab", "lab", "--of", "two_racks"], 2, "exclude each other"),
    "no format": (["graph", "-o", "/nonexistent/a.png"], 2, "--format"),
}


@pytest.mark.parametrize(("words", "code", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_mistake_is_one_sentence(words: list[str], code: int, said: str) -> None:
    ended, out, err = vxtool(*words)
    assert (ended, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_input_is_piped_through() -> None:
    assert vxtool("exec", "web.1", "--", "tr", "a-z", "A-Z", input="hello\n") == (0, "HELLO\n", "")


def test_a_shell_reads_commands_from_a_pipe() -> None:
    assert vxtool("shell", "web.3", input="echo at $HOSTNAME; exit 3\n") == (3, "at web.3\n", "")


def test_a_detached_program_serves_the_others(lab: registry.Running) -> None:
    serve = "$s = IO::Socket::INET->new(Listen => 1, LocalPort => 80) or die; while ($c = $s->accept) { print $c qq(hi\\n); close $c }"
    code, number, told = vxtool("exec", "--detach", "web.1", "--", "perl", "-MIO::Socket::INET", "-e", serve)
    assert code == 0
    program = next(one for one in programs.listing(lab) if one.number == int(number))
    assert f"kill {program.pid}" in told
    ask = "for (1 .. 100) { last if $s = IO::Socket::INET->new('10.0.1.3:80'); select undef, undef, undef, 0.05 } print <$s>"
    assert vxtool("exec", "web.2", "--", "perl", "-MIO::Socket::INET", "-e", ask) == (0, "hi\n", "")
    assert program.pid is not None
    os.kill(program.pid, signal.SIGTERM)


def test_a_signal_to_vxtool_reaches_the_command() -> None:
    words = ("exec", "web.1", "--", "sh", "-c", "trap 'echo bye; exit 5' TERM; echo here; while :; do sleep 0.05; done")
    with subprocess.Popen([*VXTOOL, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.terminate()
        assert process.stdout.read() == "bye\n"
        assert process.wait() == 5


def test_a_running_lab_is_drawn() -> None:
    code, drawn, err = vxtool("graph")
    assert (code, err) == (0, "")
    assert "sathish-vm2 eth0 192.168.68.110/24" in drawn
    assert "web.6  web 10.0.1.8" in drawn


# -- from a terminal -------------------------------------------------------------------------------------------------------


def test_a_shell_has_a_prompt_the_size_of_the_window_and_job_control() -> None:
    terminal = Terminal("shell", "web.1")
    terminal.sees(r"\[web\.1\]")
    terminal.types("stty size; tty; id -u\r")
    terminal.sees(r"\n40 123\n/dev/pts/\d+\n65534\n")
    terminal.types("echo up; cat\r")
    terminal.sees("\nup\n")
    terminal.types("one\r")
    terminal.sees("one\none\n")  # the terminal's echo, and then cat, which so has the foreground
    terminal.types("\x1a")
    terminal.sees("Stopped")
    terminal.types("exit 7\rexit 7\r")  # bash warns once of the stopped job
    assert terminal.end() == 7


def test_ctrl_c_is_for_the_command_and_not_for_vxtool() -> None:
    terminal = Terminal("exec", "web.1", "--", "ping", "10.0.1.4")
    terminal.sees("icmp_seq=1")
    terminal.types("\x03")
    terminal.sees("packets transmitted")
    assert terminal.end() == 0


def test_a_command_cannot_type_into_the_callers_terminal() -> None:
    terminal = Terminal("exec", "web.1", "--", "tty")
    [callers] = struct.unpack("I", fcntl.ioctl(terminal.fd, TIOCGPTN, bytes(4)))
    assert terminal.sees(r"/dev/pts/(\d+)\n")[1] != str(callers)
    assert terminal.end() == 0


def test_the_programs_of_a_terminal_that_is_closed_end(lab: registry.Running) -> None:
    terminal = Terminal("exec", "web.1", "--", "sh", "-c", "trap '' HUP; sleep 7654 & echo ready; wait")
    terminal.sees("ready")
    os.kill(terminal.pid, signal.SIGKILL)
    terminal.end()
    give_up = time.monotonic() + 10
    while "sleep 7654" in vxtool("exec", "sathish-vm1", "--", "ps", "-e", "-o", "args=")[1]:
        assert time.monotonic() < give_up
