"""What is asked of a proxy, and the measurements made meanwhile."""

import os
import re
import resource
import socket
import subprocess
import time

from machine import Failure

# wrk prints no 99.9th percentile; its script interface has it. Times are microseconds.
REPORT_LUA = """
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("figures %d %d %d %d %d %d\\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        e.connect + e.read + e.write + e.status + e.timeout))
end
"""

UPLOAD_LUA = """
wrk.method = "POST"
wrk.body = string.rep("x", 65536)
"""


class Load:
    """A steady load from one thread of wrk, as fast as answers come."""

    def __init__(self, name, title, connections, path="/small", closing=False, lua="", mode="http", workers=1):
        self.name, self.title, self.connections, self.path = name, title, connections, path
        self.closing, self.lua, self.mode, self.workers = closing, lua, mode, workers

    def run(self, port, seconds, on_cores, work):
        script = os.path.join(work, f"{self.name}.lua")
        with open(script, "w") as file:
            file.write(self.lua + REPORT_LUA)
        command = [
            "taskset", "-c", ",".join(map(str, on_cores)), "wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s",
            "-s", script]
        if self.closing:
            command += ["-H", "Connection: close"]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}{self.path}"], capture_output=True, text=True, check=False)
        found = re.search(r"^figures (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", done.stdout, re.MULTILINE)
        if done.returncode != 0 or not found or found[1] == "0":
            raise Failure(f"no request was answered in load {self.name}:\n{done.stdout}{done.stderr}")
        requests, duration, p50, p99, p999, errors = map(int, found.groups())
        return {
            "requests": requests, "rate": requests * 1e6 / duration, "p50": p50, "p99": p99, "p999": p999,
            "errors": errors}


LOADS = [
    Load("single", "small, 1 connection", 1),
    Load("small", "small, 64 connections", 64),
    Load("small256", "small, 256 connections", 256),
    Load("new", "a new connection each", 64, closing=True),
    Load("1k", "1 KiB", 64, path="/1k"),
    Load("64k", "64 KiB", 64, path="/64k"),
    Load("1m", "1 MiB, 16 connections", 16, path="/1m"),
    Load("upload", "64 KiB upload", 32, path="/upload", lua=UPLOAD_LUA),
    Load("tcp", "TCP mode, small", 64, mode="tcp"),
    Load("tcp1m", "TCP mode, 1 MiB", 16, path="/1m", mode="tcp"),
    Load("two", "small, 256, two workers", 256, workers=2),
]


def measured(process, load, seconds, on_cores, work):
    """One run of a load: its figures, and the proxy's CPU time per request in microseconds."""
    before, workers = process.cpu_us(), process.cpu_us("worker")
    figures = load.run(process.port, seconds, on_cores, work)
    figures["cpu"] = (process.cpu_us() - before) / figures["requests"]
    figures["worker_cpu"] = (process.cpu_us("worker") - workers) / figures["requests"]
    return figures


def system_calls(process, load, seconds, on_cores, work):
    """System calls per request, by strace, which slows the proxy but doesn't change what a request needs."""
    output = os.path.join(work, "strace.out")
    pids = [argument for pid in process.family() for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(
        ["strace", "-c", "-f", "-q", "-o", output, *pids], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    figures = load.run(process.port, seconds, on_cores, work)
    tracer.terminate()
    tracer.wait()
    calls = {}
    with open(output) as lines:
        for line in lines:
            fields = line.split()
            if len(fields) >= 5 and fields[0].replace(".", "").isdigit() and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3])
    return {name: count / figures["requests"] for name, count in calls.items()}


IDLE_CONNECTIONS = 10_000


def idle_memory(process):
    """Bytes of the proxy's own memory for each of 10,000 clients that had a request and are idle now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE_CONNECTIONS + 200
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    _ask(process.port, 64)
    time.sleep(1)
    before = process.memory_bytes()
    clients = []
    try:
        clients = _ask(process.port, IDLE_CONNECTIONS)
        time.sleep(2)
        return (process.memory_bytes() - before) / IDLE_CONNECTIONS
    finally:
        for client in clients:
            client.close()


def _ask(port, count):
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        client.sendall(b"GET /small HTTP/1.1\r\nHost: bench\r\n\r\n")
        if not client.recv(4096).startswith(b"HTTP/1.1 200"):
            raise Failure(f"connection {len(clients)} of {count} got no answer")
        clients.append(client)
    return clients
