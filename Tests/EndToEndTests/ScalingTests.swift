// ScalingTests: a cluster with `autoscale`, and `triad autoscale` that carries its decision out.

import Foundation
import Testing

@testable import Node

extension ClusterTests {
    @Test("what the cluster wants is decided, shown everywhere, and carried out")
    func scalingIsCarriedOut() throws {
        let lab = try Lab()
        var options = LabClusterOptions()
        options.apis = []
        options.checkInterval = "500ms"
        options.backend = "autoscale: { min: 3, max: 4, requestsPerServer: 1000, window: \"2s\" },"
        let cluster = try LabCluster(lab, options)
        let program = try DemoScaling.writeProgram(cluster)
        try cluster.startAll()
        let urls = try lab.nodes.map { "http://\(try lab.network.host($0).addresses[0]):8084" }
        func autoscale(_ program: String, _ more: [String] = [], _ asked: [String]) throws -> LabAnswer {
            try lab.run(
                ["autoscale", "--once", "--exec", program, "--token-file", cluster.tokenFile] + more + asked,
                on: LabNetwork.apisName, seconds: 60)
        }
        // The first node asked isn't there.
        let gone = "http://\(lab.network.api(9)):8084"
        let first = try autoscale(program, [], [gone] + urls)
        #expect(first.code == 0, "\(first.errors)")
        for number in 1...3 { #expect(first.output.contains("start api_\(number)"), "\(first.output)") }
        try cluster.waitUntilSettled(up: [1, 2, 3])
        for node in lab.nodes {
            try lab.wait("\(node) shows what is wanted") {
                guard let report = cluster.report(node), let scaling = report.backends.first?.autoscale else {
                    return false
                }
                return scaling.desired == 3 && scaling.problem == nil && report.state.wireVersion == 2
            }
        }
        let again = try autoscale(program, [], urls)
        #expect(again.code == 0 && again.output.isEmpty, "\(again.output)")

        let stop = try lab.start(
            "stop", [program, "stop", "2"], on: LabNetwork.apisName, log: "\(lab.directory)/stop")
        _ = try lab.waitForEnd(stop, seconds: 10)
        try cluster.waitUntilSettled(up: [1, 3])
        let failing = try autoscale("/bin/false", [], urls)
        #expect(failing.code == 1 && failing.errors.contains("start api_2 failed: /bin/false exited with 1"))
        let unknown = try autoscale(program, ["--backend", "web"], urls)
        #expect(unknown.code == 1 && unknown.errors.contains("there is no backend web"), "\(unknown.errors)")
    }
}
