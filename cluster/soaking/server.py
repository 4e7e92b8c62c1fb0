"""A server to be killed: HTTP (fixed and chunked bodies, uploads, WebSocket) on one port, an echo on the next.

Run as `server.py ID ADDRESS PORT`. Every answer says who gave it, so that a client knows whose death broke it.
"""

import asyncio
import base64
import hashlib
import random
import struct
import sys
import zlib

CONTENT = random.Random(7).randbytes(4 << 20)
CHUNK = 100_000
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def read_body(reader, fields):
    """Its length and checksum."""
    count, checksum = 0, 0
    if fields.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            checksum = zlib.crc32((await reader.readexactly(size + 2))[:-2], checksum)
            count += size
        await reader.readline()
        return count, checksum
    left = int(fields.get("content-length", 0))
    while left:
        piece = await reader.read(min(left, 1 << 18))
        if not piece:
            raise ConnectionError
        checksum, count, left = zlib.crc32(piece, checksum), count + len(piece), left - len(piece)
    return count, checksum


async def echo_frames(name, reader, writer, key):
    accept = base64.b64encode(hashlib.sha1(key.encode() + WEBSOCKET).digest()).decode()
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 f"Sec-WebSocket-Accept: {accept}\r\nX-Who: {name}\r\n\r\n".encode())
    while True:
        first, length = await reader.readexactly(2)
        length &= 0x7F
        if length == 126:
            length = struct.unpack(">H", await reader.readexactly(2))[0]
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(length)
        text = (int.from_bytes(masked, "big") ^ int.from_bytes((mask * (length // 4 + 1))[:length], "big"))
        text = text.to_bytes(length, "big")
        size = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length)
        writer.write(bytes([first]) + size + text)
        await writer.drain()
        if first & 0xF == 8:
            return


async def serve_http(name, reader, writer):
    while line := await reader.readline():
        method, target, _ = line.decode().split()
        fields = {}
        while (field := await reader.readline()) not in (b"\r\n", b""):
            key, _, value = field.decode().partition(":")
            fields[key.strip().lower()] = value.strip()
        if target == "/ws":
            return await echo_frames(name, reader, writer, fields["sec-websocket-key"])
        count, checksum = await read_body(reader, fields)
        kind, _, number = target.strip("/").partition("/")
        head = f"HTTP/1.1 200 OK\r\nX-Who: {name}\r\nX-For: {fields.get('x-forwarded-for')}\r\n"
        if method == "POST":
            body = f"{count} {checksum}".encode()
        else:
            body = CONTENT[:int(number or 2)]
        if kind == "chunked":
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for at in range(0, len(body), CHUNK):
                piece = body[at:at + CHUNK]
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


async def serve_echo(name, reader, writer):
    writer.write(f"{name}\n".encode())
    while piece := await reader.read(1 << 18):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()


def served_by(serve, name):
    async def run(reader, writer):
        try:
            await serve(name, reader, writer)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
    return run


async def main(name, address, port):
    await asyncio.start_server(served_by(serve_http, name), address, port, backlog=1024)
    await asyncio.start_server(served_by(serve_echo, name), address, port + 1, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
