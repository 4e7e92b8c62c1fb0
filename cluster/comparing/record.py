"""What was seen from outside: who answered for the VIP, asked a thousand times a second, and what clients got.

`triad observe` and `triad load` write the logs (Sources/Node/Lab: AnswerTracker, LoadFigures say how). Times are
CLOCK_BOOTTIME nanoseconds.
"""

import time


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def lines(path):
    try:
        with open(path) as file:
            text = file.read()
    except FileNotFoundError:
        return
    # A line that is still being written has no end yet.
    for line in text[:text.rfind("\n") + 1].splitlines():
        yield line.split()


class Answers:
    """Runs of answers: node, first and last probe, from, to. One that goes on has no last probe."""

    def __init__(self, path, stations):
        self.runs, self.complete_to = [], 0
        for words in lines(path):
            if words[0] == "+":
                self.runs.append([stations.get(words[1], words[1]), int(words[2]), None, int(words[4]), None])
            elif words[0] == "-":
                node = stations.get(words[1], words[1])
                run = next(run for run in reversed(self.runs) if run[0] == node and run[2] is None)
                run[2], run[4] = int(words[2]), int(words[4])
            elif words[0] == "t":
                self.complete_to = int(words[1])

    def owners(self, moment):
        return [node for node, _, _, begin, end in self.runs if begin <= moment and (end is None or end >= moment)]

    def within(self, begin, end):
        """(node, from, to) of the runs in a span, cut to it."""
        return [(node, max(start, begin), min(stop or end, end))
                for node, _, _, start, stop in self.runs if start < end and (stop or end) > begin]

    def two_owners(self, begin, end):
        """Spans in which two nodes answered the same probes."""
        spans = []
        for index, one in enumerate(self.runs):
            for other in self.runs[index + 1:]:
                # Each began before the other was over, by the probes that both heard.
                if other[1] <= (one[2] or float("inf")) and one[1] <= (other[2] or float("inf")):
                    start, stop = max(one[3], other[3], begin), min(one[4] or end, other[4] or end, end)
                    if start < stop:
                        spans.append((start, stop))
        return spans


def requests(path):
    """(start, end, whether it failed) of each request that has ended, in the order of their starts. A connection that
    ended while nothing was under way (`dropped`) isn't one."""
    return sorted(
        (int(words[0]), int(words[1]), words[2] not in ("ok", "reconnected"))
        for words in lines(path) if words[2] != "dropped")


class Window:
    """A fault, from just before it to the end of what is looked at."""

    def __init__(self, begin, end, answers, fresh, kept):
        self.begin, self.end = begin, end
        #: Who owned the VIP before.
        self.before = answers.owners(begin)
        self.owners = answers.within(begin, end)
        self.doubles = answers.two_owners(begin, end)
        self.two_owners_ms = length(self.doubles)
        #: Whether two still own it when the window ends.
        self.goes_on = any(stop >= end for _, stop in self.doubles)
        self.nobody_ms = (end - begin) / 1e6 - length([(start, stop) for _, start, stop in self.owners])
        taken = [start for node, start, _ in self.owners if node not in self.before and start > begin]
        self.moved_ms = (taken[0] - begin) / 1e6 if taken else None
        inside = [[one for one in log if begin <= one[0] < end] for log in (fresh, kept)]
        self.requests = sum(len(log) for log in inside)
        self.failures = [start for log in inside for start, _, failed in log if failed]
        self.outage_ms = max((stop - start) / 1e6 for start, stop in outages(inside[0], end) or [(0, 0)])


def outages(log, end):
    """From the start of a request that failed to that of the next one that didn't."""
    spans, since = [], None
    for start, _, failed in log:
        if failed and since is None:
            since = start
        elif not failed and since is not None:
            spans.append((since, start))
            since = None
    return spans + ([(since, end)] if since is not None else [])


def length(spans):
    """Milliseconds that at least one of them covers."""
    total, covered = 0, 0
    for start, stop in sorted(spans):
        total += max(0, stop - max(start, covered))
        covered = max(covered, stop)
    return total / 1e6


def ms(value):
    if value is None:
        return "not"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms"
