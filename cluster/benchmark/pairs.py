"""What a second worker costs within a process: one process with two workers beside two processes with one each.

All of them share two cores with load and servers. Each worker stays on a core of its own, and each gets half of its
clients from either core, so what two workers do to each other (locks, shared cache lines) is all that differs.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import loads
import machine
import proxies
import report

WORKERS = 2
CONNECTIONS = 256


def measure(bench):
    """Rounds of each proxy: together (one process) and apart."""
    cores = [bench.proxy_core, *bench.load_cores][:WORKERS]
    makers = {
        "triad": lambda name, settings: proxies.start_triad(
            name, bench.work, cores, settings, bench.given.binary, bench.given.triad_config),
        "haproxy": lambda name, settings: proxies.start_haproxy(name, bench.work, cores, settings),
    }
    if not bench.given.binary:
        del makers["triad"]
    groups = {}
    for label, make in makers.items():
        for name, workers, count in (("together", WORKERS, 1), ("apart", 1, WORKERS)):
            settings = proxies.Settings(workers=workers, servers=bench.addresses())
            groups[label, name] = [make(f"{label}-{name}{number}", settings) for number in range(count)]
            bench.running.extend(groups[label, name])
            _pin(groups[label, name], cores)
    for processes in groups.values():
        _run(bench, processes, 1, cores)
    results = {label: {"together": [], "apart": []} for label in makers}
    order = list(groups.items())
    for turn in range(bench.given.rounds):
        machine.progress(f"pairs: round {turn + 1} of {bench.given.rounds}")
        for index in range(len(order)):
            (label, name), processes = order[(index + turn) % len(order)]
            results[label][name].append(_run(bench, processes, bench.given.seconds, cores))
    machine.progress("")
    for processes in groups.values():
        bench.stop(processes)
    return results


def _pin(processes, cores):
    """Gives each worker a core."""
    threads = []
    for process in processes:
        names = {}
        for task in os.listdir(f"/proc/{process.child.pid}/task"):
            with open(f"/proc/{process.child.pid}/task/{task}/comm") as comm:
                names[int(task)] = comm.read()
        workers = [task for task, name in names.items() if name.startswith("worker")]
        # haproxy's threads have no names of their own.
        threads += sorted(workers or names)
    if len(threads) != WORKERS:
        raise machine.Failure(f"{processes[0].name}: {len(threads)} workers instead of {WORKERS}")
    for thread, core in zip(threads, cores):
        os.sched_setaffinity(thread, {core})


def _run(bench, processes, seconds, cores):
    parts = [(core, processes[number % len(processes)].port) for core in cores for number in range(WORKERS)]

    def part(number):
        core, port = parts[number]
        load = loads.Load(f"part{number}", "", CONNECTIONS // len(parts))
        return load.run(port, seconds, [core], bench.work)

    before = sum(process.cpu_us() for process in processes)
    with ThreadPoolExecutor(len(parts)) as running:
        figures = list(running.map(part, range(len(parts))))
    used = sum(process.cpu_us() for process in processes) - before
    return {
        "cpu": used / sum(found["requests"] for found in figures), "rate": sum(found["rate"] for found in figures)}


def say(found):
    print("\ntwo workers in one process, and one in each of two, on the same cores with the load:")
    for label, rounds in found.items():
        together, apart = rounds["together"], rounds["apart"]
        cpu, low, high = report.ratio(together, apart, "cpu")
        print(f"  {label:<9} {report.median(together, 'cpu'):6.2f} and {report.median(apart, 'cpu'):6.2f} µs a request, "
              f"{cpu:.2f} ({low:.2f}–{high:.2f}); requests a second {report.ratio(together, apart, 'rate')[0]:.2f}")
