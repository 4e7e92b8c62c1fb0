"""Failover of triad beside that of keepalived with haproxy: the same faults, seen from outside. Run it as `cluster/compare`.

Three nodes, five APIs, clients and an observer are namespaces on one switch in this machine. The observer asks for the
VIP by ARP a thousand times a second: two nodes that answer are two owners. Meanwhile there are 200 requests a second on
new connections and 200 on 50 kept ones; one that takes longer than 250 ms has failed. After each fault the node is
started anew. Everyone is measured in every round. Needs root.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import faults
import picture
import record
import systems
from network import Failure, Network, wait
from record import ms


def arguments():
    names = ", ".join(fault.name for fault in faults.ALL)
    parser = argparse.ArgumentParser(
        prog="cluster/compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", metavar="FILE", help="the triad to take; default: built from this repository")
    parser.add_argument("--rounds", type=int, default=3, help="how often each fault (default 3)")
    parser.add_argument("--only", metavar="NAMES", help=f"of the faults {names} (default: all; comma-separated)")
    parser.add_argument(
        "--systems", metavar="NAMES", help=f"of {', '.join(one.name for one in systems.ALL)} (default: all)")
    parser.add_argument("--svg", metavar="FILE", help="draw the first round there")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    given = parser.parse_args()
    given.faults = chosen(parser, faults.ALL, given.only)
    given.systems = chosen(parser, systems.ALL, given.systems)
    if given.rounds < 1:
        parser.error("rounds must be at least 1")
    if not given.binary or not os.access(given.binary, os.X_OK):
        parser.error(f"{given.binary} is no program")
    given.binary = os.path.abspath(given.binary)
    if os.geteuid() != 0:
        parser.error("needs root: it makes network namespaces")
    return given


def chosen(parser, known, names):
    if names is None:
        return known
    for name in names.split(","):
        if name not in [one.name for one in known]:
            parser.error(f"nothing is called {name}; there are {', '.join(one.name for one in known)}")
    return [one for one in known if one.name in names.split(",")]


class Scene:
    """One system on its network, with those who watch it."""

    def __init__(self, network, make, binary):
        self.network, self.binary = network, binary
        for node in systems.NODES:
            network.host(node, [systems.address(node)])
        network.host("apis", [systems.api_address(number) for number in systems.APIS])
        network.host("client", ["10.77.0.50"])
        network.host("observer", [])
        self.stations = {network.station(node): node for node in systems.NODES}
        for number in systems.APIS:
            network.start(f"api_{number}", "apis", [
                binary, "api", "--id", str(number), "--address", systems.api_address(number), "--port", "8080"])
        network.start("observer", "observer", [
            binary, "observe", systems.VIP, "--interface", "eth0", "--log", self.path("answers")])
        time.sleep(1)
        self.system = make(network, binary)
        self.system.start()
        wait("a node owns the VIP", self.owner)
        time.sleep(3)
        for name, more in (("fresh", ["--new-connections"]), ("kept", ["--connections", "50"])):
            network.start(name, "client", [
                binary, "load", f"http://{systems.VIP}/", "--rate", "200", *more, "--log", self.path(name)])
        self.settle()

    def path(self, name):
        return f"{self.network.folder}/{name}.requests"

    def answers(self):
        return record.Answers(self.path("answers"), self.stations)

    def owner(self):
        """Who owns the VIP alone."""
        answers = self.answers()
        owners = answers.owners(answers.complete_to)
        return owners[0] if len(owners) == 1 else None

    def settle(self):
        """Somebody owns the VIP alone, nothing failed for two seconds, and nobody has just started: who has needs
        some seconds to know the others' state, and a second fault before that is another experiment."""
        def calm():
            logs = [record.requests(self.path(name)) for name in ("fresh", "kept")]
            since = record.now() - 2_500_000_000
            recent = [one for log in logs for one in log if one[0] > since]
            return self.owner() and len(recent) > 400 and not any(failed for _, _, failed in recent)
        time.sleep(5)
        wait("the cluster serves without a failure", calm, 60)

    def suffer(self, fault):
        owner = wait("one owner", self.owner)
        begin = record.now()
        end = begin + int(fault.seconds * 1e9)
        fault.do(self.system, owner)
        wait("everything of the window is in the logs", lambda: self.is_known(end), fault.seconds + 30)
        window = record.Window(
            begin, end, self.answers(), record.requests(self.path("fresh")), record.requests(self.path("kept")))
        if fault.undo:
            fault.undo(self.system, owner)
        self.system.recover(owner)
        self.settle()
        return window

    def is_known(self, end):
        if record.now() < end + 400_000_000 or self.answers().complete_to < end:
            return False
        return all(log and log[-1][1] > end for log in
                   (record.requests(self.path(name)) for name in ("fresh", "kept")))


def measure(given):
    """Windows by (fault, system), one per round."""
    results = {}
    for turn in range(given.rounds):
        for make in given.systems:
            with Network("triadcompare") as network:
                scene = Scene(network, make, given.binary)
                for fault in given.faults:
                    window = scene.suffer(fault)
                    results.setdefault((fault.name, make.name), []).append(window)
                    print(f"{turn + 1} {make.name}: {fault.name}: {sentence(window)}", file=sys.stderr, flush=True)
    return results


def sentence(window):
    return (f"outage {ms(window.outage_ms)}, {len(window.failures)} of {window.requests} failed, moved after "
            f"{ms(window.moved_ms)}, two owners: {together(window)}, nobody for {ms(window.nobody_ms)}")


def table(given, results):
    """Markdown: a row per fault and system, the rounds' figures between slashes."""
    rows = ["| what happens to the owner | | the clients' outage | failed requests | the VIP moved after | two owners |",
            "|---|---|---|---|---|---|"]
    for fault in given.faults:
        for place, make in enumerate(given.systems):
            windows = results[fault.name, make.name]
            rows.append("| " + " | ".join([
                fault.title if place == 0 else "", make.name,
                " / ".join(ms(one.outage_ms) for one in windows),
                " / ".join(str(len(one.failures)) for one in windows),
                " / ".join(ms(one.moved_ms) for one in windows),
                " / ".join(together(one) for one in windows)]) + " |")
    return "\n".join(rows)


def together(window):
    """How long two nodes owned the VIP."""
    if not window.doubles:
        return "never"
    return ms(window.two_owners_ms) + (" and on" if window.goes_on else "")


def versions(binary):
    said = []
    for command in ([binary, "version"], ["keepalived", "--version"], ["haproxy", "-v"]):
        done = subprocess.run(command, capture_output=True, text=True)
        said.append((done.stdout or done.stderr).splitlines()[0].split(" - ")[0].split(" (")[0])
    return ", ".join(said)


def main():
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = measure(given)
    print(f"{versions(given.binary)}; Linux {os.uname().release}, {os.cpu_count()} cores; {given.rounds} rounds\n")
    print(table(given, results))
    if given.svg:
        with open(given.svg, "w") as file:
            file.write(picture.svg(given.faults, given.systems, results))
    if given.json:
        figures = {f"{fault} {name}": [
            {"outageMs": one.outage_ms, "failed": len(one.failures), "requests": one.requests, "movedMs": one.moved_ms,
             "twoOwnersMs": one.two_owners_ms, "nobodyMs": one.nobody_ms} for one in windows]
            for (fault, name), windows in results.items()}
        with open(given.json, "w") as file:
            json.dump({"versions": versions(given.binary), "figures": figures}, file, indent=1)


try:
    main()
except Failure as problem:
    sys.exit(f"compare: {problem}")
except KeyboardInterrupt:
    sys.exit(130)
