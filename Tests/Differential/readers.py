"""Readers of HTTP/1.1 requests, one that keeps to RFC 9112 and others with the weaknesses that request smuggling lives on.

Bytes that all of them read alike have one meaning; where they differ, two servers behind a proxy may see two things.
"""
import re
from dataclasses import dataclass

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")


class Malformed(Exception):
    pass


class Incomplete(Exception):
    pass


@dataclass(frozen=True)
class Reader:
    """Each weakness is a flag; none set is the letter of the RFC."""
    name: str
    bare_lf: bool = False           # ends lines at LF
    last_length: bool = False       # of two lengths takes the last; else the first
    length_wins: bool = False       # a length beats a coding; else the coding
    any_coding: bool = False        # a coding that has "chunked" somewhere in it is chunked
    ignores_coding: bool = False    # knows nothing of codings (HTTP/1.0)
    loose_fields: bool = False      # forgives spaces before the colon, folded and malformed lines
    loose_chunks: bool = False      # sizes as C's strtol reads them: spaces, a sign, 0x; any line end

    @property
    def is_strict(self):
        return self == Reader(self.name)

    def line(self, data, at):
        """The line at `at` without its end, and where the next begins."""
        if self.bare_lf:
            end = data.find(b"\n", at)
            if end < 0:
                raise Incomplete
            return data[at:end].removesuffix(b"\r"), end + 1
        end = data.find(b"\r\n", at)
        if end < 0:
            raise Malformed("a bare LF") if b"\n" in data[at:] else Incomplete
        line = data[at:end]
        if self.is_strict and (b"\n" in line or b"\r" in line or b"\0" in line):
            raise Malformed("a bare CR, a bare LF or NUL")
        return line, end + 2

    def fields(self, data, at):
        found = []
        while True:
            line, at = self.line(data, at)
            if not line:
                return found, at
            name, colon, value = line.partition(b":")
            if self.loose_fields:
                if line[:1] in b" \t" and found:
                    found[-1] = (found[-1][0], found[-1][1] + b" " + line.strip())
                elif colon:
                    found.append((name.strip().lower(), value.strip()))
                continue
            if not colon or not TOKEN.match(name) or not VALUE.match(value):
                raise Malformed(f"no field: {line[:40]!r}")
            found.append((name.lower(), value.strip(b" \t")))

    def request(self, data, at):
        """(method, target, body, where the next request begins)."""
        start, after = self.line(data, at)
        parts = start.split(b" ")
        if len(parts) != 3 or not TOKEN.match(parts[0]) or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not parts[1]:
            raise Malformed(f"no request line: {start[:40]!r}")
        found, after = self.fields(data, after)
        lengths = [value for name, value in found if name == b"content-length"]
        codings = [value.lower() for name, value in found if name == b"transfer-encoding"]
        if self.is_strict:
            if codings and lengths or len(lengths) > 1 or codings not in ([], [b"chunked"]):
                raise Malformed("framing that can be read in two ways")
            if lengths and not lengths[0].isdigit():
                raise Malformed(f"no length: {lengths[0]!r}")
            if codings and parts[2] == b"HTTP/1.0":
                raise Malformed("a coding in HTTP/1.0")
        chunked = any(b"chunked" in one if self.any_coding else one == b"chunked" for one in codings)
        if chunked and not self.ignores_coding and not (self.length_wins and lengths):
            body, after = self.chunks(data, after)
        else:
            count = re.match(rb"\s*\+?(\d*)", lengths[-1 if self.last_length else 0])[1] if lengths else b""
            count = int(count or b"0")
            if len(data) - after < count:
                raise Incomplete
            body, after = data[after:after + count], after + count
        return parts[0], parts[1], body, after

    def chunks(self, data, at):
        body = b""
        while True:
            line, at = self.line(data, at)
            digits = line.split(b";")[0]
            if self.loose_chunks:
                found = re.match(rb"\s*\+?(?:0[xX])?([0-9a-fA-F]*)", digits)
                size = int(found[1] or b"0", 16)
            elif re.fullmatch(rb"[0-9a-fA-F]{1,16}[ \t]*" if b";" in line else rb"[0-9a-fA-F]{1,16}", digits):
                size = int(digits, 16)
            else:
                raise Malformed(f"no chunk size: {line[:40]!r}")
            if size == 0:
                _, at = self.fields(data, at)
                return body, at
            if len(data) - at < size + 2:
                raise Incomplete
            body, at = body + data[at:at + size], at + size
            if data[at:at + 2] == b"\r\n":
                at += 2
            elif self.loose_chunks:
                at += 1 if data[at:at + 1] in b"\r\n" else 0
            else:
                raise Malformed("data longer than said")

    def read(self, data):
        """The whole requests in `data`, and what became of the rest: "" (nothing is left), "incomplete" or what is wrong."""
        found, at = [], 0
        while at < len(data):
            try:
                method, target, body, at = self.request(data, at)
            except Incomplete:
                return found, "incomplete"
            except Malformed as problem:
                return found, str(problem)
            found.append((method, target, body))
        return found, ""


STRICT = Reader("RFC 9112")
WEAK = [
    Reader("ends lines at LF", bare_lf=True, loose_fields=True, loose_chunks=True),
    Reader("takes the last length", last_length=True, length_wins=True, loose_fields=True),
    Reader("lets the length win", length_wins=True, any_coding=True, loose_fields=True),
    Reader("takes any coding with chunked in it", any_coding=True, loose_fields=True, loose_chunks=True),
    Reader("joins folded lines", loose_fields=True),
]


def differences(data):
    """Who reads these bytes otherwise than RFC 9112 does, and how."""
    strict = STRICT.read(data)
    return [f"{reader.name}: {len(found)} requests, {rest or 'nothing left'}"
            for reader in WEAK for found, rest in [reader.read(data)]
            if found != strict[0] or (rest == "") != (strict[1] == "")]


def self_test():
    """The readers tell what they are for; without this, silence would prove nothing."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    plain = head + b"Content-Length: 2\r\n\r\nok"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX: y\r\n\r\n"
    assert STRICT.read(plain + chunked) == ([(b"POST", b"/", b"ok")] * 2, "")
    assert not differences(plain + chunked), differences(plain + chunked)
    for ambiguous in [
        head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        head + b"Content-Length: 0\r\nContent-Length: 2\r\n\r\nok",
        head + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        head + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        head + b"X: a\nContent-Length: 2\r\n\r\nok",
        head + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
        head + b"X: a\r\n Content-Length: 2\r\n\r\n",
    ]:
        assert differences(ambiguous), ambiguous
