/// Makes answers of a model's outputs: calibrates them, and says which are unsure.
public struct Decision: Sendable, Equatable, Decodable {
    /// The logarithms of the probabilities are divided by it; of several labels, the log odds.
    public let temperature: Double
    /// One for all labels, one for each, or none.
    public let thresholds: [Double]
    /// Share of a text's tokens that may be unknown.
    public let maxUnknown: Double
    /// The answer is unsure for a text that is less familiar; `nil` for no limit.
    public let minFamiliarity: Double?

    enum CodingKeys: String, CodingKey {
        case temperature, thresholds
        case maxUnknown = "max_unknown"
        case minFamiliarity = "min_familiarity"
    }

    /// The answer for the outputs of a text; `unknown` is the share of its unknown tokens.
    /// `familiarity` counts only if there is a `minFamiliarity`.
    func decide(
        _ task: TextTask, _ outputs: [Float], unknown: Double, familiarity: Double
    ) -> Decided {
        let calibrated = task.scaled(outputs, temperature: temperature)
        let held = task.held(by: outputs)
        let sure = held.filter { Double(calibrated[$0]) >= threshold(of: $0) }
        let isUnfamiliar = minFamiliarity.map { familiarity < $0 } ?? false
        return Decided(
            outputs: calibrated,
            // Unsure labels are left out, except if that leaves none.
            labels: (sure.isEmpty ? held : sure).map { task.labels[$0] },
            isUnsure: unknown > maxUnknown || isUnfamiliar || (sure.isEmpty && !held.isEmpty)
        )
    }

    private func threshold(of label: Int) -> Double {
        thresholds.isEmpty ? 0 : thresholds[thresholds.count > 1 ? label : 0]
    }
}

/// An answer.
struct Decided {
    /// The probabilities to show, or the score.
    let outputs: [Float]
    /// The labels, the most probable first; none for a score.
    let labels: [String]
    /// Whether the model is too unsure of the answer for it to be shown.
    let isUnsure: Bool
}
