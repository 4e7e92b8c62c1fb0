"""What is done to the node that owns the VIP, the same for everyone; and what it is called in the table."""

import signal
import time

from network import kill
from systems import NODES, address

#: How long is looked at from a fault on, seconds: longer than keepalived needs at its defaults.
SECONDS = 6
#: How long everything stands still.
FROZEN = 5


class Fault:
    def __init__(self, name, title, seconds, do, undo=None):
        self.name, self.title, self.seconds, self.do, self.undo = name, title, seconds, do, undo


def crash(system, owner):
    # Stopped first, so that none acts on another's end.
    pids = system.freeze(owner)
    system.network.set_link(owner, "down")
    for pid in pids:
        kill(pid, signal.SIGKILL)


def plug_in(system, owner):
    system.network.set_link(owner, "up")


def freeze(system, owner):
    pids = system.freeze(owner)
    time.sleep(FROZEN)
    for pid in pids:
        kill(pid, signal.SIGCONT)


def cut(system, owner, others):
    for other in others:
        system.network.drop(other, [address(owner)])
    system.network.drop(owner, [address(other) for other in others])


def heal(system, owner):
    for node in NODES:
        system.network.heal(node)


def others_than(owner):
    return [node for node in NODES if node != owner]


ALL = [
    Fault("kill", "kill -9 of what moves the VIP", SECONDS, lambda system, owner: system.kill_director(owner)),
    Fault("proxy", "kill -9 of what balances", SECONDS, lambda system, owner: system.kill_proxy(owner)),
    Fault("crash", "the machine dies: all is killed, its link is down", SECONDS, crash, plug_in),
    Fault("freeze", f"all its processes stand still for {FROZEN} s, then go on", FROZEN + 2, freeze),
    Fault("cut-off", "it is cut off from the other nodes, and not from the clients", SECONDS,
          lambda system, owner: cut(system, owner, others_than(owner)), heal),
    Fault("cut-link", "the link between it and one other node is cut", SECONDS,
          lambda system, owner: cut(system, owner, others_than(owner)[:1]), heal),
    Fault("stop", "it is stopped for maintenance", SECONDS, lambda system, owner: system.stop(owner)),
]
