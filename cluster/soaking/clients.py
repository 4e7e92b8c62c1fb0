"""The clients: each kind is a coroutine that makes one connection's worth of requests and says what became of each."""

import asyncio
import base64
import os
import random
import socket
import struct
import time
import zlib

from node import PATIENCE_SECONDS
from server import CONTENT

SIZES = [0, 22, 1_000, 16_384, 65_536, 200_000]
LARGE = [300_000, 1 << 20, 4 << 20]


class Broken(Exception):
    """A request that failed: what was seen, the server that had begun to answer it, whether it may be repeated."""

    def __init__(self, what, who=None, repeatable=True):
        super().__init__(what)
        self.what, self.who, self.repeatable = what, who, repeatable


class Wire:
    """One connection to the node."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.who, self.repeatable, self.begun = None, True, 0.0
        self.limit = None

    def goes_on(self):
        """What comes next has its own time."""
        self.limit.reschedule(asyncio.get_running_loop().time() + PATIENCE_SECONDS)

    def reset(self):
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, expects=200):
        """A whole response: its body and whether the connection goes on."""
        self.goes_on()
        self.who = None
        line = await self.reader.readline()
        if not line:
            raise Broken("closed without an answer")
        status, fields = int(line.split()[1]), {}
        while (field := await self.reader.readline()) not in (b"\r\n", b""):
            key, _, value = field.decode().partition(":")
            fields[key.lower()] = value.strip()
        self.who = fields.get("x-who")
        if fields.get("transfer-encoding") == "chunked":
            body = bytearray()
            while size := int(await self.reader.readline() or b"x", 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        else:
            body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        if status != expects:
            raise Broken(f"status {status}", self.who)
        return bytes(body), fields.get("connection") != "close", fields


class Clients:
    def __init__(self, ports, tally):
        self.ports, self.tally = ports, tally
        self.random = random.Random(1)
        self.stopping = False

    async def open(self, kind="http", source=None):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.ports[kind], limit=1 << 18, local_addr=source and (source, 0))
        return Wire(reader, writer)

    async def forever(self, kind):
        """Connections of one kind, one after the other."""
        make = getattr(self, kind)
        while not self.stopping:
            begun, wire = time.monotonic(), None
            try:
                wire = await self.open("tcp" if kind.startswith("stream") else "http",
                                       "127.0.0.9" if kind == "proxied" else None)
                wire.begun = begun
                async with asyncio.timeout(PATIENCE_SECONDS) as wire.limit:
                    await make(wire)
            except Broken as broken:
                self.tally.failed(
                    kind, broken.what, broken.who or wire.who, broken.repeatable and wire.repeatable, wire.begun)
            except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
                what = type(error).__name__
                if wire is None:
                    # A TCP frontend connects to a server before anything is said.
                    self.tally.failed(kind, f"{what} when connecting", None, not kind.startswith("stream"), begun)
                else:
                    self.tally.failed(kind, what, wire.who, wire.repeatable, wire.begun)
            finally:
                if wire:
                    wire.writer.close()
            await asyncio.sleep(self.random.random() * 0.02)

    async def ask(self, wire, path, source=None):
        wire.begun, wire.repeatable, wire.who = time.monotonic(), True, None
        size = int(path.rpartition("/")[2])
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: soak\r\n\r\n".encode())
        body, keeps, fields = await wire.answer()
        if body != CONTENT[:size]:
            raise Broken(f"{len(body)} bytes that aren't the {size} asked for", wire.who)
        if source and fields["x-for"] != source:
            raise Broken(f"the client was taken for {fields['x-for']}")
        self.tally.done()
        return keeps

    async def kept(self, wire):
        for _ in range(self.random.randrange(1, 200)):
            form = self.random.choice(["bytes", "bytes", "chunked"])
            if not await self.ask(wire, f"/{form}/{self.random.choice(SIZES)}") or self.stopping:
                return
            await asyncio.sleep(self.random.random() * 0.01)

    async def fresh(self, wire):
        await wire.send(b"GET /bytes/500 HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")
        body, keeps, _ = await wire.answer()
        if body != CONTENT[:500] or keeps or await wire.reader.read():
            raise Broken("not the answer, or more than it")
        self.tally.done()

    async def pipelined(self, wire):
        sizes = [self.random.choice(SIZES) for _ in range(5)]
        await wire.send(b"".join(f"GET /bytes/{size} HTTP/1.1\r\nHost: soak\r\n\r\n".encode() for size in sizes))
        for size in sizes:
            body, keeps, _ = await wire.answer()
            if body != CONTENT[:size]:
                raise Broken("answers in the wrong order")
            self.tally.done()
            if not keeps:
                return

    async def large(self, wire):
        for _ in range(3):
            form = self.random.choice(["bytes", "chunked"])
            if not await self.ask(wire, f"/{form}/{self.random.choice(LARGE)}") or self.stopping:
                return

    async def slow(self, wire):
        """Reads a large body in small pieces with pauses."""
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        size = 1 << 20
        await wire.send(f"GET /bytes/{size} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n".encode())
        got = bytearray()
        while piece := await wire.reader.read(20_000):
            got += piece
            wire.goes_on()
            if wire.who is None and (end := got.find(b"\r\n\r\n")) >= 0:
                lines = got[:end].decode().lower().split("\r\n")[1:]
                wire.who = dict(line.split(": ", 1) for line in lines).get("x-who")
            await asyncio.sleep(0.01)
        if bytes(got[-size:]) != CONTENT[:size]:
            raise Broken(f"cut after {len(got)} bytes")
        self.tally.done()

    async def loris(self, wire):
        """Never ends its head: must be told so, or closed, when its time is over."""
        await wire.send(b"GET / HTTP/1.1\r\nHost: soak\r\n")
        try:
            for _ in range(100):
                await wire.send(b"X: y\r\n")
                try:
                    await asyncio.wait_for(wire.reader.readline(), 0.2)
                    break
                except TimeoutError:
                    continue
            else:
                raise Broken("a head that doesn't end was waited for")
        except OSError:
            pass
        self.tally.done("refused as it should be")

    async def garbage(self, wire):
        await wire.send(self.random.choice([
            b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"]))
        line = await wire.reader.readline()
        if not line.startswith(b"HTTP/1.1 400"):
            raise Broken(f"garbage was answered with {line!r}")
        self.tally.done("refused as it should be")

    async def resetting(self, wire):
        """Goes away at any moment of a request."""
        await wire.send(self.random.choice([
            b"", b"GET /by", b"GET /bytes/4000000 HTTP/1.1\r\nHost: soak\r\n\r\n",
            b"POST /upload HTTP/1.1\r\nHost: soak\r\nContent-Length: 900000\r\n\r\n" + CONTENT[:100_000]]))
        await asyncio.sleep(self.random.choice([0, 0.001, 0.05]))
        wire.reset()
        self.tally.done("reset by the client")

    async def upload(self, wire):
        for _ in range(3):
            size = self.random.choice([10, 5_000, 70_000, 1 << 20])
            wire.begun, wire.repeatable, wire.who = time.monotonic(), False, None
            head = b"POST /upload HTTP/1.1\r\nHost: soak\r\n"
            if self.random.random() < 0.5:
                await wire.send(head + f"Content-Length: {size}\r\n\r\n".encode())
                await wire.send(CONTENT[:size])
            else:
                await wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for at in range(0, size, 50_000):
                    piece = CONTENT[at:min(size, at + 50_000)]
                    await wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    if self.random.random() < 0.1:
                        await asyncio.sleep(0.1)
                await wire.send(b"0\r\n\r\n")
            body, keeps, _ = await wire.answer()
            if body != f"{size} {zlib.crc32(CONTENT[:size])}".encode():
                raise Broken(f"an upload of {size} arrived as {body!r}", wire.who, False)
            self.tally.done()
            if not keeps or self.stopping:
                return

    async def proxied(self, wire):
        """From an address whose connections begin with a PROXY header."""
        if self.random.random() < 0.5:
            await wire.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1000 80\r\n")
        else:
            await wire.send(
                server_signature() + b"\x21\x11\x00\x0c" + socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1")
                + struct.pack(">HH", 1000, 80))
        for _ in range(3):
            if not await self.ask(wire, f"/bytes/{self.random.choice(SIZES)}", source="192.0.2.7"):
                return

    async def stream(self, wire):
        """A TCP connection: what is sent comes back, the end, too."""
        wire.repeatable = False
        wire.who = (await wire.reader.readline()).decode().strip()
        if not wire.who:
            raise Broken("closed at once")
        for _ in range(self.random.randrange(1, 10)):
            wire.goes_on()
            at = self.random.randrange(1 << 20)
            sent = CONTENT[at:at + self.random.choice([10, 1_000, 30_000, 1 << 20])]
            sending = asyncio.create_task(wire.send(sent))
            try:
                if await wire.reader.readexactly(len(sent)) != sent:
                    raise Broken("an echo of something else", wire.who, False)
                await sending
            finally:
                sending.cancel()
            self.tally.done()
            await asyncio.sleep(self.random.random() * 0.05)
        wire.writer.write_eof()
        if await wire.reader.read():
            raise Broken("more than the echo", wire.who, False)

    async def streamreset(self, wire):
        wire.repeatable = False
        wire.who = (await wire.reader.readline()).decode().strip()
        wire.writer.write(CONTENT[:200_000])
        await asyncio.sleep(self.random.random() * 0.02)
        wire.reset()
        self.tally.done("reset by the client")

    async def websocket(self, wire):
        key = base64.b64encode(os.urandom(16)).decode()
        await wire.send(
            f"GET /ws HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        _, _, _ = await wire.answer(expects=101)
        wire.repeatable = False
        for _ in range(self.random.randrange(1, 30)):
            wire.goes_on()
            text = CONTENT[:self.random.choice([0, 5, 125, 126, 20_000])]
            await wire.send(frame(0x82, text))
            if await wire.reader.readexactly(2 if len(text) < 126 else 4) != head(0x82, len(text), 0):
                raise Broken("a frame of another kind", wire.who, False)
            if await wire.reader.readexactly(len(text)) != text:
                raise Broken("an echo of something else", wire.who, False)
            self.tally.done()
            await asyncio.sleep(self.random.random() * 0.05)
        await wire.send(frame(0x88, b""))
        await wire.reader.readexactly(2)


def server_signature():
    return b"\r\n\r\n\0\r\nQUIT\n"


def head(first, length, masked):
    if length < 126:
        return bytes([first, masked | length])
    return bytes([first, masked | 126]) + struct.pack(">H", length)


def frame(first, text):
    # A mask of zeros leaves the text as it is.
    return head(first, len(text), 0x80) + bytes(4) + text
