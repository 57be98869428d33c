import Foundation

/// Makes answers of a model's probabilities: calibrates them, and says which are unsure.
public struct Decision: Sendable, Equatable, Decodable {
    private static let smallest = 1e-7

    /// The logarithms of the probabilities are divided by it.
    public let temperature: Double
    /// One for all classes, one for each, or none.
    public let thresholds: [Double]
    /// Share of a text's tokens that may be unknown.
    public let maxUnknown: Double

    enum CodingKeys: String, CodingKey {
        case temperature, thresholds
        case maxUnknown = "max_unknown"
    }

    /// The probabilities to show.
    func calibrated(_ probabilities: [Float]) -> [Float] {
        let powers = probabilities.map { pow(max(Double($0), Self.smallest), 1 / temperature) }
        let sum = powers.reduce(0, +)
        return powers.map { Float($0 / sum) }
    }

    /// Whether the answer is unsure; `unknown` is the share of unknown tokens.
    func isUnsure(_ calibrated: [Float], unknown: Double) -> Bool {
        if unknown > maxUnknown { return true }
        guard
            let largest = calibrated.max(),
            let answer = calibrated.firstIndex(of: largest),
            !thresholds.isEmpty
        else { return false }
        return Double(largest) < thresholds[thresholds.count > 1 ? answer : 0]
    }
}
