// Simulator: the program around the simulated cluster. It takes options and prints; all that happens is in Simulation.

import Glibc
import Simulation

exit(SimulatorCommand(CommandLine.arguments.dropFirst().map { $0 }).run { print($0) })
