// Environment: what this process was given beside its arguments: environment variables.

import Glibc

enum Environment {
    /// An environment variable; nil when it isn't set. Call it at start only: the environment is not locked.
    static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
