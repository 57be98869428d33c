import Foundation
import Testing

@testable import KdedgeCore

struct TextTaskTests {
    struct Vector: Decodable {
        let name: String
        let task: TextTask
        let logits: [Float]
        let outputs: [Float]
        let labels: [String]
    }

    @Test func theSameAnswersAsPython() throws {
        let vectors = try decoded([Vector].self, golden.appending(path: "tasks.json"))
        for each in vectors {
            let outputs = each.task.outputs(of: each.logits)
            #expect(outputs.count == each.outputs.count)
            for (one, other) in zip(outputs, each.outputs) {
                #expect(abs(one - other) < 1e-5, "\(each.name)")
            }
            #expect(each.task.labels(of: outputs) == each.labels, "\(each.name)")
        }
        #expect(vectors.count == 9)
    }

    @Test func anAnswerInWords() {
        let feelings = TextTask.multiLabel(labels: ["joy", "love"], thresholds: [0.5, 0.5])
        for (outputs, words) in [([0.1, 0.1], "none"), ([0.6, 0.7], "love, joy")] as [([Float], String)] {
            let labels = feelings.labels(of: outputs)
            #expect(feelings.text(of: outputs, labels: labels) == words)
        }
        let score = TextTask.regression(mean: 3, deviation: 0.5, range: 1...5)
        #expect(score.text(of: score.outputs(of: [-1]), labels: []) == "2.50")
    }

    @Test func aTaskOfALaterKdedge() {
        expectError("task: words. This app knows classification, multi-label and regression") {
            _ = try JSONDecoder().decode(TextTask.self, from: Data(#"{"name": "words"}"#.utf8))
        }
    }
}
