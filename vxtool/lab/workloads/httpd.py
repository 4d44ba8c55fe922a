"""A web server: says that it works, and who it is.

Knows HTTP/1.0 and 1.1 (RFC 9110, 9112) as far as two pages need it; refuses everything else with the status that tells why. Port 80, or $PORT.

    /            It works!
    /hostname    the host's name, and each of its addresses on a line of its own: which of the replicas has answered
"""

from __future__ import annotations

import array
import fcntl
import re
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from vxtool.lab.workloads.serving import port_of, serve, tcp, write

__all__ = ["addresses", "listen"]

PORT = 80
PATIENCE = 60.0  # seconds a connection may be silent
_LONGEST_HEAD = 16 << 10

_SIOCGIFCONF = 0x8912
_IFREQ = 40  # bytes of a struct ifreq on 64-bit machines: a name of 16, a sockaddr in 24

_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    505: "HTTP Version Not Supported",
}


def listen(env: Mapping[str, str]) -> Callable[[], NoReturn]:
    listener = tcp(port_of(env, PORT))
    return lambda: serve(listener, lambda _, peer: Browser(peer), patience=PATIENCE)


def _it_works() -> tuple[str, str]:
    return "text/html", "<html><body><h1>It works!</h1></body></html>\n"


def _hostname() -> tuple[str, str]:
    return "text/plain", "".join(f"{line}\n" for line in (socket.gethostname(), *addresses()))


_PAGES: Mapping[str, Callable[[], tuple[str, str]]] = {"/": _it_works, "/index.html": _it_works, "/hostname": _hostname}


class Browser:
    """A connection to one: requests in, responses out, in order."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._unread = b""

    def heard(self, data: bytes) -> tuple[bytes, bool]:
        self._unread += data
        said, going_on = b"", bool(data)
        while going_on:
            head, end, rest = _head(self._unread)
            if not end:
                if len(head) <= _LONGEST_HEAD:
                    return said, True
                head, rest, answer, going_on = head[:64], b"", _response(431, close=True), False
            else:
                answer, going_on = _answer(head)
            self._unread = rest
            said += answer
            self._tell(head, answer)
        return said, going_on

    def _tell(self, head: bytes, answer: bytes) -> None:
        """A line of the log, as other servers write it ("Common Log Format")."""
        asked = "".join(_SHOWN[byte] for byte in head.partition(b"\n")[0].rstrip(b"\r"))
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        write(f'{self._peer} - - [{when}] "{asked}" {answer[9:12].decode()} {len(answer) - answer.index(_BLANK) - len(_BLANK)}')


# By hand: Python's own escapes are a module that it imports when they are wanted, and the user we are may not be able to read it.
_SHOWN = [chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}" for byte in range(256)]
_BLANK = b"\r\n\r\n"


def _head(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Up to the empty line, that line, and what follows. Lines may end with a bare line feed, and empty ones may come first (RFC 9112, 2.2)."""
    data = data.lstrip(b"\r\n")
    found = re.search(rb"\r?\n\r?\n", data)
    if found is None:
        return data, b"", b""
    return data[: found.start()], found.group(), data[found.end() :]


def _answer(head: bytes) -> tuple[bytes, bool]:
    """The response to a request, and whether another may follow."""
    first, *lines = re.split(rb"\r?\n", head)
    request = _REQUEST.fullmatch(first)
    if request is None:
        return _response(505 if re.fullmatch(rb"\S+ \S+ HTTP/[02-9]\.\d", first) else 400, close=True), False
    method, target, minor = request.group(1).decode(), request.group(2).decode("latin-1"), int(request.group(3))
    fields = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return _response(400, close=True), False
        fields[field.group(1).lower()] = field.group(2).lower()
    if minor == 1 and b"host" not in fields:
        return _response(400, close=True), False
    options = [option.strip() for option in fields.get(b"connection", b"").split(b",")]
    # What a body would be is not read, so nothing may follow one.
    body = b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"
    close = body or b"close" in options or (minor == 0 and b"keep-alive" not in options)
    if method not in ("GET", "HEAD"):
        return _response(405, close=close), not close
    target = re.sub(r"^http://[^/?]*", "", target, flags=re.IGNORECASE) or "/"
    page = _PAGES.get(target.partition("?")[0])
    kind, text = page() if page is not None else ("text/plain", "404 Not Found\n")
    return _response(200 if page is not None else 404, kind, text, close=close, alive=minor == 0, silent=method == "HEAD"), not close


def _response(status: int, kind: str = "text/plain", text: str = "", *, close: bool = False, alive: bool = False, silent: bool = False) -> bytes:
    text = text or f"{status} {_REASONS[status]}\n"
    body = text.encode()
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}",
        "Server: vxtool",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    ]
    lines += ["Allow: GET, HEAD"] if status == 405 else []
    lines += ["Connection: close"] if close else ["Connection: keep-alive"] if alive else []
    return "\r\n".join(lines).encode() + _BLANK + (b"" if silent else body)


def addresses() -> list[str]:
    """The IPv4 addresses of the host, but for its own loopback (netdevice(7), SIOCGIFCONF)."""
    room = array.array("B", bytes(_IFREQ * 256))
    place, length = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFCONF, struct.pack("@iP", length, place))
    used = struct.unpack("@iP", answer)[0]
    found = [socket.inet_ntoa(room[begin + 20 : begin + 24].tobytes()) for begin in range(0, used, _IFREQ)]
    return [address for address in found if not address.startswith("127.")]
