"""A server that gives a request's body back and says what it saw, for clients that send more than the demo API reads.

Python's standard library only, HTTP/1.1 with keep-alive. /page is a page without anything on it, for a browser to stand on.
"""
import hashlib
import http.server
import threading


class Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def answer(self):
        body = self.body() or (b"<!doctype html><title>here</title>" if self.path == "/page" else b"nothing")
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path == "/page" else "application/octet-stream")
        self.send_header("X-Body-SHA256", hashlib.sha256(body).hexdigest())
        self.send_header("X-Seen", f"{self.command} {self.path} {'chunked' if 'Transfer-Encoding' in self.headers else 'length'}")
        if self.path.startswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 100_000):
                piece = body[at:at + 100_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1000


def start(port):
    server = Server(("127.0.0.1", port), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
