"""Network namespaces: making one, entering one, and a private world of them that the machine does not see.

Knows the system calls and where names are kept (`/run/netns`, as `ip netns` keeps them); knows no link and no lab. Whatever enters a namespace here
comes back: a thread that cannot is ended with its process, because going on in the wrong namespace would change the machine's own.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from vxtool.errors import MissingFeature

__all__ = [
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUTS",
    "MNT_DETACH",
    "MS_BIND",
    "MS_PRIVATE",
    "MS_REC",
    "NETNS",
    "create",
    "inside",
    "mount",
    "private_world",
    "remove",
    "setns",
    "settle",
    "sysctl",
    "umount",
    "unshare",
]

NETNS = Path("/run/netns")
"""Where the namespaces of a lab have their names; `ip netns` looks in the same folder."""

# <linux/sched.h> and <linux/mount.h>. Python has os.unshare and os.setns from 3.12 on, mount(2) never.
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

_OWN = "/proc/thread-self/ns/net"
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_CANNOT_RETURN = 70  # EX_SOFTWARE of <sysexits.h>

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


# -- system calls ----------------------------------------------------------------------------------------------------------


def _called(result: int, call: str, path: str | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", path)


def unshare(flags: int) -> None:
    """Gives the calling thread namespaces of its own (unshare(2)). With CLONE_NEWPID it is the next child that gets one."""
    _called(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Moves the calling thread into the namespace behind `fd` (setns(2)); for good: `inside` is the way that leads back."""
    _called(_libc.setns(fd, kind), "setns")


def mount(source: str | Path, target: str | Path, filesystem: str = "", flags: int = 0, options: str = "") -> None:
    given = [os.fsencode(text) or None for text in (source, target, filesystem)]
    _called(_libc.mount(*given, flags, options.encode() or None), "mount", str(target))


def umount(target: str | Path, flags: int = 0) -> None:
    _called(_libc.umount2(os.fsencode(target), flags), "umount", str(target))


# -- entering --------------------------------------------------------------------------------------------------------------


class _Elsewhere:
    """A stay of the calling thread in another network namespace.

    A class and no generator: an interrupt (Ctrl-C) between a generator's `yield` and the body would leave the thread where it is not at home.
    """

    def __init__(self, go: Callable[[], None]) -> None:
        self._go = go

    def __enter__(self) -> None:
        self._home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._go()
        except BaseException:
            self._return()
            raise

    def __exit__(self, *_: object) -> None:
        self._return()

    def _return(self) -> None:
        try:
            setns(self._home)
        except OSError as error:
            if not os.path.samestat(os.fstat(self._home), os.stat(_OWN)):  # who was not let in need not be let out
                _end(error)
        except BaseException:  # an interrupt before the call
            setns(self._home)
            raise
        finally:
            os.close(self._home)


def inside(namespace: str | Path | int) -> _Elsewhere:
    """`with inside(path_or_fd):` the calling thread is in that network namespace, and afterwards where it was, whatever happens.

    Sockets stay where they were opened. Other threads do not move, child processes started meanwhile do. FileNotFoundError when there is no such
    namespace, OSError when it may not be entered. Python may raise an interrupt (Ctrl-C) on the way out, before anything can be done about it: a
    process that is to go on after one enters namespaces in a thread that is not its main one.
    """
    return _Elsewhere(lambda: _enter(namespace))


def _enter(namespace: str | Path | int) -> None:
    if isinstance(namespace, int):
        return setns(namespace)
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd)
    finally:
        os.close(fd)
    return None


def _end(error: OSError) -> NoReturn:
    os.write(2, f"vxtool: this thread cannot return to its network namespace ({error.strerror}); the process ends\n".encode())
    os._exit(_CANNOT_RETURN)


# -- making ----------------------------------------------------------------------------------------------------------------


def create(name: str, folder: Path = NETNS) -> None:
    """A new network namespace with IPv6 off and `lo` up, under this name; the caller stays where it is. FileExistsError when the name is taken."""
    place = _place(name, folder)
    os.close(os.open(place, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        with _Elsewhere(lambda: unshare(CLONE_NEWNET)):
            settle()
            mount(_OWN, place, flags=MS_BIND)
    except BaseException:
        place.unlink()
        raise


def remove(name: str, folder: Path = NETNS) -> None:
    """Takes the name away; the kernel frees the namespace, some milliseconds later, when no process, socket or open file is left in it."""
    place = _place(name, folder)
    if not place.exists():
        raise FileNotFoundError(errno.ENOENT, f"there is no namespace {name}")
    try:
        umount(place, MNT_DETACH)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file on which nothing was mounted: whoever made it was killed
            raise
    place.unlink()


def _place(name: str, folder: Path) -> Path:
    if "/" in name or name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "not a name for a namespace", name)
    return folder / name


def settle() -> None:
    """What every namespace of a lab has from the start: IPv6 off (before a link goes up: multicast on large bridges eats a core), `lo` up."""
    for which in ("all", "default"):
        try:
            sysctl(f"net.ipv6.conf.{which}.disable_ipv6", "1")
        except FileNotFoundError:  # a kernel without IPv6
            break
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name, flags = struct.unpack("16sh", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))[:18])
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | _IFF_UP))


def sysctl(key: str, value: str) -> None:
    """Writes a setting of the namespace in which the calling thread is. Dots and slashes of `key` as sysctl(8) reads them: a slash is a dot in a
    name (`net.ipv4.conf.eth0/100.rp_filter`). FileNotFoundError when the kernel has no such setting."""
    place = "/proc/sys/" + key.translate({ord("."): "/", ord("/"): "."})
    fd = os.open(place, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def private_world(own: str = "switches") -> None:
    """Takes the calling process (which must have one thread) into mount and network namespaces of its own, for good.

    No mount made from here on reaches the machine. `/run/netns` is an empty tmpfs but for `own`, the name of the network namespace the process is in
    now. MissingFeature when this process may not do that.
    """
    try:
        NETNS.mkdir(mode=0o755, exist_ok=True)  # the only thing the machine keeps; `ip netns` leaves it too
        unshare(CLONE_NEWNS | CLONE_NEWNET)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        raise MissingFeature("a lab makes network and mount namespaces, which only root may: run it as root (sudo)") from error
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", NETNS, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    settle()
    (NETNS / own).touch(0o444)
    mount(_OWN, NETNS / own, flags=MS_BIND)
