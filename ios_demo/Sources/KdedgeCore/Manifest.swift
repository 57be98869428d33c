import Foundation

/// What manifest.json says, checked.
struct Manifest {
    // Version 1 was for classification only, version 2 had no decisions.
    static let formatVersions = 1...3
    static let suffixes = ["litert": ".tflite", "onnx": ".onnx"]

    let artifacts: [ModelBundle.Artifact]
    let task: TextTask
    let takesPairs: Bool
    let maxLength: Int
    let checksums: [String: String]
    let defaults: [String: String]

    init(_ content: Data) throws(BundleError) {
        let stored: Stored
        do {
            // First, for a newer version may have other keys.
            let version = try JSONDecoder().decode(Version.self, from: content).formatVersion
            try demand(
                Self.formatVersions.contains(version),
                """
                format_version is \(version) and this app reads \
                \(Self.formatVersions.lowerBound) to \(Self.formatVersions.upperBound). \
                Update the app or export the bundle anew.
                """
            )
            stored = try JSONDecoder().decode(Stored.self, from: content)
        } catch let error as BundleError {
            throw error
        } catch {
            throw BundleError("manifest.json is damaged: \(error)")
        }
        artifacts = stored.artifacts.map {
            ModelBundle.Artifact(
                name: $0.name, file: $0.file, format: $0.format, decision: $0.trust?.decision)
        }
        checksums = stored.files
        defaults = stored.defaults
        maxLength = stored.maxLength
        takesPairs = stored.pairs ?? false
        task = stored.task ?? .classification(labels: stored.labels ?? [])

        for path in checksums.keys {
            try demand(staysInside(path), "the file \(path) would lie outside the bundle.")
        }
        for artifact in artifacts {
            let file = artifact.file
            try demand(checksums[file] != nil, "\(file) has no checksum.")
            try demand(
                file.hasSuffix(Self.suffixes[artifact.format] ?? ""),
                "\(file) is not a file of the format \(artifact.format)."
            )
        }
        let names = Set(artifacts.map(\.name))
        try demand(
            !defaults.isEmpty && names.isSuperset(of: defaults.values),
            "defaults name no artifact of this bundle."
        )
        let labels = task.labels.count
        try demand(task.isScore || labels >= 2, "labels: \(labels). At least 2 are needed.")
        for decision in artifacts.compactMap(\.decision) {
            try demand(
                decision.temperature > 0 && [0, 1, labels].contains(decision.thresholds.count),
                "a decision has temperature \(decision.temperature) and "
                    + "\(decision.thresholds.count) thresholds for \(labels) labels."
            )
            try demand(
                decision.minFamiliarity == nil || checksums[Familiarity.file] != nil,
                "min_familiarity is given, and \(Familiarity.file) is not in the bundle. "
                    + "Export it again."
            )
        }
        try demand(
            maxLength >= 3, "max_length: \(maxLength). At least 3: [CLS], one word piece and [SEP]."
        )
    }
}

private struct Version: Decodable {
    let formatVersion: Int

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
    }
}

private struct Stored: Decodable {
    struct Artifact: Decodable {
        let name: String
        let file: String
        let format: String
        let trust: Trust?
    }

    struct Trust: Decodable {
        let decision: Decision
    }

    let artifacts: [Artifact]
    let defaults: [String: String]
    let files: [String: String]
    let maxLength: Int
    /// Of version 1.
    let labels: [String]?
    let task: TextTask?
    /// Whether the model takes two texts; nil in older versions.
    let pairs: Bool?

    enum CodingKeys: String, CodingKey {
        case artifacts, defaults, files, labels, pairs, task
        case maxLength = "max_length"
    }
}

private func demand(_ holds: Bool, _ message: String) throws(BundleError) {
    if !holds { throw BundleError("manifest.json: \(message)") }
}

private func staysInside(_ path: String) -> Bool {
    !path.hasPrefix("/") && !path.contains("\\") && !path.split(separator: "/").contains("..")
}
