"""The proxies side by side: their configurations, as equal as their languages allow.

All check their servers once a second, reuse connections to them, count, and keep their timeouts. None writes an
access log. `haproxy-tuned` has what its documentation recommends for large bodies: splicing and 64 KiB buffers.
"""

import os
import sys

from machine import Process

sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from ports import free_port  # noqa: E402

CONNECTIONS_MAX = 10_500


class Settings:
    """What a case asks of every proxy."""

    def __init__(self, mode="http", workers=1, servers=None):
        self.mode, self.workers = mode, workers
        # (address, port) of each server.
        self.servers = servers or []


def nginx_start(work, name):
    return f"""
        daemon off; pid {work}/{name}.pid; error_log {work}/{name}.err crit;
        events {{ worker_connections {CONNECTIONS_MAX + 500}; }}
    """


def nginx_http(work, name):
    return f"""
        access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; sendfile on; tcp_nopush on;
        client_max_body_size 64m; client_body_temp_path {work}/{name}-body; proxy_temp_path {work}/{name}-proxy;
        fastcgi_temp_path {work}/{name}-f; uwsgi_temp_path {work}/{name}-u; scgi_temp_path {work}/{name}-s;
    """


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def start_servers(work, on_cores):
    """nginx as the servers behind the proxies; answers on every loopback address at the port returned."""
    www = os.path.join(work, "www")
    os.mkdir(www)
    # The workers of an nginx started as root drop to another user.
    os.chmod(work, 0o755)
    for name, content in {
        "small": b'{"message": "API #1"}', "1k": b"x" * 1024, "64k": b"x" * 65_536, "1m": b"x" * 1_048_576,
    }.items():
        with open(os.path.join(www, name), "wb") as file:
            file.write(content)
    port = free_port()
    configuration = write(f"{work}/servers.conf", f"""
        worker_processes 1; {nginx_start(work, "servers")}
        http {{
            {nginx_http(work, "servers")}
            open_file_cache max=10 inactive=1h;
            server {{
                listen {port} backlog=4096; root {www}; default_type application/json;
                location /upload {{ return 200 "taken"; }}
            }}
        }}
    """)
    return Process("servers", ["nginx", "-c", configuration], on_cores, work, port), port


def start_haproxy(name, work, on_cores, settings, tuned=False):
    port = free_port()
    servers = "\n".join(
        f"    server s{index} {address}:{server} check inter 1s" for index, (address, server) in
        enumerate(settings.servers, 1))
    configuration = write(f"{work}/{name}.cfg", f"""
global
    nbthread {settings.workers}
    maxconn {CONNECTIONS_MAX}
    no strict-limits
    {"tune.bufsize 65536" if tuned else ""}
defaults
    mode {settings.mode}
    {"http-reuse always" if settings.mode == "http" else ""}
    {"option splice-request" if tuned else ""}
    {"option splice-response" if tuned else ""}
    {"option forwardfor" if settings.mode == "http" else ""}
    timeout connect 1s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
frontend front
    bind 127.0.0.1:{port}
    default_backend api
backend api
    balance roundrobin
{servers}
""")
    return Process(name, ["haproxy", "-db", "-f", configuration], on_cores, work, port)


def start_nginx(name, work, on_cores, settings):
    port = free_port()
    servers = " ".join(f"server {address}:{server};" for address, server in settings.servers)
    http, stream = "", ""
    if settings.mode == "http":
        http = f"""http {{
            {nginx_http(work, name)}
            upstream api {{ {servers} keepalive {max(256, 2 * len(settings.servers))}; keepalive_requests 1000000000; }}
            server {{
                listen 127.0.0.1:{port} backlog=4096 reuseport;
                location / {{
                    proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                }}
            }}
        }}"""
    else:
        stream = f"""
        load_module /usr/lib/nginx/modules/ngx_stream_module.so;
        stream {{
            upstream api {{ {servers} }}
            server {{ listen 127.0.0.1:{port} backlog=4096 reuseport; proxy_pass api; }}
        }}"""
    module, _, rest = stream.partition(";")
    load_module = f"{module.strip()};" if stream else ""
    configuration = write(f"{work}/{name}.conf", f"""
        {load_module} worker_processes {settings.workers}; {nginx_start(work, name)} {http} {rest}
    """)
    return Process(name, ["nginx", "-c", configuration], on_cores, work, port)


def start_triad(name, work, on_cores, settings, binary, extra=""):
    port, gossip, status = free_port(), free_port(), free_port()
    servers = ", ".join(
        f'{{ id: "s{index}", address: "{address}:{server}" }}' for index, (address, server) in
        enumerate(settings.servers, 1))
    configuration = write(f"{work}/{name}.json5", f"""
{{
  cluster: "bench",
  nodes: [{{ id: "n1", address: "127.0.0.1" }}],
  gossip: {{ port: {gossip} }},
  status: {{ port: {status} }},
  data: "{work}/{name}-data",
  workers: {settings.workers},
  limits: {{ connections: {CONNECTIONS_MAX} }},
  timeouts: {{ keepAlive: "300s" }},
  frontends: [{{ name: "front", address: "127.0.0.1", port: {port}, mode: "{settings.mode}", backend: "api" }}],
  backends: [{{ name: "api", balance: "roundrobin", check: {{ type: "tcp", interval: "1s" }}, servers: [{servers}] }}],
  {extra}
}}
""")
    process = Process(
        name, [binary, "run", "--config", configuration, "--node", "n1"], on_cores, work, port,
        environment={"TRIAD_TOKEN": "bench-token-bench-token-bench-token"})
    process.status_port = status
    return process
