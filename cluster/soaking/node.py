"""The node under load: its file in several forms, its process, and what the kernel says of it."""

import asyncio
import collections
import os
import signal
import subprocess
import time
import urllib.request

from ports import free_port

Sample = collections.namedtuple("Sample", "memory descriptors")
# How long a node that does its work may take for anything, on a machine that is busy with other things.
PATIENCE_SECONDS = 60


def clock():
    return time.strftime("%H:%M:%S")


class Node:
    def __init__(self, binary, work, servers):
        self.work, self.servers = work, servers
        self.ports = {name: free_port() for name in ("http", "tcp", "extra", "other", "gossip", "status")}
        self.file = os.path.join(work, "soak.json5")
        self.write(self.text())
        self.log = os.path.join(work, "node.log")
        self.reloads, self.refused = 0, 0
        with open(self.log, "wb") as output:
            self.child = subprocess.Popen(
                [binary, "run", "--config", self.file, "--node", "n1"], stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, env={**os.environ, "TRIAD_WORKERS": "2"})
        self.before = None

    def write(self, text):
        with open(self.file + ".new", "w") as file:
            file.write(text)
        os.rename(self.file + ".new", self.file)

    def text(self, balance="roundrobin", extra="", client="30s", headers=100, servers=4):
        def listed(offset):
            return ", ".join(
                f'{{ id: "{name}", address: "{address}:{port + offset}" }}' for name, address, port in
                self.servers[:servers])
        return f"""{{
  cluster: "soak",
  nodes: [{{ id: "n1", address: "127.0.0.1" }}],
  gossip: {{ port: {self.ports["gossip"]} }},
  status: {{ port: {self.ports["status"]} }},
  data: "{self.work}/data",
  timeouts: {{ request: "5s", client: "{client}", server: "30s" }},
  limits: {{ headers: {headers} }},
  frontends: [
    {{ name: "http", address: "127.0.0.1", port: {self.ports["http"]}, backend: "api", acceptProxy: ["127.0.0.9"] }},
    {{ name: "tcp", address: "127.0.0.1", port: {self.ports["tcp"]}, mode: "tcp", backend: "echo" }}, {extra}
  ],
  backends: [
    {{ name: "api", balance: "{balance}", servers: [{listed(0)}],
      check: {{ type: "http", path: "/health", interval: "500ms", timeout: "500ms", rise: 2, fall: 3 }} }},
    {{ name: "echo", servers: [{listed(1)}], check: {{ type: "tcp", interval: "500ms", timeout: "500ms", rise: 2, fall: 3 }} }},
  ],
}}
"""

    async def reload(self, turn):
        """Another file each time, taken over or refused when this is done; one of seven has a mistake, and must change nothing."""
        def extra(port):
            return f'{{ name: "extra", address: "127.0.0.1", port: {self.ports[port]}, backend: "api" }},'
        forms = [
            lambda: self.text(extra=extra("extra")), lambda: self.text(balance="leastconn", extra=extra("other")),
            lambda: self.text(client="40s", headers=50), lambda: self.text(servers=3), lambda: self.text(),
            lambda: self.text(extra="what is this"), lambda: self.text(balance="leastconn", client="31s")]
        await self.give(forms[turn % len(forms)](), is_wrong=turn % len(forms) == 5)

    async def give(self, text, is_wrong=False):
        self.write(text)
        self.child.send_signal(signal.SIGHUP)
        self.reloads += 1
        self.refused += is_wrong
        # Two signals while a file is being read are one reload.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.logged(" reload: ") < self.reloads:
            await asyncio.sleep(0.05)

    def logged(self, text):
        """How many lines of its log have it."""
        with open(self.log, errors="replace") as output:
            return sum(text in line for line in output)

    async def ready(self):
        """Until it serves and all servers are up."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}/bytes/1", timeout=10) as answer:
                    if answer.status == 200 and await self.servers_up() == {name for name, _, _ in self.servers}:
                        break
            except OSError:
                pass
            await asyncio.sleep(0.1)
        else:
            raise SystemExit(f"soak: the node did not start:\n{self.tail()}")
        # What is there each time: a connection that was asked for figures ends a moment later.
        self.before = self.kinds()
        for _ in range(10):
            await asyncio.sleep(0.1)
            self.before &= self.kinds()

    async def servers_up(self):
        """The servers that are up in both backends."""
        figures = await asyncio.to_thread(self.figures)
        return {name for name, _, _ in self.servers
                if all(figures.get(f'triad_server_up{{backend="{backend}",server="{name}"}}') for backend in ("api", "echo"))}

    async def ended(self):
        while self.child.poll() is None:
            await asyncio.sleep(0.2)

    def tail(self, lines=20):
        with open(self.log, errors="replace") as output:
            return "".join(output.readlines()[-lines:])

    def sample(self):
        with open(f"/proc/{self.child.pid}/statm") as figures:
            pages = int(figures.read().split()[1])
        return Sample(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{self.child.pid}/fd")))

    def kinds(self):
        """Its descriptors by kind; connections to servers apart, since some are kept for the next request."""
        pooled = set()
        ports = {port + offset for _, _, port in self.servers for offset in (0, 1)}
        with open("/proc/net/tcp") as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                if int(fields[2].split(":")[1], 16) in ports:
                    pooled.add(f"socket:[{fields[9]}]")
        found = collections.Counter()
        for descriptor in os.listdir(f"/proc/{self.child.pid}/fd"):
            try:
                target = os.readlink(f"/proc/{self.child.pid}/fd/{descriptor}")
            except OSError:
                continue
            found["pooled" if target in pooled else target.split(":")[0].split("/")[-1]] += 1
        return found

    def figures(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['status']}/metrics", timeout=PATIENCE_SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and not line.startswith("#")}

    async def settle(self):
        """Goes back to the first file, and gives what clients left behind and what doesn't go away: nothing when all is well."""
        await self.give(self.text())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (wrong := self.complaints()) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        return wrong

    def complaints(self):
        """What is left over although nobody is connected."""
        wrong = []
        figures, after = self.figures(), self.kinds()
        for name in ("triad_client_connections", "triad_requests_in_flight"):
            if figures[name] != 0:
                wrong.append(f"{name} is {figures[name]:.0f} without a client")
        # Pipes are kept for the next long stream, up to the workers' limit.
        if after["pipe"] > self.before["pipe"] + 2 * 2 * 128:
            wrong.append(f"{after['pipe']} pipes")
        for kind in after.keys() - {"pipe", "pooled"}:
            if after[kind] > self.before[kind]:
                wrong.append(f"{after[kind]} descriptors of kind {kind}, {self.before[kind]} before the load")
        if self.logged(" reload: ") != self.reloads:
            wrong.append(f"{self.logged(' reload: ')} files taken over or refused, {self.reloads} given:\n{self.tail()}")
        if (refusals := self.logged("nothing changed")) != self.refused:
            wrong.append(f"{refusals} files refused, {self.refused} with a mistake given:\n{self.tail()}")
        return wrong

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
