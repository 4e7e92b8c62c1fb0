// Main: the entry of `triad`. Which command runs is decided in Commands.swift.

import Glibc

@main
enum Main {
    static func main() {
        Console.ignoreBrokenPipes()
        exit(Commands.run(Array(CommandLine.arguments.dropFirst())))
    }
}
