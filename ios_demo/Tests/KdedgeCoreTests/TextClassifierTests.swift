import Foundation
import KdedgeCore
import KdedgeOnnx
import Testing

struct TextClassifierTests {
    let bundle: ModelBundle

    init() throws {
        bundle = try ModelBundle(folder: committedBundle, cryptography: cryptography)
    }

    struct Expected: Decodable {
        let text: String
        let label: String
        let unsure: Bool
        let probabilities: [Float]
    }

    @Test(.enabled(if: fromPython != nil, "made by check.py"))
    func theSameAnswersAsPython() async throws {
        let folder = try #require(fromPython)
        let expected = try decoded([Expected].self, folder.appending(path: "expected.json"))
        let classifier = try onnx()
        var largest: Float = 0
        for each in expected {
            let answer = try await classifier.classify(each.text)
            #expect(answer.text == each.label, "\(each.text)")
            #expect(answer.isUnsure == each.unsure, "\(each.text)")
            for (one, other) in zip(answer.probabilities, each.probabilities) {
                largest = max(largest, abs(one.value - other))
            }
        }
        #expect(expected.count >= 100)
        #expect(largest < 1e-4)
        print("largest difference from Python: \(largest), of \(expected.count) texts")
    }

    struct Odd: Decodable {
        let name: String
        let text: String?
        let `repeat`: String?
        let count: Int?
        let answer: Bool

        var whole: String { text ?? String(repeating: `repeat` ?? "", count: count ?? 0) }
    }

    @Test func anAnswerOrAMessageForTextsThatNobodyShouldSend() async throws {
        let lines = try String(contentsOf: golden.appending(path: "hostile.json"), encoding: .utf8)
            .split(separator: "\n").filter { $0.hasPrefix("{") }
        let classifier = try onnx()
        var withHalfAPair = 0
        for line in lines {
            let json = Data(line.trimmingSuffix(",").utf8)
            guard let odd = try? JSONDecoder().decode(Odd.self, from: json) else {
                // Half a surrogate pair, which can't be in a Swift string.
                withHalfAPair += 1
                continue
            }
            if odd.answer {
                let sum = try await classifier.classify(odd.whole).probabilities
                    .reduce(0) { $0 + $1.value }
                #expect(abs(sum - 1) < 1e-5, "\(odd.name)")
            } else {
                await #expect(throws: TextError.self, "\(odd.name)") {
                    try await classifier.classify(odd.whole)
                }
            }
        }
        #expect(lines.count == 43)
        #expect(withHalfAPair == 3)
    }

    @Test func blankAsPythonSeesIt() async throws {
        let classifier = try onnx()
        for blank in ["\u{85}", "\u{1c}\u{1f}", "\u{2028}\u{2029}", "\u{1680}\u{205f}"] {
            await #expect(throws: TextError("The text is empty.")) {
                try await classifier.classify(blank)
            }
        }
    }

    @Test func padsToTheEnginesLength() async throws {
        let engine = Fake(length: 6) { ids, mask, segments in
            #expect(mask == [1, 1, 1, 1, 0, 0])
            #expect(segments == [0, 0, 0, 0, 0, 0])
            #expect(ids.suffix(2) == [0, 0])
            return [0.25, 0.75]
        }
        let answer = try await TextClassifier(bundle: bundle, engine: engine).classify("good film")
        #expect(answer.text == "positive")
        #expect(answer.labels == ["positive"])
        #expect(!answer.isUnsure && answer.score == nil)
        #expect(answer.probabilities.map(\.label) == ["negative", "positive"])
        #expect(answer.probabilities.map(\.value) == [0.25, 0.75])
    }

    @Test func cutsToTheEnginesLengthAndKeepsTheEnd() async throws {
        // The value of the answer tells which ids came.
        let engine = Fake(length: 4) { ids, _, _ in [Float(ids[1] + ids[2]), Float(ids[3])] }
        let classifier = try TextClassifier(bundle: bundle, engine: engine)
        let whole = try await classifier.classify("good film").probabilities
        let cut = try await classifier.classify("good film good film good film").probabilities
        #expect(whole == cut)
    }

    @Test func oneTextWhereOneIsNeeded() async throws {
        let classifier = try onnx()
        await #expect(throws: TextError("There may be no second text.")) {
            try await classifier.classify("good film", pair: "bad film")
        }
    }

    @Test func twoTexts() async throws {
        let folder = URL.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.copyItem(at: committedBundle, to: folder)
        defer { try? FileManager.default.removeItem(at: folder) }
        let place = folder.appending(path: "manifest.json")
        let stored = try JSONSerialization.jsonObject(with: Data(contentsOf: place))
        var manifest = try #require(stored as? [String: Any])
        manifest["pairs"] = true
        try JSONSerialization.data(withJSONObject: manifest).write(to: place)
        let bundle = try ModelBundle(folder: folder, cryptography: cryptography)
        let engine = Fake(length: 8) { ids, mask, segments in
            #expect(mask == [1, 1, 1, 1, 1, 1, 0, 0])
            #expect(segments == [0, 0, 0, 0, 1, 1, 0, 0])
            return [0.25, 0.75]
        }
        let classifier = try TextClassifier(bundle: bundle, engine: engine)
        let answer = try await classifier.classify("good film", pair: "bad")
        #expect(answer.text == "positive")
        await #expect(throws: TextError("A second text is needed.")) {
            try await classifier.classify("good film")
        }
        await #expect(throws: TextError("The text is empty.")) {
            try await classifier.classify("good film", pair: " ")
        }
    }

    @Test func aModelOfOtherClasses() async throws {
        let classifier = try TextClassifier(bundle: bundle, engine: Fake(length: nil) { _, _, _ in [1] })
        await #expect(
            throws: BundleError("The model gives 1 numbers and the bundle's task has 2.")
        ) {
            try await classifier.classify("good film")
        }
    }

    @Test func noModel() {
        expectError("ONNX Runtime refuses this model") {
            _ = try OnnxEngine(model: Data(count: 100))
        }
    }

    private func onnx() throws -> TextClassifier {
        let artifact = try bundle.artifact("onnx-int8")
        let engine = try OnnxEngine(model: bundle.contents(of: artifact.file))
        return try TextClassifier(bundle: bundle, engine: engine, decision: artifact.decision)
    }
}

private struct Fake: Engine {
    let length: Int?
    let givesLogits = false
    let answer: @Sendable ([Int32], [Int32], [Int32]) -> [Float]

    func run(ids: [Int32], mask: [Int32], segments: [Int32]) -> [Float] {
        answer(ids, mask, segments)
    }
}

extension Substring {
    fileprivate func trimmingSuffix(_ suffix: String) -> Substring {
        hasSuffix(suffix) ? dropLast(suffix.count) : self
    }
}
