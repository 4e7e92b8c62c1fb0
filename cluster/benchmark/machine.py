"""The machine: cores, ports, processes pinned to cores, and what the kernel says of their time and memory.

Processes are ended by their id; nothing that was not started here is touched.
"""

import os
import signal
import socket
import subprocess
import sys
import time


class Failure(Exception):
    """What went wrong, in words for whoever runs the benchmark."""


def cores():
    """The core for what is measured, and the cores for load and servers."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise Failure("needs two cores: one for the proxy, one for load and servers")
    return available[0], available[1:]


class Process:
    """A program that runs until `end`."""

    def __init__(self, name, command, on_cores, work, port=None, environment=None):
        self.name, self.port = name, port
        self.log = os.path.join(work, f"{name}.out")
        with open(self.log, "wb") as output:
            self.child = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, on_cores)), *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, **(environment or {})})
        if port is not None:
            self._wait_for_port()

    def _wait_for_port(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        with open(self.log, errors="replace") as output:
            raise Failure(f"{self.name} did not start:\n{output.read()}")

    def family(self):
        """Its process id and those of all its descendants."""
        found, waiting = [], [self.child.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children") as children:
                        waiting += map(int, children.read().split())
            except OSError:
                continue
        return found

    def cpu_us(self, thread=None):
        """User and system time so far of all its processes, in microseconds.
        With `thread`, only of the threads whose name begins so."""
        total = 0
        for pid in self.family():
            try:
                tasks = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for task in tasks:
                try:
                    if thread is not None:
                        with open(f"/proc/{pid}/task/{task}/comm") as comm:
                            if not comm.read().startswith(thread):
                                continue
                    with open(f"/proc/{pid}/task/{task}/schedstat") as figures:
                        total += int(figures.read().split()[0])
                except OSError:
                    continue
        return total / 1000

    def memory_bytes(self):
        """Memory that is its own or its share of what it shares (Pss), all its processes together."""
        total = 0
        for pid in self.family():
            with open(f"/proc/{pid}/smaps_rollup") as figures:
                total += sum(int(line.split()[1]) << 10 for line in figures if line.startswith("Pss:"))
        return total

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                for pid in self.family():
                    os.kill(pid, signal.SIGKILL)
                self.child.wait()


def first_line(command):
    """What a program says of its version."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.stdout else " ".join(command)


def description():
    """Kernel, cores and processor."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{os.uname().sysname} {os.uname().release}, {os.cpu_count()} cores, {model}"


def progress(text):
    """Says what is going on, on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text:<60}\r{text}" if text else f"\r{'':60}\r")
        sys.stderr.flush()
