"""Many servers, and servers that keep changing: what that costs a request."""

import http.client
import json
import threading
import time

import loads
import proxies
import report

MANY = 1_000
FEW = 5
CHANGES_PER_SECOND = 100
TOKEN = "bench-token-bench-token-bench-token"


class Changes:
    """Changes weights through the admin interface, at a steady rate, until `stop`."""

    def __init__(self, status_port, servers):
        self.port, self.servers = status_port, servers
        self.made, self.failed = 0, 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(lane,)) for lane in range(4)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _run(self, lane):
        due = time.monotonic()
        count = 0
        while not self.stopping.is_set():
            count += 1
            server = (count * 37 + lane) % self.servers + 1
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request(
                    "POST", "/admin/weight", json.dumps({"server": f"api/s{server}", "weight": 1 + count % 5}),
                    {"Authorization": f"Bearer {TOKEN}"})
                if connection.getresponse().status == 200:
                    self.made += 1
                else:
                    self.failed += 1
            except OSError:
                self.failed += 1
            finally:
                connection.close()
            due += len(self.threads) / CHANGES_PER_SECOND
            self.stopping.wait(max(0, due - time.monotonic()))


def measure(bench):
    """CPU per request of the workers, and of the whole process, with few servers, with many, and with many that change;
    and what the same many cost the others, whose one thread does all of it."""
    small = next(load for load in loads.LOADS if load.name == "small")
    few = _start(bench, "few", FEW)
    many = _start(bench, "many", MANY)
    others = _start_others(bench)
    time.sleep(3)
    results = {"few": [], "many": [], "changing": [], **{name: [] for name in others}}
    made, failed, seconds = 0, 0, 0.0
    for _ in range(bench.given.rounds):
        for name, process in (("few", few), ("many", many), *others.items()):
            results[name].append(loads.measured(process, small, bench.given.seconds, bench.load_cores, bench.work))
        changes = Changes(many.status_port, MANY)
        changes.start()
        begun = time.monotonic()
        results["changing"].append(
            loads.measured(many, small, bench.given.seconds, bench.load_cores, bench.work))
        seconds += time.monotonic() - begun
        changes.stop()
        made, failed = made + changes.made, failed + changes.failed
    bench.stop([few, many, *others.values()])
    return {"rounds": results, "changesPerSecond": made / seconds, "changesFailed": failed}


def _start(bench, name, count):
    settings = proxies.Settings(servers=bench.addresses(count))
    process = proxies.start_triad(
        f"triad-{name}", bench.work, [bench.proxy_core], settings, bench.given.binary, bench.given.triad_config)
    bench.running.append(process)
    return process


def _start_others(bench):
    started = {}
    for label, make in (("haproxy", proxies.start_haproxy), ("nginx", proxies.start_nginx)):
        for name, count in (("few", FEW), ("many", MANY)):
            process = make(
                f"{label}-{name}", bench.work, [bench.proxy_core], proxies.Settings(servers=bench.addresses(count)))
            bench.running.append(process)
            started[f"{label} {name}"] = process
    return started


def say(found):
    print(f"\n{FEW} servers, {MANY}, and {MANY} with {found['changesPerSecond']:.0f} changes a second "
          f"({found['changesFailed']} failed):")
    base = found["rounds"]["few"]
    for name in ("few", "many", "changing"):
        rounds = found["rounds"][name]
        workers, low, high = report.ratio(rounds, base, "worker_cpu")
        whole = report.ratio(rounds, base, "cpu")[0]
        print(f"  {name:<9} workers {report.median(rounds, 'worker_cpu'):6.2f} µs a request, "
              f"{workers:.2f} ({low:.2f}–{high:.2f}); with checks and control {report.median(rounds, 'cpu'):6.2f}, "
              f"{whole:.2f}")
    for label in ("haproxy", "nginx"):
        few, many = (found["rounds"][f"{label} {name}"] for name in ("few", "many"))
        whole, low, high = report.ratio(many, few, "cpu")
        checks = "" if label == "haproxy" else " (it doesn't check)"
        print(f"  {label:<9} {report.median(few, 'cpu'):6.2f} and {report.median(many, 'cpu'):6.2f} µs, "
              f"{whole:.2f} ({low:.2f}–{high:.2f}){checks}")
