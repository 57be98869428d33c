import Foundation

/// How much a text is like the texts that a model was trained on, from its tokens alone.
struct Familiarity: Sendable {
    static let file = "familiarity.bin"

    private let values: [Int8]

    /// - Parameters:
    ///   - content: of a bundle's familiarity.bin: an int8 for each token, in 1/16.
    ///   - tokens: of the vocabulary.
    init(content: Data, tokens: Int) throws(BundleError) {
        guard content.count == tokens else {
            throw BundleError(
                "\(Self.file) is damaged: it has \(content.count) bytes, which do not fit a "
                    + "vocabulary of \(tokens) tokens. Export the bundle again."
            )
        }
        values = content.map { Int8(bitPattern: $0) }
    }

    /// The familiarity of a text's ids, [CLS] and [SEP] included; 0 for fewer than two.
    func score(of ids: [Int32]) -> Double {
        if ids.count < 2 { return 0 }
        let total = ids.dropFirst().reduce(0) { $0 + Int(values[Int($1)]) }
        // Two typical tokens more, so that one odd word does not decide about a short text.
        return Double(total) / Double(16 * (ids.count + 1))
    }
}
