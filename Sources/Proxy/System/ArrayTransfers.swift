// ArrayTransfers: reading and writing a non-blocking socket with plain byte arrays.
//
// For the control thread's small conversations (checks, status), where an allocation doesn't matter and bounds do.
// The data plane moves bytes through its own buffers instead.
// Unsafe code is allowed in this file (see TidyTests).

extension System {
    /// Reads what is there, up to `bytesMax`, onto the end of `bytes`.
    public static func read(_ descriptor: Int32, onto bytes: inout [UInt8], atMost bytesMax: Int) -> Transfer {
        withUnsafeTemporaryAllocation(byteCount: bytesMax, alignment: 16) { buffer in
            let transfer = read(descriptor, into: buffer)
            if case .moved(let count) = transfer { bytes.append(contentsOf: buffer[..<count]) }
            return transfer
        }
    }

    /// Writes `bytes` from `offset` on, as much as fits now.
    public static func write(_ descriptor: Int32, _ bytes: [UInt8], from offset: Int) -> Transfer {
        bytes.withUnsafeBytes { write(descriptor, UnsafeRawBufferPointer(rebasing: $0[offset...])) }
    }

    /// Sends one datagram.
    public static func send(_ descriptor: Int32, _ bytes: [UInt8], to peer: SocketAddress) -> Transfer {
        bytes.withUnsafeBytes { send(descriptor, $0, to: peer) }
    }

    /// Receives one datagram, cut to `bytesMax`, in place of what `bytes` held.
    public static func receive(_ descriptor: Int32, into bytes: inout [UInt8], atMost bytesMax: Int) -> Transfer {
        var peer = SocketAddress(high: 0, low: 0, port: 0, isIPv6: false)
        var transfer = Transfer.wouldBlock
        bytes = [UInt8](unsafeUninitializedCapacity: bytesMax) { buffer, count in
            transfer = receive(descriptor, into: UnsafeMutableRawBufferPointer(buffer), from: &peer)
            if case .moved(let received) = transfer { count = received }
        }
        return transfer
    }
}
