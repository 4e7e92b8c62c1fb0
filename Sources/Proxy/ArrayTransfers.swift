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
}
