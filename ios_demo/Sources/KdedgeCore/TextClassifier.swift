/// Runs one model, one text at a time.
public protocol Engine {
    /// Tokens of a text that the model takes, padded with 0; `nil` where any number will do.
    var length: Int? { get }

    /// Probability of each label. Both arrays are as long as each other; `mask` is 0 where `ids` are
    /// padding.
    func probabilities(ids: [Int32], mask: [Int32]) throws -> [Float]
}

/// What a classifier says of a text.
public struct Answer: Sendable, Equatable {
    public struct Probability: Sendable, Equatable {
        public let label: String
        public let value: Float
    }

    /// In the bundle's order.
    public let probabilities: [Probability]
    /// The most probable label.
    public let label: String
    public let tokenizing: Duration
    public let inference: Duration
}

/// One model of a bundle with the bundle's tokenizer and labels.
///
/// It is an actor: asking it never holds up the screen, and the engine gets one text at a time.
///
///     let classifier = try TextClassifier(bundle: bundle, engine: OnnxEngine(model: model))
///     print(try await classifier.classify("a moving, funny film").label)
public actor TextClassifier {
    static let maxCharacters = 100_000

    private let engine: any Engine
    private let tokenizer: WordPieceTokenizer
    private let labels: [String]
    private let length: Int
    private let clock = ContinuousClock()

    public init(bundle: ModelBundle, engine: sending any Engine) throws(BundleError) {
        labels = bundle.labels
        length = min(bundle.maxLength, engine.length ?? bundle.maxLength)
        tokenizer = try WordPieceTokenizer(
            json: bundle.contents(of: "tokenizer.json"),
            vocabulary: bundle.contents(of: "vocab.txt")
        )
        self.engine = engine
    }

    /// Throws `TextError` for a text that cannot be answered.
    public func classify(_ text: String) throws -> Answer {
        try check(text)
        let start = clock.now
        let pieces = tokenizer.ids(of: text, maxLength: length)
        let padding = [Int32](repeating: 0, count: (engine.length ?? pieces.count) - pieces.count)
        let mask = [Int32](repeating: 1, count: pieces.count) + padding
        let tokenized = clock.now
        let values = try engine.probabilities(ids: pieces + padding, mask: mask)
        let done = clock.now
        guard let largest = values.max(), values.count == labels.count else {
            throw BundleError(
                "The model answers with \(values.count) classes and the bundle has "
                    + "\(labels.count) labels."
            )
        }
        return Answer(
            probabilities: zip(labels, values).map(Answer.Probability.init),
            label: labels[values.firstIndex(of: largest) ?? 0],
            tokenizing: tokenized - start,
            inference: done - tokenized
        )
    }

    /// Half a surrogate pair, which other clients refuse, can't be in a Swift string.
    private func check(_ text: String) throws(TextError) {
        let scalars = text.unicodeScalars
        if scalars.allSatisfy({ $0.isSpace || (0x1C...0x1F).contains($0.value) }) {
            throw TextError(description: "The text is empty.")
        }
        let count = scalars.count
        if count > Self.maxCharacters {
            throw TextError(
                description: "The text has \(count) characters; at most \(Self.maxCharacters) are allowed."
            )
        }
    }
}
