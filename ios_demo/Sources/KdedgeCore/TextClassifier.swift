/// Runs one model, one text at a time.
public protocol Engine {
    /// Tokens of a text that the model takes, padded with 0; `nil` where any number will do.
    var length: Int? { get }

    /// Whether the model ends in logits; if not, in probabilities or the score.
    var givesLogits: Bool { get }

    /// What the model gives. The arrays are as long as each other; `mask` is 0 where `ids` are
    /// padding, `segments` is 1 in the second text of a pair.
    func run(ids: [Int32], mask: [Int32], segments: [Int32]) throws -> [Float]
}

/// What a model says of a text.
public struct Answer: Sendable, Equatable {
    public struct Probability: Sendable, Equatable {
        public let label: String
        public let value: Float
    }

    /// In words: the label, the labels, or the score.
    public let text: String
    /// The labels that hold, the most probable first: one, any number, or none for a score.
    public let labels: [String]
    /// In the bundle's order; empty for a score.
    public let probabilities: [Probability]
    /// Of a task that is one.
    public let score: Float?
    /// Whether the model is too unsure of the answer for it to be shown.
    public let isUnsure: Bool
    public let tokenizing: Duration
    public let inference: Duration
}

/// One model of a bundle with the bundle's tokenizer and task.
///
/// It is an actor: asking it never holds up the screen, and the engine gets one text at a time.
///
///     let artifact = try bundle.artifact("onnx-int8")
///     let engine = try OnnxEngine(model: bundle.contents(of: artifact.file))
///     let classifier = try TextClassifier(
///         bundle: bundle, engine: engine, decision: artifact.decision)
///     print(try await classifier.classify("a moving, funny film").text)
public actor TextClassifier {
    static let maxCharacters = 100_000

    private let engine: any Engine
    private let decision: Decision?
    private let tokenizer: WordPieceTokenizer
    private let familiarity: Familiarity?
    private let task: TextTask
    private let takesPairs: Bool
    private let length: Int
    private let clock = ContinuousClock()

    /// - Parameter decision: that of the engine's artifact. For `nil` probabilities are the model's
    ///   own, and no answer is unsure.
    public init(
        bundle: ModelBundle, engine: sending any Engine, decision: Decision? = nil
    ) throws(BundleError) {
        task = bundle.task
        takesPairs = bundle.takesPairs
        length = min(bundle.maxLength, engine.length ?? bundle.maxLength)
        tokenizer = try WordPieceTokenizer(
            json: bundle.contents(of: "tokenizer.json"),
            vocabulary: bundle.contents(of: "vocab.txt")
        )
        if decision?.minFamiliarity != nil {
            familiarity = try Familiarity(
                content: bundle.contents(of: Familiarity.file), tokens: tokenizer.size)
        } else {
            familiarity = nil
        }
        self.decision = decision
        self.engine = engine
    }

    /// Throws `TextError` for a text that cannot be answered.
    ///
    /// - Parameter pair: the second text, which some bundles need.
    public func classify(_ text: String, pair: String? = nil) throws -> Answer {
        guard takesPairs == (pair != nil) else {
            throw TextError(
                takesPairs ? "A second text is needed." : "There may be no second text.")
        }
        try check(text)
        if let pair { try check(pair) }
        let start = clock.now
        let (pieces, places) = ids(of: text, pair: pair)
        let padding = [Int32](repeating: 0, count: (engine.length ?? pieces.count) - pieces.count)
        let mask = [Int32](repeating: 1, count: pieces.count) + padding
        let tokenized = clock.now
        let given = try engine.run(ids: pieces + padding, mask: mask, segments: places + padding)
        guard given.count == task.width else {
            throw BundleError(
                "The model gives \(given.count) numbers and the bundle's task has \(task.width)."
            )
        }
        let raw = engine.givesLogits ? task.outputs(of: given) : given
        let unknown = tokenizer.unknownShare(of: pieces, special: takesPairs ? 3 : 2)
        let decided =
            decision?.decide(
                task, raw, unknown: unknown, familiarity: familiarity?.score(of: pieces) ?? 0)
            ?? Decided(outputs: raw, labels: task.labels(of: raw), isUnsure: false)
        let outputs = decided.outputs
        let done = clock.now
        return Answer(
            text: task.text(of: outputs, labels: decided.labels),
            labels: decided.labels,
            probabilities: zip(task.labels, outputs).map {
                Answer.Probability(label: $0, value: $1)
            },
            score: task.isScore ? outputs[0] : nil,
            isUnsure: decided.isUnsure,
            tokenizing: tokenized - start,
            inference: done - tokenized
        )
    }

    private func ids(of text: String, pair: String?) -> (ids: [Int32], segments: [Int32]) {
        if let pair { return tokenizer.ids(of: text, pair: pair, maxLength: length) }
        let ids = tokenizer.ids(of: text, maxLength: length)
        return (ids, [Int32](repeating: 0, count: ids.count))
    }

    /// Half a surrogate pair, which other clients refuse, can't be in a Swift string.
    private func check(_ text: String) throws(TextError) {
        let scalars = text.unicodeScalars
        if scalars.allSatisfy({ $0.isSpace || (0x1C...0x1F).contains($0.value) }) {
            throw TextError("The text is empty.")
        }
        let count = scalars.count
        if count > Self.maxCharacters {
            throw TextError(
                "The text has \(count) characters; at most \(Self.maxCharacters) are allowed."
            )
        }
    }
}
