import Foundation
import KdedgeCore
import Testing

/// Each test has a copy of the committed bundle.
final class ModelBundleTests {
    let folder = URL.temporaryDirectory.appending(path: UUID().uuidString)

    init() throws {
        try FileManager.default.copyItem(at: committedBundle, to: folder)
    }

    deinit {
        try? FileManager.default.removeItem(at: folder)
    }

    @Test func theCommittedBundleIsWhole() throws {
        let bundle = try opened()
        #expect(bundle.task == .classification(labels: ["negative", "positive"]))
        #expect(bundle.maxLength == 56)
        #expect(try bundle.artifact().name == "litert-int8-lengths")
        #expect(try bundle.artifact("onnx-int8").format == "onnx")
        try bundle.verify()
    }

    @Test func aChangedByte() throws {
        let model = folder.appending(path: "litert/model_int8.tflite")
        var content = try Data(contentsOf: model)
        content[1000] ^= 1
        try content.write(to: model)
        let bundle = try opened()
        expectError("litert/model_int8.tflite is not the file") { try bundle.verify() }
        expectError("is not the file") {
            _ = try bundle.contents(of: "litert/model_int8.tflite")
        }
    }

    @Test func missingFiles() throws {
        let bundle = try opened()
        try FileManager.default.removeItem(at: folder.appending(path: "tokenizer.json"))
        expectError("tokenizer.json is missing") { _ = try bundle.contents(of: "tokenizer.json") }
        expectError("../secret.txt is not in") { _ = try bundle.contents(of: "../secret.txt") }
        expectError("It has: litert-int8-lengths, litert-int8, onnx-int8.") { _ = try bundle.artifact("int2") }
        try FileManager.default.removeItem(at: folder.appending(path: "manifest.json"))
        expectError("No bundle: manifest.json is missing") { _ = try opened() }
    }

    @Test func manifestsThatAreNone() throws {
        let manifest = try Data(contentsOf: folder.appending(path: "manifest.json"))
        try write(manifest.prefix(500))
        expectError("manifest.json is damaged") { _ = try opened() }
        try write(Data(#"{"format_version": 99, "unheard": "of"}"#.utf8))
        expectError("format_version is 99 and this app reads 1 to") { _ = try opened() }
    }

    @Test(arguments: [
        (#""label_names":["negative","positive"]"#, #""label_names":["one"]"#, "labels: 1. At least 2"),
        (#""max_length":56"#, #""max_length":2"#, "max_length: 2. At least 3"),
        (#""labels.txt":"#, #""..\/labels.txt":"#, "../labels.txt would lie outside"),
        (#""labels.txt":"#, #""\/labels.txt":"#, "/labels.txt would lie outside"),
        (#""labels.txt":"#, #""a\\labels.txt":"#, #"a\labels.txt would lie outside"#),
        (#""file":"onnx\/model"#, #""file":"onnx\/x"#, "onnx/x_quantized.onnx has no checksum"),
        (
            #""file":"onnx\/model_quantized.onnx"#, #""file":"litert\/model_int8.tflite"#,
            "litert/model_int8.tflite is not a file of the format onnx"
        ),
        (#""onnx":"onnx-int8"#, #""onnx":"int2"#, "defaults name no artifact"),
    ])
    func manifestsThatDoNotFit(part: String, other: String, message: String) throws {
        // In one form, whatever the blanks of the file.
        let url = folder.appending(path: "manifest.json")
        let object = try JSONSerialization.jsonObject(with: Data(contentsOf: url))
        let compact = try JSONSerialization.data(withJSONObject: object)
        let text = String(decoding: compact, as: UTF8.self)
        #expect(text.contains(part))
        try write(Data(text.replacingOccurrences(of: part, with: other).utf8))
        expectError(message) { _ = try opened() }
    }

    @Test func anOlderManifestWithLabels() throws {
        let url = folder.appending(path: "manifest.json")
        let stored = try JSONSerialization.jsonObject(with: Data(contentsOf: url))
        var manifest = try #require(stored as? [String: Any])
        manifest["task"] = nil
        manifest["format_version"] = 1
        manifest["labels"] = ["bad", "good"]
        try write(JSONSerialization.data(withJSONObject: manifest))
        #expect(try opened().task == .classification(labels: ["bad", "good"]))
    }

    /// Keys and signature are by openssl.
    @Test(.enabled(if: fromPython != nil, "made by check.py"))
    func signatures() throws {
        let made = try #require(fromPython)
        let key = try Data(contentsOf: made.appending(path: "public.der"))
        let signature = try Data(contentsOf: made.appending(path: "manifest.sig"))
        let place = folder.appending(path: "manifest.sig")
        func opened(_ key: Data) throws -> ModelBundle {
            try ModelBundle(folder: folder, cryptography: cryptography, publicKey: key)
        }
        expectError("manifest.sig is missing") { _ = try opened(key) }
        try signature.write(to: place)
        try opened(key).verify()
        let others = try Data(contentsOf: made.appending(path: "others.der"))
        for wrong in [others, Data(), Data(count: 91), key.dropLast()] {
            expectError("not signed with the key of this app") { _ = try opened(wrong) }
        }
        for wrong in [Data(), Data(count: 70), signature.dropLast()] {
            try wrong.write(to: place)
            expectError("not signed with the key of this app") { _ = try opened(key) }
        }
        try signature.write(to: place)
        let manifest = try Data(contentsOf: folder.appending(path: "manifest.json"))
        try write(manifest + Data(" ".utf8))
        expectError("not signed with the key of this app") { _ = try opened(key) }
    }

    private func opened() throws -> ModelBundle {
        try ModelBundle(folder: folder, cryptography: cryptography)
    }

    private func write(_ manifest: Data) throws {
        try manifest.write(to: folder.appending(path: "manifest.json"))
    }
}
