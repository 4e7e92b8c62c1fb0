// LabTests: the lab itself, with plain processes: does it hear, cut and clean up as the scenarios rely on?

import Glibc
import Testing

@testable import Node

extension ClusterTests {
    @Test func ownershipIsRecordedFromEveryNamespaceInOrder() throws {
        let lab = try Lab()
        defer { lab.tearDown() }
        let address = "\(LabNetwork.vip)/32 dev eth0"
        let (one, two) = (try lab.network.host("n1"), try lab.network.host("n2"))
        try lab.network.ip(["addr replace \(address)", "addr replace \(address)", "addr del \(address)"], in: one)
        try lab.network.ip(["addr replace \(address) valid_lft 1 preferred_lft 1"], in: two)
        try lab.network.ip(["addr replace \(address)"], in: one)
        try lab.wait("the kernel drops the address of n2") { try lab.ownershipSoFar().owners == ["n1"] }
        let record = try lab.ownership()
        #expect(record.changes.map(\.node) == ["n1", "n1", "n2", "n1", "n2"])
        #expect(record.changes.map(\.owns) == [true, false, true, true, false])
        #expect(record.overlaps.map(\.nodes) == [["n2", "n1"]])
        #expect(record.gaps.count == 1 && record.gaps.first?.before == "n2")
    }

    @Test func trafficIsCutOneWayAndHealed() throws {
        let lab = try Lab()
        defer { lab.tearDown() }
        let api = [LabSystem.triad, "api", "--id", "1", "--port", "80"]
        _ = try lab.start("api on n2", api, on: "n2", log: "\(lab.directory)/api")
        let answers = { () throws -> Bool in
            let load = ["load", "http://10.77.0.12/", "--seconds", "0.1", "--rate", "50", "--new-connections"]
            return try lab.run(load, on: "client").code == 0
        }
        try lab.wait("the API answers", answers)
        try lab.network.cut(from: "client", to: "n2")
        #expect(try !answers())
        try lab.network.heal()
        try lab.wait("the API answers again", answers)
        try lab.network.cut(from: "n2", to: "client")
        #expect(try !answers())
        try lab.network.heal()
        try lab.network.setLink("n2", up: false)
        #expect(try !answers())
        try lab.network.setLink("n2", up: true)
        try lab.wait("the API answers again", answers)
    }

    @Test func nothingIsLeftBehind() throws {
        let lab = try Lab()
        let process = try lab.start(
            "sleeper", ["sh", "-c", "sleep 60 & sleep 60"], on: "n1", log: "\(lab.directory)/s")
        #expect(kill(-process.pid, 0) == 0)
        lab.tearDown()
        #expect(kill(-process.pid, 0) != 0)
        #expect(access(lab.directory, F_OK) != 0)
    }
}
