"""Three nodes, two VIPs, two backends (five APIs, and one that routes lead to) and a client in network namespaces of their own, for the checks of page and metrics.

    with Cluster(binary) as cluster: …

Names begin with `triadpage-` and the process id, so that runs don't disturb each other. Everything that is started is
ended by its process id, and every namespace removed, however the check ends.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

NODES = ["n1", "n2", "n3"]
TOKEN = "token-of-the-check"
VIP = "10.77.0.100"
VIPS = [VIP, "10.77.0.101"]


def address(node):
    return f"10.77.0.1{node[1:]}"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def wait(what, condition, seconds=90):
    """Asks until `condition` gives something true; returns that and how long it took. The limit is for a machine that is busy
    with other things, not for what is tried."""
    start = time.monotonic()
    while True:
        found = condition()
        if found:
            return found, time.monotonic() - start
        if time.monotonic() - start > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Cluster:
    def __init__(self, binary):
        self.binary = os.path.abspath(binary)
        self.prefix = f"triadpage-{os.getpid()}-"
        self.folder = tempfile.mkdtemp(prefix="triadpage-")
        self.processes = {}
        self.namespaces = []
        self.unanswered = []

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, Exception):
            print(self.report(), file=sys.stderr, flush=True)
        for process in self.processes.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        for name in self.namespaces:
            # The fences of killed nodes end by themselves, and hold their namespace until then.
            for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def host(self, name, addresses):
        space = self.prefix + name
        ip("netns", "add", space)
        self.namespaces.append(space)
        ip("-n", space, "link", "set", "lo", "up")
        if not addresses:
            return
        ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", self.prefix + "switch")
        ip("-n", self.prefix + "switch", "link", "set", name, "master", "br0", "up")
        for one in addresses:
            ip("-n", space, "address", "add", f"{one}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")

    def build(self):
        self.host("switch", [])
        ip("-n", self.prefix + "switch", "link", "add", "br0", "type", "bridge")
        ip("-n", self.prefix + "switch", "link", "set", "br0", "up")
        for node in NODES:
            self.host(node, [address(node)])
        self.host("client", ["10.77.0.50"])
        self.host("apis", [f"10.77.0.2{number}" for number in range(1, 7)])
        key = subprocess.run([self.binary, "keygen"], capture_output=True, text=True, check=True).stdout
        servers = ",".join(f'{{id:"api_{n}",address:"10.77.0.2{n}:8080"}}' for n in range(1, 6))
        vips = ",".join(f'{{address:"{one}/32",interface:"eth0"}}' for one in VIPS)
        members = ",".join(f'{{id:"{node}",address:"{address(node)}"}}' for node in NODES)
        for node in NODES:
            home = f"{self.folder}/{node}"
            os.makedirs(home)
            # A lease so long that leadership moves when it is made to, and not because the machine is busy.
            for name, text in {
                "gossip.key": key,
                "admin.token": TOKEN + "\n",
                "triad.json5": f"""{{ cluster: "shop", nodes: [{members}], data: "data",
                    vip: [{vips}],
                    gossip: {{ keyFile: "gossip.key", lease: "1s", electionTimeout: ["1500ms", "2s"] }},
                    status: {{ tokenFile: "admin.token" }},
                    frontends: [{{ name: "http", port: 80, mode: "http", backend: "api", routes: [
                        {{ host: "files.example", backend: "files" }}, {{ path: "/files", backend: "files" }}] }}],
                    backends: [{{ name: "api", balance: "roundrobin", servers: [{servers}], slowStart: "30s", outlier: {{ errors: 5 }},
                        autoscale: {{ min: 2, max: 5, requestsPerServer: 50 }},
                        check: {{ type: "http", path: "/health", expect: 200, interval: "1s", fall: 10 }} }},
                        {{ name: "files", servers: [{{ id: "files_1", address: "10.77.0.26:8080" }}] }}] }}""",
            }.items():
                with open(f"{home}/{name}", "w") as file:
                    file.write(text)
        for number in range(1, 7):
            self.start_api(number)
        for node in NODES:
            self.start_node(node)
        wait("a leader, and all servers up", lambda: self.settled())

    def start(self, name, host, command):
        log = open(f"{self.folder}/{name}.log", "ab")
        self.processes[name] = subprocess.Popen(
            ["ip", "netns", "exec", self.prefix + host, *command], stdout=log, stderr=log, start_new_session=True)

    def start_node(self, node):
        self.start(node, node, [self.binary, "run", "--config", f"{self.folder}/{node}/triad.json5", "--node", node])

    def start_api(self, number):
        self.start(f"api_{number}", "apis", [
            self.binary, "api", "--id", str(number), "--address", f"10.77.0.2{number}", "--port", "8080"])

    def start_load(self, rate=200):
        self.start("load", "client", [self.binary, "load", f"http://{VIP}/", "--rate", str(rate), "--seconds", "600"])

    def report(self, lines=20):
        """What the processes said last, for whoever has only this to find out what went wrong."""
        parts = [f"asked in vain: {one}" for one in self.unanswered[-5:]]
        for name, process in self.processes.items():
            code = process.poll()
            with open(f"{self.folder}/{name}.log", errors="replace") as file:
                said = file.read().rstrip().split("\n")[-lines:]
            parts += [f"-- {name}, {'running' if code is None else f'ended with {code}'}:", *(one[:300] for one in said if one)]
        return "\n".join(parts)

    def kill(self, name):
        """The main process alone: `ip netns exec` becomes it."""
        os.kill(self.processes[name].pid, signal.SIGKILL)

    def ask(self, url, *options):
        """Asked from the client's namespace; the body, and nothing when there is no answer."""
        answer = subprocess.run(
            ["ip", "netns", "exec", self.prefix + "client", "curl", "-sS", "-m", "10", *options, url], capture_output=True, text=True)
        if answer.returncode == 0:
            return answer.stdout
        self.unanswered.append(f"{time.strftime('%H:%M:%S', time.gmtime())} {url}: {answer.stderr.strip()}")
        return None

    def get(self, node, path):
        return self.ask(f"http://{address(node)}:8084{path}")

    def status(self, node):
        text = self.get(node, "/status")
        return json.loads(text) if text else None

    def settled(self, nodes=NODES):
        seen = [self.status(node) for node in nodes]
        if not all(seen) or not all(vip["owner"] for one in seen for vip in one["vips"]):
            return None
        up = all(server["health"] == "up" for one in seen for backend in one["backends"] for server in backend["servers"])
        return seen[0]["vips"][0]["owner"] if up else None
