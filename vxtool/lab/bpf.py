"""Capture filters: the language of tcpdump, as the classic BPF program that a packet socket runs in the kernel.

Knows libpcap, which compiles them; attaches nothing (lab/sniff.py does).
"""

from __future__ import annotations

import ctypes
import struct
from functools import cache

from vxtool.errors import LabError, MissingFeature, UsageError

__all__ = ["NOTHING", "WHOLE", "compile_filter", "everything"]

WHOLE = 0xFFFFFFFF
"""The number of bytes that a filter answers to keep all of a frame."""

_LIBRARIES = ("libpcap.so.1", "libpcap.so.0.8")  # as upstream names it, as Debian does
_RETURN = 0x06  # BPF_RET | BPF_K
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, k
_NETMASK_UNKNOWN = 0xFFFFFFFF

NOTHING = _INSTRUCTION.pack(_RETURN, 0, 0, 0)
"""The program that keeps no frame."""


def everything(snaplen: int = 0) -> bytes:
    """The program that keeps every frame: `snaplen` bytes of it, 0 for all."""
    return _INSTRUCTION.pack(_RETURN, 0, 0, snaplen or WHOLE)


class _Program(ctypes.Structure):
    """struct bpf_program."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


@cache
def _libpcap() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_create.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        library.pcap_create.restype = ctypes.c_void_p
        library.pcap_activate.argtypes = library.pcap_close.argtypes = library.pcap_geterr.argtypes = (ctypes.c_void_p,)
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_compile.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint)
        library.pcap_freecode.argtypes = (ctypes.c_void_p,)
        return library
    raise MissingFeature("a filter needs libpcap, which is not here: apt-get install libpcap0.8, or capture without a filter")


def compile_filter(text: str, snaplen: int = 0) -> bytes:
    """The program (struct sock_filter, one after the other) that keeps `snaplen` bytes (0: all) of each frame that matches.

    Must be called inside a namespace whose `lo` is up: only for a live device does libpcap look for VLAN tags where the kernel keeps them, which is
    not in the frame. UsageError for what is no filter, MissingFeature without libpcap.
    """
    if "\0" in text:
        raise UsageError("the filter has a zero byte in it")
    pcap = _libpcap()
    why = ctypes.create_string_buffer(256)
    handle = pcap.pcap_create(b"lo", why)
    if not handle:
        raise LabError(f"libpcap opens nothing to compile a filter for: {why.value.decode(errors='replace')}")
    try:
        if pcap.pcap_activate(handle) < 0:
            raise LabError(f"libpcap opens no device to compile a filter for: {pcap.pcap_geterr(handle).decode(errors='replace')}")
        program = _Program()
        if pcap.pcap_compile(handle, ctypes.byref(program), text.encode(), 1, _NETMASK_UNKNOWN) != 0:
            raise UsageError(f"the filter {text!r} cannot be understood: {pcap.pcap_geterr(handle).decode(errors='replace')} (pcap-filter(7))")
        compiled = ctypes.string_at(program.instructions, program.length * _INSTRUCTION.size)
        pcap.pcap_freecode(ctypes.byref(program))
    finally:
        pcap.pcap_close(handle)
    # libpcap's answer for a match is its own largest snap length, 256 KiB.
    return b"".join(
        _INSTRUCTION.pack(code, yes, no, (snaplen or WHOLE) if code == _RETURN and k else k)
        for code, yes, no, k in _INSTRUCTION.iter_unpack(compiled)
    )
