"""The three proxies with the same places: a client of case N connects to 127.x.h.l, where x is the proxy's and h.l is N, and
what the proxy forwards arrives at the origin's port of that very address. So the origin knows whose bytes it has.
"""
import asyncio
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cluster"))
from ports import free_port  # noqa: E402

NETWORKS = {"triad": 81, "haproxy": 82, "nginx": 83}


def place(proxy, case):
    return f"127.{NETWORKS[proxy]}.{case // 250}.{case % 250 + 1}"


def proxy_and_case(address):
    _, network, high, low = address.split(".")
    proxy = next(name for name, number in NETWORKS.items() if number == int(network))
    return proxy, int(high) * 250 + int(low) - 1


# Frontends that one node takes.
PER_NODE = 60


def triad(binary, folder, cases, port, origin):
    """A node for each 60 cases: each case is a frontend with a backend of its own."""
    for first in range(0, cases, PER_NODE):
        frontends, backends = [], []
        for case in range(first, min(first + PER_NODE, cases)):
            address = place("triad", case)
            frontends.append({"name": f"f{case}", "address": address, "port": port, "backend": f"b{case}"})
            backends.append({
                "name": f"b{case}", "servers": [{"id": "origin", "address": f"{address}:{origin}"}],
                # One look at the start is enough.
                "check": {"type": "tcp", "interval": "60s", "timeout": "60s"}})
        configuration = {
            "cluster": "differential", "data": f"data-{first}", "workers": 1, "frontends": frontends, "backends": backends,
            "nodes": [{"id": "n1", "address": "127.0.0.1", "gossipPort": free_port()}],
            "status": {"address": "127.0.0.1", "port": free_port()},
            "timeouts": {"request": "2s", "client": "2s", "server": "3s", "keepAlive": "1s", "drain": "0s"}}
        path = os.path.join(folder, f"triad-{first}.json5")
        with open(path, "w") as file:
            json.dump(configuration, file)
        yield [binary, "run", "--config", path, "--node", "n1"]


def haproxy(folder, port, origin):
    path = os.path.join(folder, "haproxy.cfg")
    with open(path, "w") as file:
        # A server's address 0.0.0.0 is the one that the client connected to.
        file.write(f"""
            global
                maxconn 2000
                nbthread 2
            defaults
                mode http
                timeout connect 1s
                timeout client 2s
                timeout http-request 2s
                timeout http-keep-alive 1s
                timeout server 3s
                http-reuse never
            frontend all
                bind 0.0.0.0:{port}
                default_backend origin
            backend origin
                server origin 0.0.0.0:{origin}
""")
    return ["haproxy", "-db", "-f", path]


def nginx(folder, port, origin):
    path = os.path.join(folder, "nginx.conf")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};"
                         for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(path, "w") as file:
        file.write(f"""
            worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; user root;
            events {{ worker_connections 4000; }}
            http {{
                access_log off; {temporary}
                client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 1s; send_timeout 2s;
                lingering_time 1s; lingering_timeout 1s;
                proxy_connect_timeout 1s; proxy_read_timeout 3s; proxy_send_timeout 3s; proxy_http_version 1.1;
                server {{
                    listen {port};
                    location / {{ proxy_pass http://$server_addr:{origin}; }}
                }}
            }}
            """)
    return ["nginx", "-c", path]


class Running:
    """The proxies as processes; each is ended by its id, however the run ends."""

    def __init__(self, binary, folder, cases, origin):
        self.folder = folder
        self.ports = {name: free_port() for name in NETWORKS}
        ports = self.ports
        self.commands = {
            "triad": list(triad(binary, folder, cases, ports["triad"], origin)),
            "haproxy": [haproxy(folder, ports["haproxy"], origin)],
            "nginx": [nginx(folder, ports["nginx"], origin)]}
        self.processes = []

    async def __aenter__(self):
        for name, commands in self.commands.items():
            with open(os.path.join(self.folder, f"{name}.out"), "ab") as log:
                for command in commands:
                    self.processes.append(await asyncio.create_subprocess_exec(
                        *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log))
        return self

    async def __aexit__(self, *_):
        for process in self.processes:
            if process.returncode is None:
                process.terminate()
        for process in self.processes:
            try:
                await asyncio.wait_for(process.wait(), 10)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()

    def log(self, name):
        with open(os.path.join(self.folder, f"{name}.out"), errors="replace") as file:
            lines = file.read().split("\n")
        return "\n".join(line for line in lines if "server-up" not in line)[-3000:]
