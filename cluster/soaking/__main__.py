"""Everything at once through one node, for minutes, on loopback. Run it as `cluster/soak`.

Clients of every kind (kept and new connections, pipelining, large and slow bodies, uploads, TCP streams, WebSockets,
PROXY headers, garbage, heads that never end, resets at any moment) while servers are killed and frozen and the node's
file is replaced every second, now and then by one with a mistake. Every failed request must be explained by the death
of the server that had begun to answer it, or that may have acted on it; memory and descriptors must be flat. Exits 1 if
not. Everything runs on free loopback ports and is ended by process id.
"""

import argparse
import asyncio
import collections
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.dirname(HERE))
import node  # noqa: E402
from clients import Clients  # noqa: E402
from ports import free_port  # noqa: E402

KINDS = {
    "kept": 16, "fresh": 6, "pipelined": 2, "large": 4, "slow": 4, "loris": 3, "garbage": 1, "resetting": 4,
    "upload": 4, "proxied": 3, "stream": 6, "streamreset": 2, "websocket": 6}
# After a span in which something grew there is another: a leak grows in each, a pool comes to its limit.
SPANS = 3


class Servers:
    """Four servers, of which the first three are killed and frozen, one at a time."""

    def __init__(self, work):
        self.log = open(os.path.join(work, "servers.log"), "ab")
        self.deaths = []
        self.places = [(f"s{number}", f"127.0.1.{number}", free_port(count=2)) for number in range(1, 5)]
        self.running = {}
        for place in self.places:
            self.start(place)

    def start(self, place):
        name, address, port = place
        self.running[name] = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "server.py"), name, address, str(port)], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log)

    async def trouble(self, chance, watched):
        """Until it is cancelled. No two servers are in trouble at a time: one more may be missing in the node's file."""
        while True:
            await asyncio.sleep(2 + chance.random())
            place = chance.choice(self.places[:3])
            child = self.running[place[0]]
            if chance.random() < 0.3:
                child.send_signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(1.5)
                finally:
                    child.send_signal(signal.SIGCONT)
            else:
                began = time.monotonic()
                child.kill()
                child.wait()
                self.deaths.append((place[0], began, time.monotonic()))
                await asyncio.sleep(1)
                self.start(place)
            deadline = time.monotonic() + node.PATIENCE_SECONDS
            while place[0] not in await watched.servers_up():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{place[0]} isn't up again:\n{self.tail()}\n{watched.tail()}")
                await asyncio.sleep(0.2)

    def tail(self, lines=10):
        with open(self.log.name, errors="replace") as output:
            return "".join(output.readlines()[-lines:])

    def end(self):
        for child in self.running.values():
            child.send_signal(signal.SIGCONT)
            child.kill()
            child.wait()
        self.log.close()


class Tally:
    """What became of the requests."""

    def __init__(self, servers):
        self.servers = servers
        self.counts = collections.Counter()
        self.unexplained = []
        # When this process ran late, and how much: the node may have, too, and heard of a death that much later.
        self.late = collections.deque(maxlen=20)

    async def watch_lateness(self):
        while True:
            due = time.monotonic() + 0.1
            await asyncio.sleep(0.1)
            if time.monotonic() - due > 0.1:
                self.late.append((due, time.monotonic()))

    def slack(self, since):
        """How long before a request a server may have died whose death the node didn't know yet."""
        return 0.3 + sum(end - begin for begin, end in self.late if begin <= since + 1 and end >= since - 2)

    def done(self, how="answered"):
        self.counts[how] += 1

    def failed(self, kind, what, who, repeatable, since):
        now = time.monotonic()
        # A request that began on a connection whose server had just died is one that met the death.
        earliest = since - self.slack(since)
        died = {name for name, began, ended in self.servers.deaths if earliest <= ended and began <= now}
        if who is not None and who in died:
            self.counts[f"its server died ({kind}: {what})"] += 1
        elif who is None and not repeatable and died:
            self.counts[f"a server died that may have acted on it ({kind}: {what})"] += 1
        else:
            self.counts[f"NOT EXPLAINED ({kind}: {what})"] += 1
            self.unexplained.append(
                f"{kind}: {what}, server {who}, after {now - since:.2f} s at {node.clock()}, servers that died before: "
                + (", ".join(f"{name} {now - at:.2f} s" for name, at, _ in self.servers.deaths[-3:]) or "none"))


