"""A small switched network in this machine: namespaces on a bridge, and the processes in them.

Names begin with a prefix and the process id, so that runs don't disturb each other. Everything that is started is ended
by its process id and every namespace removed, however the run ends.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time


class Failure(Exception):
    """What went wrong, in words for whoever runs this."""


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def wait(what, condition, seconds=20):
    """Asks until `condition` gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Network:
    """Use it with `with`: what it made is gone afterwards."""

    def __init__(self, prefix):
        self.prefix = f"{prefix}-{os.getpid()}-"
        self.folder = tempfile.mkdtemp(prefix=f"{prefix}-")
        self.hosts = []
        self.processes = {}

    def __enter__(self):
        try:
            self.host("switch", [])
            ip("-n", self.space("switch"), "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            ip("-n", self.space("switch"), "link", "set", "br0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, kind=None, *_):
        if kind is Failure:
            for name in self.processes:
                print(f"--- the end of what {name} said:\n" + "".join(self.log(name).splitlines(True)[-15:]), file=sys.stderr)
        for process in self.processes.values():
            kill(process.pid, signal.SIGKILL)
            process.wait()
        for name in self.hosts:
            # What a process left behind holds its namespace, too.
            for pid in self.pids(name):
                kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", self.space(name)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def space(self, host):
        return self.prefix + host

    def host(self, name, addresses):
        """A namespace whose eth0 is on the switch; the switch itself has none."""
        ip("netns", "add", self.space(name))
        self.hosts.append(name)
        ip("-n", self.space(name), "link", "set", "lo", "up")
        if name == "switch":
            return
        ip("-n", self.space(name), "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns",
           self.space("switch"))
        ip("-n", self.space("switch"), "link", "set", name, "master", "br0", "up")
        for address in addresses:
            ip("-n", self.space(name), "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", self.space(name), "link", "set", "eth0", "up")

    def station(self, host):
        """The Ethernet address of its eth0."""
        return json.loads(ip("-n", self.space(host), "-json", "link", "show", "eth0"))[0]["address"]

    def set_link(self, host, state):
        """Pulls the cable, or plugs it in again."""
        ip("-n", self.space("switch"), "link", "set", host, state)

    def drop(self, host, addresses):
        """From now on nothing of what these addresses send over IP reaches the host."""
        rules = "".join(f"add rule inet cut in ip saddr {address} drop\n" for address in addresses)
        self.nft(host, "add table inet cut\n"
                 "add chain inet cut in { type filter hook input priority -300; }\n" + rules)

    def heal(self, host):
        self.nft(host, "add table inet cut\ndelete table inet cut\n")

    def nft(self, host, text):
        done = subprocess.run(
            ["ip", "netns", "exec", self.space(host), "nft", "-f", "-"], input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"nft: {done.stderr.strip()}")

    def start(self, name, host, command, environment=None):
        """`ip netns exec` becomes the command, so the process id is the command's own."""
        with open(f"{self.folder}/{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                ["ip", "netns", "exec", self.space(host), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env={**os.environ, **(environment or {})})
        return self.processes[name]

    def end(self, name, number=signal.SIGTERM):
        process = self.processes.pop(name)
        kill(process.pid, number)
        process.wait()

    def pids(self, host):
        """Every process in a host."""
        listed = subprocess.run(["ip", "netns", "pids", self.space(host)], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def log(self, name):
        with open(f"{self.folder}/{name}.log", errors="replace") as file:
            return file.read()
