"""The proxy beside haproxy and nginx on this machine, on loopback. Run it as `cluster/bench`.

wrk loads each proxy in turn; one nginx is the servers behind all of them. The proxy has one core to itself (two
workers: all cores), load and servers have the others. Order rotates per round, and haproxy is measured twice per
round: its ratio to itself (`haproxy-control`) shows the noise, and differences smaller than its distance from 1 mean
nothing. CPU per request is user + system time of all the proxy's threads ÷ requests. Everything runs on free loopback
ports, under the same kernel settings, and is ended by process id.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile

import changes
import loads
import machine
import pairs
import proxies
import report
from machine import Failure

CASES = [load.name for load in loads.LOADS]
ONCE = ["syscalls", "idle", "servers", "pairs"]


def arguments():
    parser = argparse.ArgumentParser(
        prog="cluster/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="alternations per load (default 5)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement (default 2)")
    parser.add_argument(
        "--only", metavar="NAMES", help=f"of: {', '.join(CASES + ONCE)} (default: all; comma-separated)")
    parser.add_argument("--quick", action="store_true", help="three rounds of one second of `small`")
    parser.add_argument("--binary", metavar="FILE", help="the triad to measure; default: built from this repository")
    parser.add_argument(
        "--against", metavar="FILE", help="another triad, measured in every round, too (as `triad-other`)")
    parser.add_argument("--triad-config", metavar="TEXT", default="", help="more lines for triad's configuration")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--svg", metavar="FILE", help="draw the ratios there")
    parser.add_argument("--markdown", action="store_true", help="print the table of a README")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds, given.only = 3, 1, given.only or "small"
    given.only = given.only.split(",") if given.only else CASES + ONCE
    for name in given.only:
        if name not in CASES + ONCE:
            parser.error(f"no load is called {name}; there are {', '.join(CASES + ONCE)}")
    if given.rounds < 1 or given.seconds < 1:
        parser.error("rounds and seconds must be at least 1")
    for binary in filter(None, (given.binary, given.against)):
        if not os.access(binary, os.X_OK):
            parser.error(f"{binary} is no program")
    return given


class Bench:
    def __init__(self, given, work):
        self.given, self.work = given, work
        self.proxy_core, self.load_cores = machine.cores()
        self.running = []
        self.servers = None

    def start(self):
        self.servers, self.server_port = proxies.start_servers(self.work, self.load_cores)

    def stop(self, processes):
        for process in processes:
            process.end()

    def end(self):
        self.stop(self.running)
        if self.servers:
            self.servers.end()

    def addresses(self, count=2):
        return [(f"127.0.{1 + index // 250}.{1 + index % 250}", self.server_port) for index in range(count)]

    def start_proxies(self, mode, workers, only=None):
        """Every proxy for one group of loads, by name."""
        on_cores = [self.proxy_core] if workers == 1 else [self.proxy_core, *self.load_cores]
        settings = proxies.Settings(mode, workers, self.addresses())
        tag = f"{mode}{workers}"
        makers = {
            "haproxy": lambda name: proxies.start_haproxy(name, self.work, on_cores, settings),
            "haproxy-tuned": lambda name: proxies.start_haproxy(name, self.work, on_cores, settings, tuned=True),
            "nginx": lambda name: proxies.start_nginx(name, self.work, on_cores, settings),
        }
        for label, binary in (("triad", self.given.binary), ("triad-other", self.given.against)):
            if binary:
                makers[label] = lambda name, binary=binary: proxies.start_triad(
                    name, self.work, on_cores, settings, binary, self.given.triad_config)
        started = {}
        for label, make in makers.items():
            if only is None or label in only:
                started[label] = make(f"{label}-{tag}")
                self.running.append(started[label])
        return started

    def alternate(self, load, started):
        """Rounds of one load over all proxies: figures by proxy, a list entry per round."""
        order = list(started.items())
        order.insert(len(order) // 2 + 1, ("haproxy-control", started["haproxy"]))
        for _, process in order:
            loads.measured(process, load, 1, self.load_cores, self.work)
        results = {label: [] for label, _ in order}
        for turn in range(self.given.rounds):
            machine.progress(f"{load.name}: round {turn + 1} of {self.given.rounds}")
            for index in range(len(order)):
                label, process = order[(index + turn) % len(order)]
                results[label].append(
                    loads.measured(process, load, self.given.seconds, self.load_cores, self.work))
        machine.progress("")
        return results

    def measure(self):
        """All loads that were asked for, by group of proxies that can serve them."""
        chosen = [load for load in loads.LOADS if load.name in self.given.only]
        results = {}
        for group in dict.fromkeys((load.mode, load.workers) for load in chosen):
            started = self.start_proxies(*group)
            for load in chosen:
                if (load.mode, load.workers) == group:
                    results[load.name] = self.alternate(load, started)
            self.stop(started.values())
        return chosen, results

    def once(self):
        """Figures that need no rounds: they are counts and sizes."""
        extra = {}
        if "syscalls" in self.given.only:
            started = self.start_proxies("http", 1)
            small = next(load for load in loads.LOADS if load.name == "small")
            extra["systemCalls"] = {
                label: loads.system_calls(process, small, 2, self.load_cores, self.work)
                for label, process in started.items()}
            self.stop(started.values())
        if "idle" in self.given.only:
            started = self.start_proxies("http", 1)
            extra["idleBytes"] = {}
            for label, process in started.items():
                machine.progress(f"idle connections: {label}")
                extra["idleBytes"][label] = loads.idle_memory(process)
            machine.progress("")
            self.stop(started.values())
        if "servers" in self.given.only:
            extra["servers"] = changes.measure(self)
        if "pairs" in self.given.only:
            extra["pairs"] = pairs.measure(self)
        return extra


def say_once(extra):
    if "systemCalls" in extra:
        print("\nsystem calls per small request on a kept connection:")
        for label, calls in extra["systemCalls"].items():
            named = sorted(calls.items(), key=lambda item: -item[1])
            listed = ", ".join(f"{name} {count:.2f}" for name, count in named if count >= 0.005)
            print(f"  {label:<15} {sum(calls.values()):5.2f}  ({listed})")
    if "idleBytes" in extra:
        print(f"\nmemory per idle client, {loads.IDLE_CONNECTIONS} of them:")
        for label, size in extra["idleBytes"].items():
            print(f"  {label:<15} {size:6.0f} bytes")
    if "servers" in extra:
        changes.say(extra["servers"])
    if "pairs" in extra:
        pairs.say(extra["pairs"])


def main():
    given = arguments()
    work = tempfile.mkdtemp(prefix="triad-bench.")
    bench = Bench(given, work)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        bench.start()
        chosen, results = bench.measure()
        extra = bench.once()
    finally:
        bench.end()
        shutil.rmtree(work, ignore_errors=True)
    versions = [machine.first_line(command) for command in (["haproxy", "-v"], ["nginx", "-v"])]
    versions[0] = versions[0].split(" - ")[0]
    if given.binary:
        versions.insert(0, machine.first_line([given.binary, "version"]))
    about = f"{machine.description()}; {', '.join(versions)}"
    print(about)
    print(f"medians of {given.rounds} rounds of {given.seconds} s; proxy on core {bench.proxy_core}, load and servers on "
          f"{','.join(map(str, bench.load_cores))}\n")
    found = report.rows(results, chosen)
    if found:
        print(report.table(found))
        if given.markdown:
            print(report.markdown(found))
    say_once(extra)
    if given.json:
        report.to_json(given.json, about, found, extra)
    if given.svg and found:
        report.svg(given.svg, about, found)


try:
    main()
except Failure as problem:
    sys.exit(f"bench: {problem}")
except KeyboardInterrupt:
    sys.exit(130)
