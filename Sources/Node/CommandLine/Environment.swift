// Environment: what this process was given beside its arguments: environment variables.

import Glibc

enum Environment {
    /// All of it as `NAME=value`, as this process got it: for a program that it runs.
    static var all: [String] {
        let bytes = (try? Disk().read("/proc/self/environ", limit: 1 << 20)) ?? []
        return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
    }

    /// An environment variable; nil when it isn't set. Call it at start only: the environment is not locked.
    static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
