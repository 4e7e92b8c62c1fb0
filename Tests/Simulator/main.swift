// Simulator: the program around the simulated cluster. It takes options and prints; all that happens is in Simulation.

import Glibc
import Simulation

func nanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

exit(SimulatorCommand(Array(CommandLine.arguments.dropFirst()), clock: nanoseconds).run { print($0) })
