import Foundation
import Testing

@testable import KdedgeCore

struct DecisionTests {
    struct Case: Decodable {
        let name: String
        let task: TextTask
        let decision: Decision
        let outputs: [Float]
        let unknown: Double
        let familiarity: Double
        let calibrated: [Float]
        let labels: [String]
        let unsure: Bool
    }

    @Test func theGoldenDecisions() throws {
        let cases = try decoded([Case].self, golden.appending(path: "decisions.json"))
        for each in cases {
            let decided = each.decision.decide(
                each.task, each.outputs, unknown: each.unknown, familiarity: each.familiarity)
            for (one, other) in zip(decided.outputs, each.calibrated) {
                #expect(abs(one - other) < 1e-6, "\(each.name)")
            }
            #expect(decided.labels == each.labels, "\(each.name)")
            #expect(decided.isUnsure == each.unsure, "\(each.name)")
        }
        #expect(cases.count == 41)
    }
}
