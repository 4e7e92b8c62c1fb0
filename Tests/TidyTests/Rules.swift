// Rules: what the checks allow, in tables. A change here is a decision: give its reason beside it.

enum Rules {
    static let linesMax = 600
    static let functionLinesMax = 70

    /// Modules under Sources, and what each may import.
    static let imports: [String: [String]] = [
        "Gossip": [],
        "Proxy": ["CLinux", "Glibc", "Synchronization"],
        "Node": ["CLinux", "Glibc", "Synchronization", "Gossip", "Proxy"],
        "CLinux": [],
    ]

    /// Folders under Tests that are libraries or programs, and what each may import.
    static let testImports: [String: [String]] = [
        "Simulation": ["Gossip"],
        "Simulator": ["Glibc", "Simulation"],
    ]

    /// Modules in which two runs with one seed are the same to the last byte.
    static let pureModules: Set<String> = ["Gossip", "Simulation"]

    /// Files that may contain unsafe code. Keep such a file small, and wrap what it does in a safe type at once.
    static let unsafeFiles: Set<String> = [
        "Sources/Node/CommandLine/Console.swift",  // writes of a string's bytes
        "Sources/Node/Import/NameLookup.swift",  // getaddrinfo's list
        "Sources/Node/Storage/Disk.swift",  // file reads and writes to and from arrays
        "Sources/Node/Fence/FenceSystem.swift",  // child processes, the kill timer
        "Sources/Node/Runtime/SignalDescriptor.swift",  // signalfd's records
        "Sources/Proxy/System/ArrayTransfers.swift",  // sockets to and from arrays
        "Sources/Proxy/Counters.swift",  // a block of atomic words, read by another thread
        "Sources/Proxy/HTTP/Words.swift",  // checked loads of eight bytes
        "Sources/Proxy/Log/LogOutput.swift",  // writes of an array's bytes
        "Sources/Proxy/Log/LogRing.swift",  // a ring that two threads share
        "Sources/Proxy/Log/RequestLog.swift",  // texts of requests, reserved but not touched
        "Sources/Proxy/Protection/Places.swift",  // a table of atomic words that workers share
        "Sources/Proxy/Protection/SourceTable.swift",  // a table of atomic words that workers share
        "Sources/Proxy/System/BackgroundThread.swift",  // pthread_create
        "Sources/Proxy/System/Reactor.swift",  // epoll's event array
        "Sources/Proxy/System/SocketAddress.swift",  // sockaddr
        "Sources/Proxy/System/System.swift",  // system calls
        "Sources/Proxy/Worker/BufferPool.swift",  // the buffers' memory, behind bounds checks
        "Sources/Proxy/Worker/Slab.swift",  // a table that is reserved but not touched
        "Sources/Proxy/Worker/WorkerThread.swift",  // pthread_create's argument
    ]

    /// Files of Gossip that may use a Dictionary or Set, each with the reason why its order can't matter.
    static let hashedFiles: [String: String] = [:]

    /// In a pure module these would make two runs with one seed differ.
    static let impureWords: Set<String> = [
        "ContinuousClock", "SuspendingClock", "SystemRandomNumberGenerator", "Date", "hashValue", "Hasher", "Task",
    ]

    /// Methods that draw from the system's generator, or from one that isn't named.
    static let impureMethods: Set<String> = ["random", "shuffled", "shuffle", "randomElement"]

    /// The least that a file's first line must have to say, in characters.
    static let headerLengthMin = 25

    /// Words that say nothing about what a type is; use the field's word instead.
    static let emptyNameParts: Set<String> = [
        "Manager", "Handler", "Helper", "Helpers", "Context", "Util", "Utils", "Utility", "Utilities", "Master",
        "Slave",
    ]
}
