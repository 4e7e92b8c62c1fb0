"""A WebSocket client of RFC 6455 in a few lines of Python's standard library: no extension, no TLS."""
import base64
import hashlib
import os
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocket:
    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=90)
        self.stream = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        status = self.stream.readline()
        assert status.startswith(b"HTTP/1.1 101 "), status
        fields = {}
        while line := self.stream.readline().strip():
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip()
        wanted = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert fields["sec-websocket-accept"] == base64.b64encode(wanted).decode(), fields
        assert fields["upgrade"].lower() == "websocket" and "upgrade" in fields["connection"].lower(), fields

    def send(self, opcode, payload, final=True):
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else (
            struct.pack("!BH", 0xfe, size) if size < 65536 else struct.pack("!BQ", 0xff, size))
        mask = os.urandom(4)
        # XOR of all of it at once, as one large number.
        whole = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        self.socket.sendall(bytes([0x80 * final | opcode]) + length + mask + whole.to_bytes(size, "big"))

    def receive(self):
        """(opcode, payload, whether it is the message's last frame)."""
        first, second = self.exactly(2)
        assert second < 128, "a server doesn't mask"
        size = second
        if size == 126:
            size, = struct.unpack("!H", self.exactly(2))
        elif size == 127:
            size, = struct.unpack("!Q", self.exactly(8))
        return first & 15, self.exactly(size), first >= 128

    def exactly(self, count):
        data = self.stream.read(count)
        assert len(data) == count, f"the connection ended after {len(data)} of {count} bytes"
        return data

    def is_over(self):
        return self.stream.read(1) == b""

    def close(self):
        self.stream.close()
        self.socket.close()
