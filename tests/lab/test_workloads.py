"""What ships with the tool to run in containers: which images there are, and what their programs say over the wire. Needs no lab and no root."""

from __future__ import annotations

import http.client
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from vxtool.errors import UsageError
from vxtool.lab import images
from vxtool.lab.workloads import echo, httpd, serving

# -- images ----------------------------------------------------------------------------------------------------------------

REFERENCES = {
    "httpd": "httpd",
    "httpd:2.4": "httpd",
    "library/httpd:latest": "httpd",
    "docker.io/library/echo": "echo",
    "echo@sha256:0123456789abcdef": "echo",
    "httpd:2.4@sha256:0123456789abcdef": "httpd",
    "host": "host",
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_tag_or_a_digest_means_nothing(reference):
    assert images.find(reference).name == REFERENCES[reference]


UNKNOWN = {
    "nginx": "nginx:latest",
    "nginx:1.27": "nginx:1.27",
    "example.com:5000/httpd": "example.com:5000/httpd:latest",
    "me/httpd": "me/httpd:latest",
    "nginx@sha256:01": "nginx@sha256:01",
    "": ":latest",
}


@pytest.mark.parametrize("reference", UNKNOWN)
def test_an_unknown_image_is_refused_as_a_docker_task_is(reference):
    with pytest.raises(UsageError) as raised:
        images.find(reference)
    assert str(raised.value) == f"No such image: {UNKNOWN[reference]}"


# -- a server --------------------------------------------------------------------------------------------------------------


def served(listen: Callable[..., Callable[[], object]]) -> Iterator[int]:
    """The port of one that runs, forked as in a container."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            serve = listen({"PORT": str(port)})
            os.write(telling, b".")
            serve()
        finally:
            os._exit(1)
    os.read(ready, 1)
    yield port
    assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it has ended by itself"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    yield from served(httpd.listen)


@pytest.fixture(scope="module")
def parrot() -> Iterator[int]:
    yield from served(echo.listen)


def told(port: int, said: bytes, close: bool = True) -> bytes:
    """All that a server answers until it, or (`close`) we, have nothing more to say."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(said)
        if close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
        return answer


# -- httpd -----------------------------------------------------------------------------------------------------------------

ANSWERS = {
    "the page": (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
    "the page, asked for in full": (b"GET http://web/ HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200 OK"),
    "the page, with a query": (b"GET /?a=b HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
    "lines that end with a line feed alone": (b"GET / HTTP/1.0\n\n", b"HTTP/1.1 200 OK"),
    "an empty line before it": (b"\r\nGET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
    "who it is": (b"GET /hostname HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
    "another page": (b"GET /nope HTTP/1.0\r\n\r\n", b"HTTP/1.1 404 Not Found"),
    "another method": (b"DELETE / HTTP/1.0\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
    "HTTP/1.1 without a host": (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
    "a field that is none": (b"GET / HTTP/1.0\r\nno field\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
    "a folded field": (b"GET / HTTP/1.0\r\nA: b\r\n c\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
    "a later HTTP": (b"GET / HTTP/2.0\r\n\r\n", b"HTTP/1.1 505 HTTP Version Not Supported"),
    "a head without end": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000, b"HTTP/1.1 431 Request Header Fields Too Large"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_httpd_answers(web, what):
    asked, answer = ANSWERS[what]
    said = told(web, asked, close=False)
    assert said.startswith(answer + b"\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head


def test_httpd_says_that_it_works(web):
    assert told(web, b"GET / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")[2] == b"<html><body><h1>It works!</h1></body></html>\n"


def test_httpd_says_its_name_and_addresses_but_not_its_loopback(web):
    name, *addresses = told(web, b"GET /hostname HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")[2].decode().split()
    assert name == socket.gethostname()
    assert addresses == httpd.addresses()
    assert not any(address.startswith("127.") for address in addresses)


def test_a_head_is_answered_without_a_body(web):
    get, head = (told(web, method + b" / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n") for method in (b"GET", b"HEAD"))
    without_date = lambda fields: re.sub(rb"Date: [^\r]*", b"", fields)  # noqa: E731
    assert without_date(head[0]) == without_date(get[0])
    assert head[2] == b""


def test_a_connection_is_used_again_in_http_1_1_and_when_1_0_asks_for_it(web):
    connection = http.client.HTTPConnection("127.0.0.1", web, timeout=5)
    for _ in range(3):
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"<html><body><h1>It works!</h1></body></html>\n"
    assert told(web, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2).count(b"It works!") == 2
    assert told(web, b"GET / HTTP/1.0\r\n\r\n" * 2).count(b"It works!") == 1
    assert told(web, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" * 2, close=False).count(b"It works!") == 1


def test_requests_that_come_together_or_in_pieces_are_all_answered(web):
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert told(web, request * 50).count(b"It works!") == 50
    with socket.create_connection(("127.0.0.1", web), 5) as connection:
        for byte in request:
            connection.send(bytes([byte]))
        assert b"It works!" in connection.recv(1 << 16)


def test_what_comes_with_a_request_is_not_taken_for_another(web):
    smuggled = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.0\r\n\r\n"
    assert told(web, smuggled).count(b"HTTP/1.1 ") == 1


def test_httpd_survives_everything(web):
    chance = random.Random(5)
    seeds = [said for said, _ in ANSWERS.values() if len(said) < 1000]
    for _ in range(300):
        said = bytearray(chance.choice(seeds) * 2)
        for _ in range(chance.randrange(1, 6)):
            said[chance.randrange(len(said))] = chance.randrange(256)
        with socket.create_connection(("127.0.0.1", web), 5) as connection:
            connection.send(said[: chance.randrange(1, len(said))])
    assert b"It works!" in told(web, b"GET / HTTP/1.0\r\n\r\n")


def test_a_hundred_silent_connections_keep_nobody_waiting(web):
    idle = [socket.create_connection(("127.0.0.1", web), 5) for _ in range(100)]
    begun = time.monotonic()
    assert b"It works!" in told(web, b"GET / HTTP/1.0\r\n\r\n")
    assert time.monotonic() - begun < 1
    for connection in idle:
        connection.close()


def test_when_all_places_are_taken_who_comes_waits_and_is_served_later(web):
    taken = [socket.create_connection(("127.0.0.1", web), 5) for _ in range(serving.PLACES)]
    late = socket.create_connection(("127.0.0.1", web), 5)
    late.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert not select.select([late], [], [], 0.3)[0]
    for connection in taken:
        connection.close()
    assert b"It works!" in late.recv(1 << 16)


def test_a_request_is_written_down_with_nothing_dangerous_in_it(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(httpd, "write", lines.append)
    httpd.Browser("10.0.1.4").heard(b'GET /"\x1b[2J HTTP/1.0\r\n\r\n')
    assert re.fullmatch(r'10\.0\.1\.4 - - \[.*\] "GET /\\x22\\x1b\[2J HTTP/1\.0" 400 16', lines[0])


PORTS = {"": 80, "8080": 8080, "65535": 65535}


@pytest.mark.parametrize("text", PORTS)
def test_the_port_is_that_of_the_environment(text):
    assert serving.port_of({"PORT": text}, 80) == PORTS[text]


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "8 0", "٨٠"])
def test_a_port_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="a number from 1 to 65535 is wanted"):
        serving.port_of({"PORT": text}, 80)


# -- echo ------------------------------------------------------------------------------------------------------------------


def test_echo_says_what_it_hears(parrot):
    much = random.Random(1).randbytes(200_000)
    assert told(parrot, b"hello") == b"hello"
    assert told(parrot, much) == much


def test_who_does_not_read_is_not_listened_to_for_ever(parrot):
    with socket.create_connection(("127.0.0.1", parrot), 5) as connection:
        connection.setblocking(False)
        sent = 0
        for _ in range(100_000):
            try:
                sent += connection.send(bytes(1 << 16))
            except BlockingIOError:
                if not select.select([], [connection], [], 0.3)[1]:
                    break
        assert sent < 64 << 20
    assert told(parrot, b"still here") == b"still here"


def test_echo_answers_datagrams_of_every_length(parrot):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(5)
        for length in (0, 1, 1400, 65507):
            datagrams.sendto(bytes(length), ("127.0.0.1", parrot))
            assert datagrams.recvfrom(1 << 16) == (bytes(length), ("127.0.0.1", parrot))


def test_two_echo_servers_do_not_talk_to_each_other_for_ever():
    ours = echo._udp(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind(("127.0.0.1", 0))
        theirs.sendto(b"hello", ("127.0.0.1", ours.getsockname()[1]))
        echo._answer_datagrams(ours, {theirs.getsockname()[1]})
        assert not select.select([theirs], [], [], 0.1)[0]
        theirs.sendto(b"hello", ("127.0.0.1", ours.getsockname()[1]))
        echo._answer_datagrams(ours, {7})
        assert theirs.recv(100) == b"hello"
    ours.close()


def test_echo_answers_from_the_address_that_was_asked(parrot):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(5)
        datagrams.sendto(b"hello", ("127.0.0.9", parrot))
        assert datagrams.recvfrom(100) == (b"hello", ("127.0.0.9", parrot))


# -- what they cost --------------------------------------------------------------------------------------------------------


def test_nothing_is_imported_when_a_request_comes():
    """The user a container runs as may not be able to read this machine's Python."""
    script = """
import socket, sys
from vxtool.lab import images
for image in images.IMAGES: assert image.listen is None or image.listen({"PORT": str(40000 + len(image.name))})
from vxtool.lab.workloads import echo, httpd
httpd.write = lambda text: None
browser = httpd.Browser("10.0.1.4")
before = set(sys.modules)
browser.heard(b"GET /hostname HTTP/1.0\\r\\n\\r\\n")
httpd.Browser("10.0.1.4").heard(b"\\xff\\r\\n\\r\\n")
print(sorted(set(sys.modules) - before))
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
