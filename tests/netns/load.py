"""A load generator: new connections at a steady pace, connections that are held, datagrams from one socket. Run inside a namespace of a lab.

    python load.py http SECONDS PER_SECOND ADDRESS:PORT...     GET /hostname over a new connection, from each target in turn
    python load.py held SECONDS COUNT ADDRESS:PORT             COUNT connections to an echo, each says a word every 0.1 s
    python load.py get SECONDS ADDRESS:PORT                    GET /hostname once, with so much patience
    python load.py udp SECONDS ADDRESS:PORT                    a datagram to an echo every 20 ms, all from one socket

Prints JSON when the time is up: how many, what failed and when, and (http) who answered whom: target -> backend's address -> how often. `get` prints
the lines of the answer, or what kind of error it was.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

PATIENCE = 5.0  # seconds for an answer
THREADS = 4


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def http(seconds: float, rate: float, *targets: str) -> dict[str, object]:
    by: dict[str, Counter[str]] = {target: Counter() for target in targets}
    failed: list[tuple[float, str, str]] = []
    begin = time.monotonic()
    turn = iter(range(1 << 60))
    lock = threading.Lock()

    def ask() -> None:
        while True:
            with lock:
                number = next(turn)
            due = begin + number / rate
            if due > begin + seconds:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            target = targets[number % len(targets)]
            asked = time.monotonic()
            try:
                answer = page(target)[1]
                with lock:
                    by[target][answer] += 1
            except OSError as error:
                with lock:
                    failed.append((round(asked - begin, 3), target, f"{type(error).__name__}: {error} after {time.monotonic() - asked:.3f} s"))

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"requests": sum(sum(counted.values()) for counted in by.values()), "failed": failed, "by": by}


def once(seconds: float, target: str) -> dict[str, object]:
    try:
        return {"lines": page(target, seconds), "error": ""}
    except OSError as error:
        return {"lines": [], "error": type(error).__name__}


def page(target: str, patience: float = PATIENCE) -> list[str]:
    """The backend's name and addresses, as it says them. OSError when it does not answer as it should."""
    with socket.create_connection(_place(target), patience) as connection:
        connection.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head:
        raise OSError(f"answered {answer[:60]!r}")
    return body.decode().split()


def held(seconds: float, count: float, target: str) -> dict[str, object]:
    begin = time.monotonic()
    failed: list[tuple[float, str]] = []
    open_ones = [socket.create_connection(_place(target), PATIENCE) for _ in range(int(count))]
    print("open", file=sys.stderr, flush=True)
    words = 0
    while time.monotonic() < begin + seconds:
        for connection in list(open_ones):
            try:
                connection.sendall(b"x")
                if connection.recv(16) != b"x":
                    raise OSError("hung up")
                words += 1
            except OSError as error:
                failed.append((round(time.monotonic() - begin, 3), str(error)))
                open_ones.remove(connection)
        time.sleep(0.1)
    return {"words": words, "failed": failed, "open": len(open_ones)}


def udp(seconds: float, target: str) -> dict[str, object]:
    """Silences: (when, how long) nothing came back for more than 0.1 s."""
    begin = last = time.monotonic()
    silences: list[tuple[float, float]] = []
    refused = answered = sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(_place(target))
        one.settimeout(0.02)
        while time.monotonic() < begin + seconds:
            try:
                sent += 1
                one.send(str(sent).encode())
                one.recv(64)
                now = time.monotonic()
                if now - last > 0.1:
                    silences.append((round(last - begin, 3), round(now - last, 3)))
                last, answered = now, answered + 1
                time.sleep(0.02)
            except TimeoutError:
                continue
            except OSError:
                refused += 1
                time.sleep(0.02)
    return {"sent": sent, "answered": answered, "refused": refused, "silences": silences, "silent": round(time.monotonic() - last, 3)}


WORDS: dict[str, Callable[..., dict[str, object]]] = {"http": http, "held": held, "udp": udp, "get": once}

if __name__ == "__main__":
    word, seconds, *rest = sys.argv[1:]
    print(json.dumps(WORDS[word](float(seconds), *(text if ":" in text else float(text) for text in rest))))
