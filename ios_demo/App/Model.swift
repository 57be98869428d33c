import Foundation
import KdedgeCore
import Observation

#if canImport(KdedgeOnnx)
    import KdedgeOnnx
#endif

/// The bundle of the app, the model that is chosen, and what it says.
@MainActor @Observable
final class Model {
    private(set) var artifacts: [String] = []
    private(set) var message = ""
    private(set) var answer: Answer?
    var artifact = ""
    /// Whether a second text is asked for.
    var takesPairs: Bool { bundle?.takesPairs ?? false }

    private var bundle: ModelBundle?
    private var loaded: (artifact: String, classifier: TextClassifier)?

    init() {
        do {
            guard let folder = Bundle.main.url(forResource: "bundle", withExtension: nil) else {
                throw BundleError("The app has no folder \"bundle\" among its resources.")
            }
            let bundle = try ModelBundle(folder: folder, cryptography: AppleCryptography())
            artifacts = bundle.artifacts.map(\.name)
            artifact = try bundle.artifact().name
            self.bundle = bundle
        } catch {
            message = error.localizedDescription
        }
    }

    /// Asks the chosen model, which is loaded first if it is another one than before.
    func ask(_ text: String, pair: String) async {
        guard let bundle else { return }
        do {
            if loaded?.artifact != artifact {
                loaded = nil
                loaded = (artifact, try await load(artifact, of: bundle))
            }
            guard let classifier = loaded?.classifier else { return }
            let result = try await classifier.classify(text, pair: takesPairs ? pair : nil)
            // Of an older text.
            if Task.isCancelled { return }
            answer = result
            message = result.isUnsure ? "Unsure: \(result.text)?" : result.text
        } catch {
            answer = nil
            message = error.localizedDescription
        }
    }
}

/// Not on the main thread: reading, checking and loading a model take some time.
private func load(_ name: String, of bundle: ModelBundle) async throws -> TextClassifier {
    let artifact = try bundle.artifact(name)
    let model = try bundle.contents(of: artifact.file)
    let decision = artifact.decision
    switch artifact.format {
    case "litert":
        return try TextClassifier(
            bundle: bundle, engine: LiteRtEngine(model: model), decision: decision)
    #if canImport(KdedgeOnnx)
        case "onnx":
            return try TextClassifier(
                bundle: bundle, engine: OnnxEngine(model: model), decision: decision)
    #endif
    default: throw BundleError("\(name): this app has no engine for \(artifact.format).")
    }
}