async def sample(watched, samples):
    while True:
        samples.append(watched.sample())
        await asyncio.sleep(1)


async def reloads(watched):
    turn = 0
    while True:
        await asyncio.sleep(1)
        turn += 1
        await watched.reload(turn)


def growth(samples):
    """What grew; empty when all is flat."""
    wrong = []
    # The first quarter warms up: pools and tables take what the load needs.
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter:2 * quarter], samples[-quarter:]
    for name, slack in (("memory", 2 << 20), ("descriptors", 20)):
        before = statistics.median(getattr(one, name) for one in early)
        after = statistics.median(getattr(one, name) for one in late)
        print(f"{name}: {before:,.0f} in the second quarter, {after:,.0f} in the last")
        if after > before * 1.1 + slack:
            wrong.append(f"{name} grew from {before:,.0f} to {after:,.0f} in each of {SPANS} spans")
    return wrong


def judge(tally):
    """Complaints; empty when all is well."""
    wrong = list(tally.unexplained[:20])
    if len(tally.unexplained) > 20:
        wrong.append(f"and {len(tally.unexplained) - 20} more that are not explained")
    if not tally.counts["answered"]:
        wrong.append("no request was answered")
    return wrong


async def run(given, work):
    servers = Servers(work)
    watched = None
    try:
        watched = node.Node(given.binary, work, servers.places)
        await watched.ready()
        tally = Tally(servers)
        load = Clients(watched.ports, tally)
        samples = []
        clients = [
            asyncio.create_task(load.forever(kind)) for kind, count in KINDS.items() for _ in range(count)]
        beside = [
            asyncio.create_task(task) for task in (
                servers.trouble(random.Random(given.seed), watched), sample(watched, samples), reloads(watched),
                tally.watch_lateness())]
        ended = asyncio.create_task(watched.ended())
        for _ in range(SPANS):
            samples.clear()
            done, _ = await asyncio.wait([ended, *beside], timeout=given.seconds, return_when=asyncio.FIRST_COMPLETED)
            if done or not (grown := growth(samples)):
                break
        load.stopping = True
        for task in [ended, *beside]:
            task.cancel()
        if done:
            # Whoever asked the node something may notice its end first.
            await asyncio.sleep(0.5)
        if watched.child.poll() is not None:
            return [f"the node ended with {watched.child.returncode}:\n{watched.tail(80)}"]
        for task in done:
            if task.exception():
                print(watched.tail(40), file=sys.stderr)
                raise task.exception()
        await asyncio.wait(clients, timeout=3 * node.PATIENCE_SECONDS)
        for task in clients:
            if not task.done():
                raise SystemExit(f"soak: a client doesn't end: {task.get_coro()}\n{watched.tail()}")
            if task.exception():
                raise task.exception()
        left_over = await watched.settle()
        for how, count in sorted(tally.counts.items(), key=lambda item: -item[1]):
            print(f"{count:9,}  {how}")
        print(f"{watched.reloads} reloads, {len(servers.deaths)} servers killed")
        if wrong := judge(tally) + grown + left_over:
            wrong.append(f"the node said last:\n{watched.tail(40)}the servers:\n{servers.tail()}")
        return wrong
    finally:
        if watched:
            watched.end()
        servers.end()


def main():
    parser = argparse.ArgumentParser(
        prog="cluster/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300, help="how long (default 300)")
    parser.add_argument("--seed", type=int, default=1, help="which servers fail when (default 1)")
    parser.add_argument("--binary", metavar="FILE", help="the triad to load; default: built from this repository")
    given = parser.parse_args()
    if given.seconds < 8:
        parser.error("--seconds must be at least 8: there are four quarters to compare")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = tempfile.mkdtemp(prefix="triad-soak.")
    try:
        wrong = asyncio.run(run(given, work))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for line in wrong:
        print(f"soak: {line}", file=sys.stderr)
    print("soak: not passed" if wrong else "soak: passed", file=sys.stderr)
    return 1 if wrong else 0


sys.exit(main())
