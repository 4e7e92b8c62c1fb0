"""Reads the fixtures of the proxy's tests (Tests/ProxyTests/FixtureScript.swift says how they are written) as raw
conversations: all that the client sends, and what a server is to get of it.
"""
import glob
import os
import random
import re
from dataclasses import dataclass, field

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ProxyTests", "Fixtures")

# Settings that change how triad's bytes look, and no message's beginning or end. Fixtures with other settings are played
# by the fixture tests only.
HARMLESS = {"forwarded", "hidden", "page"}


@dataclass
class Case:
    file: str
    line: int
    title: str
    sent: bytes = b""
    # What servers are to get, by connection.
    forwarded: list = field(default_factory=lambda: [b""])
    refused: int = 0
    half_closes: bool = False
    settings: list = field(default_factory=list)
    # Changed at random: nobody has said what is to become of it.
    is_mutant: bool = False

    @property
    def name(self):
        return f"{self.file.removesuffix('.txt')}: {self.title}"


class Escapes:
    ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([rnt0\\]))")
    PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}

    def __init__(self, text):
        self.text, self.at = text, 0

    def read(self, end=None):
        out = b""
        while self.at < len(self.text):
            byte = self.text[self.at:self.at + 1]
            if byte == end:
                self.at += 1
                return out
            if byte == b"{":
                self.at += 1
                unit = self.read(b"*")
                digits, _, _ = self.text[self.at:].partition(b"}")
                self.at += len(digits) + 1
                out += unit * int(digits)
            elif byte == b"\\":
                found = self.ESCAPE.match(self.text, self.at)
                if not found:
                    raise ValueError(f"an unknown escape in {self.text!r}")
                out += bytes.fromhex(found[1].decode()) if found[1] else self.PLAIN[found[2]]
                self.at = found.end()
            else:
                out += byte
                self.at += 1
        if end:
            raise ValueError(f"{{ without * in {self.text!r}")
        return out


def read():
    cases = []
    for path in sorted(glob.glob(os.path.join(FOLDER, "*.txt"))):
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
        for number, line in enumerate(lines, 1):
            if line.startswith(b"== "):
                cases.append(Case(os.path.basename(path), number, line[3:].decode()))
            elif line[:3] == b"C> ":
                cases[-1].sent += Escapes(line[3:]).read()
            elif line[:3] == b"S< ":
                cases[-1].forwarded[-1] += Escapes(line[3:]).read()
            elif line == b"S new":
                cases[-1].forwarded.append(b"")
            elif line == b"C end":
                cases[-1].half_closes = True
            elif line.startswith(b"refused "):
                cases[-1].refused = int(line.split()[1])
            elif line.startswith(b"with "):
                cases[-1].settings.append(line.split()[1].decode())
    return cases


def distinct():
    """Each conversation once, however many fixtures have it for other purposes; and those that need settings."""
    by_bytes, left_out = {}, []
    for case in read():
        if set(case.settings) - HARMLESS:
            left_out.append(case)
            continue
        # A refusal says the most.
        key = (case.sent, case.half_closes)
        if key not in by_bytes or case.refused and not by_bytes[key].refused:
            by_bytes[key] = case
    return list(by_bytes.values()), left_out


# What parsers stumble over, and what they look for.
ODD = [b"\0", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\xa0", b"\xff", b":", b";", b",", b"\"", b"'",
       b"/", b"\\", b"#", b"?", b"@", b"%", b"%00", b"%0d%0a", b"[", b"]", b"+", b"-", b"0", b"1", b"0x", b"_", b".", b"*", b"\r\n ",
       b"chunked", b", chunked", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
       b"GET /x HTTP/1.1\r\nHost: b\r\n\r\n"]


def mutants(count, seed):
    """Conversations with one to three pieces put in, taken out or doubled; the same for the same seed."""
    generator = random.Random(seed)
    origins = [case for case in distinct()[0] if len(case.sent) < 2000]
    for _ in range(count):
        origin = generator.choice(origins)
        sent = origin.sent
        for _ in range(generator.randint(1, 3)):
            at = generator.randint(0, len(sent))
            length = generator.choice([0, 0, 0, 1, 1, 2, 8])
            piece = generator.choice([generator.choice(ODD), generator.choice(ODD), b"", sent[at:at + length] * 2])
            sent = sent[:at] + piece + sent[at + length:]
        yield Case(origin.file, origin.line, f"changed: {origin.title}", sent, half_closes=origin.half_closes, is_mutant=True)
