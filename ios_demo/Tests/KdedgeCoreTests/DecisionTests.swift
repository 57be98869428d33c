import Foundation
import Testing

@testable import KdedgeCore

struct DecisionTests {
    struct Case: Decodable {
        let name: String
        let decision: Decision
        let outputs: [Float]
        let unknown: Double
        let calibrated: [Float]
        let unsure: Bool
    }

    @Test func theGoldenDecisions() throws {
        let cases = try decoded([Case].self, golden.appending(path: "decisions.json"))
        for each in cases {
            let calibrated = each.decision.calibrated(each.outputs)
            for (one, other) in zip(calibrated, each.calibrated) {
                #expect(abs(one - other) < 1e-6, "\(each.name)")
            }
            let unsure = each.decision.isUnsure(calibrated, unknown: each.unknown)
            #expect(unsure == each.unsure, "\(each.name)")
        }
        #expect(cases.count == 18)
    }
}
