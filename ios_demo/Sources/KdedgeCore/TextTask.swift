import Foundation

/// A task: the kinds of labels, and how a model's outputs become an answer.
public enum TextTask: Sendable, Equatable {
    /// One label for each text: the most probable one.
    case classification(labels: [String])
    /// Any number of labels: those whose probability is above their threshold.
    case multiLabel(labels: [String], thresholds: [Float])
    /// A score in the units of the data.
    case regression(mean: Float, deviation: Float, range: ClosedRange<Float>)

    private static let smallest = 1e-7

    /// Names of the labels, in the order of the model's output; none for scores.
    public var labels: [String] {
        switch self {
        case .classification(let labels), .multiLabel(let labels, _): labels
        case .regression: []
        }
    }

    var isScore: Bool {
        if case .regression = self { true } else { false }
    }

    /// How many numbers the model gives.
    var width: Int { isScore ? 1 : labels.count }

    /// Probabilities, or the score, of a model that ends in logits.
    func outputs(of logits: [Float]) -> [Float] {
        switch self {
        case .classification:
            let largest = logits.max() ?? 0
            let exponentials = logits.map { exp($0 - largest) }
            let sum = exponentials.reduce(0, +)
            return exponentials.map { $0 / sum }
        case .multiLabel:
            return logits.map { logit in
                // Of two forms the one that does not overflow.
                let small = exp(-abs(logit))
                return (logit >= 0 ? 1 : small) / (1 + small)
            }
        case .regression(let mean, let deviation, let range):
            return logits.map {
                min(max(mean + deviation * $0, range.lowerBound), range.upperBound)
            }
        }
    }

    /// The outputs of the logits divided by a temperature; scores stay as they are.
    func scaled(_ outputs: [Float], temperature: Double) -> [Float] {
        switch self {
        case .classification:
            let powers = outputs.map { pow(max(Double($0), Self.smallest), 1 / temperature) }
            let sum = powers.reduce(0, +)
            return powers.map { Float($0 / sum) }
        case .multiLabel:
            return outputs.map {
                let probability = min(max(Double($0), Self.smallest), 1 - Self.smallest)
                return Float(1 / (1 + pow((1 - probability) / probability, 1 / temperature)))
            }
        case .regression:
            return outputs
        }
    }

    /// The positions of the labels that hold, the most probable first; none for scores.
    func held(by outputs: [Float]) -> [Int] {
        let ranked = outputs.indices.sorted { outputs[$0] > outputs[$1] }
        switch self {
        case .classification:
            return Array(ranked.prefix(1))
        case .multiLabel(_, let thresholds):
            return ranked.filter { outputs[$0] > thresholds[$0] }
        case .regression:
            return []
        }
    }

    /// The labels that hold, the most probable first; none for scores.
    func labels(of outputs: [Float]) -> [String] {
        held(by: outputs).map { labels[$0] }
    }

    /// The answer in words.
    func text(of outputs: [Float], labels: [String]) -> String {
        if isScore {
            return String(format: "%.2f", locale: Locale(identifier: "en_US_POSIX"), outputs[0])
        }
        return labels.isEmpty ? "none" : labels.joined(separator: ", ")
    }
}

extension TextTask: Decodable {
    private enum CodingKeys: String, CodingKey {
        case name, thresholds, mean, deviation, low, high
        case labelNames = "label_names"
    }

    /// Reads `task` of a manifest.
    public init(from decoder: any Decoder) throws {
        let task = try decoder.container(keyedBy: CodingKeys.self)
        let name = try task.decode(String.self, forKey: .name)
        switch name {
        case "classification":
            self = .classification(labels: try task.decode([String].self, forKey: .labelNames))
        case "multi-label":
            let labels = try task.decode([String].self, forKey: .labelNames)
            let given = try task.decode([Float].self, forKey: .thresholds)
            guard given.isEmpty || given.count == labels.count else {
                throw BundleError(
                    "manifest.json is damaged: \(given.count) thresholds, \(labels.count) labels"
                )
            }
            let thresholds = given.isEmpty ? labels.map { _ in 0.5 } : given
            self = .multiLabel(labels: labels, thresholds: thresholds)
        case "regression":
            let low = try task.decodeIfPresent(Float.self, forKey: .low) ?? -.infinity
            let high = try task.decodeIfPresent(Float.self, forKey: .high) ?? .infinity
            guard low <= high else {
                throw BundleError("manifest.json is damaged: low \(low), high \(high)")
            }
            self = .regression(
                mean: try task.decode(Float.self, forKey: .mean),
                deviation: try task.decode(Float.self, forKey: .deviation),
                range: low...high
            )
        default:
            throw BundleError(
                "manifest.json: task: \(name). This app knows classification, multi-label and "
                    + "regression. Update the app."
            )
        }
    }
}
