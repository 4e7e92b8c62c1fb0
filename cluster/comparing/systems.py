"""The two that are compared, each on three nodes before the same five APIs: what starts them, and what ends them.

Both check servers as often. Each takes part twice: with its default timings, and with faster ones for a quiet network,
which are those of README.md for triad, and for keepalived VRRP version 3 with ten advertisements a second.
"""

import os
import signal
import subprocess

from network import ip, kill, wait

NODES = ["n1", "n2", "n3"]
APIS = range(1, 6)
VIP = "10.77.0.100"


def address(node):
    return f"10.77.0.1{node[1:]}"


def api_address(number):
    return f"10.77.0.2{number}"


class System:
    """What both have in common. `network` has the nodes, the APIs and the clients already."""

    name = ""

    def __init__(self, network, binary):
        self.network, self.binary = network, binary

    def start(self):
        for node in NODES:
            self.start_node(node)

    def write(self, name, text):
        path = f"{self.network.folder}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def freeze(self, node):
        """Every process of the node stands still: their ids."""
        pids = self.network.pids(node)
        for pid in pids:
            kill(pid, signal.SIGSTOP)
        return pids

    def recover(self, node):
        """As after a restart of the machine: nothing of before runs, no address is left, and it starts anew."""
        for pid in self.network.pids(node):
            kill(pid, signal.SIGCONT)
            kill(pid, signal.SIGKILL)
        for name in [name for name in self.network.processes if name.endswith("@" + node)]:
            self.network.processes.pop(name).wait()
        wait(f"every process of {node} is gone", lambda: not self.network.pids(node))
        space = self.network.space(node)
        if VIP in ip("-n", space, "address", "show", "dev", "eth0"):
            ip("-n", space, "address", "del", f"{VIP}/32", "dev", "eth0")
        self.start_node(node)


class Triad(System):
    name, gossip = "triad", ""

    def start(self):
        key = subprocess.run([self.binary, "keygen"], capture_output=True, text=True, check=True).stdout
        members = ", ".join(f'{{ id: "{node}", address: "{address(node)}" }}' for node in NODES)
        servers = ", ".join(f'{{ id: "api_{n}", address: "{api_address(n)}:8080" }}' for n in APIS)
        for node in NODES:
            self.write(f"{node}/gossip.key", key)
            self.write(f"{node}/triad.json5", f"""{{
                cluster: "comparison", nodes: [{members}], data: "data",
                vip: {{ address: "{VIP}/32", interface: "eth0" }}, gossip: {{ keyFile: "gossip.key", {self.gossip} }},
                frontends: [{{ name: "http", port: 80, mode: "http", backend: "api" }}],
                backends: [{{ name: "api", servers: [{servers}], check: {{ type: "http", path: "/health", interval: "1s" }} }}],
            }}""")
        super().start()

    def start_node(self, node):
        config = f"{self.network.folder}/{node}/triad.json5"
        self.network.start(f"triad@{node}", node, [self.binary, "run", "--config", config, "--node", node])

    def kill_director(self, node):
        kill(self.network.processes[f"triad@{node}"].pid, signal.SIGKILL)

    # One process does both.
    kill_proxy = kill_director

    def stop(self, node):
        """As `systemctl stop` does."""
        kill(self.network.processes[f"triad@{node}"].pid, signal.SIGTERM)


class FastTriad(Triad):
    name = "triad-fast"
    gossip = 'heartbeat: "15ms", lease: "60ms", electionTimeout: ["80ms", "120ms"]'


class Keepalived(System):
    """keepalived moves the VIP, haproxy balances, and a script tells keepalived when haproxy doesn't answer."""

    name, globals = "keepalived", ""
    advertisement = "1"

    def start(self):
        servers = "\n".join(
            f"    server api_{n} {api_address(n)}:8080 check inter 1s fall 2 rise 2" for n in APIS)
        self.proxy = self.write("haproxy.cfg", f"""
global
    nbthread 1
defaults
    mode http
    option httpchk GET /health
    option redispatch
    http-reuse always
    timeout connect 1s
    timeout client 30s
    timeout server 30s
frontend http
    bind :80
    default_backend api
backend api
    balance roundrobin
{servers}
""")
        super().start()

    def start_node(self, node):
        # None takes the VIP back when it returns, as with triad.
        config = self.write(f"{node}/keepalived.conf", f"""
global_defs {{
    router_id {node}
    script_user root
    enable_script_security
    {self.globals}
}}
vrrp_script proxy {{
    script "/bin/bash -c ': </dev/tcp/127.0.0.1/80'"
    interval 1
    timeout 1
    fall 2
    rise 2
}}
vrrp_instance vip {{
    state BACKUP
    nopreempt
    interface eth0
    virtual_router_id 51
    priority {110 - 10 * int(node[1:])}
    advert_int {self.advertisement}
    virtual_ipaddress {{ {VIP}/32 dev eth0 }}
    track_script {{ proxy }}
}}
""")
        folder = f"{self.network.folder}/{node}"
        # As /run is empty after a restart: keepalived doesn't start beside what a killed one left.
        for name in ("keepalived.pid", "vrrp.pid"):
            if os.path.exists(f"{folder}/{name}"):
                os.remove(f"{folder}/{name}")
        self.network.start(f"haproxy@{node}", node, ["haproxy", "-db", "-f", self.proxy])
        self.network.start(f"keepalived@{node}", node, [
            "keepalived", "-n", "-l", "-P", "-f", config, "-p", f"{folder}/keepalived.pid", "-r", f"{folder}/vrrp.pid"])

    def kill_director(self, node):
        """kill -9 of what moves the VIP: at once, so that none acts on another's end."""
        family = [pid for pid in self.network.pids(node) if comm(pid).startswith("keepalived")]
        for pid in family:
            kill(pid, signal.SIGSTOP)
        for pid in family:
            kill(pid, signal.SIGKILL)

    def kill_proxy(self, node):
        kill(self.network.processes[f"haproxy@{node}"].pid, signal.SIGKILL)

    def stop(self, node):
        """First who moves the VIP, then the proxy, which ends when its clients have."""
        kill(self.network.processes[f"keepalived@{node}"].pid, signal.SIGTERM)
        wait("keepalived ends", lambda: self.network.processes[f"keepalived@{node}"].poll() is not None)
        kill(self.network.processes[f"haproxy@{node}"].pid, signal.SIGUSR1)


class FastKeepalived(Keepalived):
    name, globals = "keepalived-fast", "vrrp_version 3"
    advertisement = "0.1"


ALL = [Triad, FastTriad, Keepalived, FastKeepalived]


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""
