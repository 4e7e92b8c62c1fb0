"""Clients and servers that are quick rather than thorough: they know what they send and how long its answer is."""
import ctypes
import os
import select
import signal
import socket

BODY = b"x" * 65536
CHUNKED = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (BODY[:100], BODY[:30000], BODY[:35000])) + b"0\r\n\r\n"
ANSWERS = {
    b"/small": b'HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Length: 22\r\n\r\n{"message": "API  #1"}',
    b"/large": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    b"/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    b"/upload": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntaken",
}


def bare(target):
    return b"GET %s HTTP/1.1\r\nHost: hot.path\r\nAccept: */*\r\n\r\n" % target


REQUESTS = {
    "kept": bare(b"/small"),
    "closing": b"GET /small HTTP/1.1\r\nHost: hot.path\r\nConnection: close\r\n\r\n",
    "large": bare(b"/large"),
    "chunked": bare(b"/chunked"),
    "upload": b"POST /upload HTTP/1.1\r\nHost: hot.path\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
}


PR_SET_PDEATHSIG = 1
# What clients send that stop in the middle.
STOPPED_BODY = b"PUT /upload HTTP/1.1\r\nHost: hot.path\r\nContent-Length: 131072\r\n\r\n" + BODY[:40_000]
STOPPED_HEAD = b"GET /small HTTP/1.1\r\nHost: hot.path\r\n"


def listener():
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", 0))
    made.listen(1024)
    return made


def start_server(listening):
    """Serves in a process of its own, which ends with this one; its id."""
    child = os.fork()
    if child != 0:
        return child
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        serve(listening)
    finally:
        os._exit(1)


def serve(listening):
    polling = select.epoll()
    polling.register(listening, select.EPOLLIN)
    # By descriptor: the connection, what it sent of a head, and what is to come of a body.
    connections = {}
    while True:
        for descriptor, _ in polling.poll():
            if descriptor == listening.fileno():
                made, _ = listening.accept()
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[made.fileno()] = [made, b"", 0, None]
                polling.register(made, select.EPOLLIN)
                continue
            state = connections[descriptor]
            try:
                data = state[0].recv(1 << 18)
                if not data:
                    raise ConnectionError
                answer(state, data)
            except OSError:
                state[0].close()
                del connections[descriptor]


def answer(state, data):
    connection, held, left, target = state
    data = held + data
    while data:
        if left == 0:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            head, data = data[:end], data[end + 4:]
            target = head.split(b" ", 2)[1]
            at = head.lower().find(b"content-length:")
            left = int(head[at + 15:].split(b"\r\n", 1)[0]) if at >= 0 else 0
        taken = min(left, len(data))
        left, data = left - taken, data[taken:]
        if left == 0:
            connection.sendall(ANSWERS[target])
    state[1:] = [data, left, target]


def length(port, request):
    """How long the answer to a request is."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += receive(connection)
        head, body = data.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200"):
            raise AssertionError(f"answered {head!r}")
        if b"chunked" in head:
            while not data.endswith(b"\r\n0\r\n\r\n"):
                data += receive(connection)
            return len(data)
        return len(data) - len(body) + int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])


def returning(port):
    """A request of a client that has the cookie which it was given."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(REQUESTS["kept"])
        data = b""
        while b"\r\n\r\n" not in data:
            data += receive(connection)
    if b"Set-Cookie: " not in data:
        raise AssertionError(f"answered {data!r}")
    cookie = data.split(b"Set-Cookie: ")[1].split(b";")[0]
    return REQUESTS["kept"].replace(b"Accept", b"Cookie: a=1; %s; b=2\r\nAccept" % cookie)


def begun(port, part):
    """A connection on which a part of a request was sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(part)
    return connection


def receive(connection):
    data = connection.recv(1 << 18)
    if not data:
        raise AssertionError("the connection ended within an answer")
    return data


def run(port, kind, requests, clients):
    """Makes so many requests, each client one at a time, and takes their answers, all of which must be good."""
    request = REQUESTS[kind]
    expected = length(port, request)
    polling = select.epoll()
    # By descriptor: the connection, and how much of an answer is to come.
    states = {}
    begun, ended = 0, 0

    def open_client():
        made = socket.create_connection(("127.0.0.1", port), timeout=60)
        polling.register(made, select.EPOLLIN)
        made.sendall(request)
        states[made.fileno()] = [made, expected]

    for _ in range(min(clients, requests)):
        open_client()
        begun += 1
    while states:
        events = polling.poll(60)
        if not events:
            raise AssertionError(f"no answer for 60 s, {requests - ended} are missing ({kind})")
        for descriptor, _ in events:
            state = states[descriptor]
            data = state[0].recv(1 << 18)
            if not data:
                raise AssertionError(f"a connection ended within an answer ({kind})")
            if state[1] == expected and not data.startswith(b"HTTP/1.1 200"):
                raise AssertionError(f"answered {data[:200]!r} ({kind})")
            state[1] -= len(data)
            if state[1] < 0:
                raise AssertionError(f"an answer is too long ({kind})")
            if state[1] > 0:
                continue
            ended += 1
            if kind != "closing" and begun < requests:
                state[0].sendall(request)
                state[1] = expected
                begun += 1
                continue
            del states[descriptor]
            state[0].close()
            if kind == "closing" and begun < requests:
                open_client()
                begun += 1
    polling.close()
