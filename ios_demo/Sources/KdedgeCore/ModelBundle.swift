import Foundation

/// A folder that `kdedge export` wrote. Every file is compared with its SHA-256 when it is read.
///
///     let bundle = try ModelBundle(folder: url, cryptography: AppleCryptography())
///     let model = try bundle.contents(of: bundle.artifact("onnx-int8").file)
public struct ModelBundle: Sendable {
    /// One model file of a bundle.
    public struct Artifact: Sendable, Equatable {
        /// For instance `onnx-int8`.
        public let name: String
        /// Its path in the bundle.
        public let file: String
        /// `litert` or `onnx`.
        public let format: String
        /// What makes answers of its outputs; `nil` in bundles that have none.
        public let decision: Decision?
    }

    public let artifacts: [Artifact]
    /// What its models say of a text.
    public let task: TextTask
    /// Whether its models take two texts at a time.
    public let takesPairs: Bool
    /// Tokens that a text is cut to, [CLS] and [SEP] included.
    public let maxLength: Int

    private let folder: URL
    private let cryptography: any Cryptography
    private let checksums: [String: String]
    private let defaults: [String: String]

    /// Reads the manifest. Models and tokenizer are read, and checked, when they are used.
    ///
    /// - Parameters:
    ///   - folder: the bundle's folder, for instance in the app's resources.
    ///   - cryptography: what checks files and signatures.
    ///   - publicKey: an ECDSA key for P-256 in DER; a bundle that was not signed with it is refused.
    public init(
        folder: URL, cryptography: any Cryptography, publicKey: Data? = nil
    ) throws(BundleError) {
        guard let content = try? Data(contentsOf: folder.appending(path: "manifest.json")) else {
            throw BundleError(
                "No bundle: manifest.json is missing in \(folder.path()). "
                    + "`kdedge export` or `kdedge package` makes one."
            )
        }
        if let publicKey {
            guard let signature = try? Data(contentsOf: folder.appending(path: "manifest.sig"))
            else { throw BundleError("The bundle is not signed: manifest.sig is missing.") }
            guard cryptography.isValid(signature: signature, of: content, publicKey: publicKey)
            else { throw BundleError("The bundle is not signed with the key of this app.") }
        }
        let manifest = try Manifest(content)
        artifacts = manifest.artifacts
        task = manifest.task
        takesPairs = manifest.takesPairs
        maxLength = manifest.maxLength
        checksums = manifest.checksums
        defaults = manifest.defaults
        self.folder = folder
        self.cryptography = cryptography
    }

    /// The artifact of that name.
    ///
    /// - Parameter name: `nil` is the bundle's default for LiteRT, or else that for ONNX.
    public func artifact(_ name: String? = nil) throws(BundleError) -> Artifact {
        let wanted = name ?? defaults["litert"] ?? defaults["onnx"]
        guard let found = artifacts.first(where: { $0.name == wanted }) else {
            let known = artifacts.map(\.name).joined(separator: ", ")
            throw BundleError("This bundle has no artifact \(wanted ?? ""). It has: \(known).")
        }
        return found
    }

    /// The content of a file of the bundle.
    public func contents(of path: String) throws(BundleError) -> Data {
        guard let expected = checksums[path] else {
            throw BundleError("\(path) is not in the bundle's manifest.")
        }
        guard let content = try? Data(contentsOf: folder.appending(path: path)) else {
            throw BundleError("\(path) is missing. Copy the bundle again.")
        }
        guard cryptography.sha256(content).map(hexadecimal).joined() == expected else {
            throw BundleError(
                "\(path) is not the file that was exported: its SHA-256 differs. "
                    + "Copy the bundle again."
            )
        }
        return content
    }

    /// Compares every file with its SHA-256.
    public func verify() throws(BundleError) {
        for path in checksums.keys.sorted() {
            _ = try contents(of: path)
        }
    }
}

private func hexadecimal(_ byte: UInt8) -> String {
    (byte < 16 ? "0" : "") + String(byte, radix: 16)
}
