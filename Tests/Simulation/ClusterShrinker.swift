// ClusterShrinker: of a schedule that leads to a violation, the entries that are needed for it.
//
// Delta debugging (Zeller & Hildebrandt 2002): leaves out ever smaller parts for as long as some promise still breaks.
// Another violation counts as well: what is wanted is a short way to any.

struct ClusterShrinker {
    private static let runsMax = 600
    private let life: ClusterLife

    init(_ life: ClusterLife) { self.life = life }

    /// Places in the schedule; leaving any one of them out, nothing breaks (unless that took too many runs to show).
    func shrink(from kept: [Int]?) -> [Int] {
        var runs = 0
        func breaks(_ places: [Int]) -> Bool {
            runs += 1
            return life.run(keeping: places).violation != nil
        }
        var places = kept ?? Array(life.schedule.faults.indices)
        for episode in 0..<life.schedule.episodes {
            let rest = places.filter { life.schedule.faults[$0].episode != episode }
            if breaks(rest) { places = rest }
        }
        var parts = 2
        while places.count > 1, runs < Self.runsMax {
            let size = (places.count + parts - 1) / parts
            var isSmaller = false
            for start in stride(from: 0, to: places.count, by: size) where runs < Self.runsMax {
                let rest = Array(places[..<start] + places[min(places.count, start + size)...])
                guard breaks(rest) else { continue }
                places = rest
                parts = max(2, parts - 1)
                isSmaller = true
                break
            }
            if isSmaller { continue }
            if size == 1 { break }
            parts = min(places.count, parts * 2)
        }
        return places
    }
}
