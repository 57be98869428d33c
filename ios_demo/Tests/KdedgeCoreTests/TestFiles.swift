import Foundation
import KdedgeCore
import Testing

/// The root of the repository.
let root = URL(filePath: #filePath).appending(path: "../../../..").standardized
let golden = root.appending(path: "tests/golden")
let committedBundle = root.appending(path: "android_demo/app/src/main/assets/bundle")

/// The folder of what check.py made with Python; tests that need it are skipped without it.
let fromPython = ProcessInfo.processInfo.environment["KDEDGE_FROM_PYTHON"].map {
    URL(filePath: $0)
}

func decoded<Value: Decodable>(_ type: Value.Type, _ file: URL) throws -> Value {
    try JSONDecoder().decode(type, from: Data(contentsOf: file))
}

/// `body` throws an error whose description has that part.
func expectError(
    _ part: String, at location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
    do {
        try body()
        Issue.record("no error with: \(part)", sourceLocation: location)
    } catch {
        #expect("\(error)".contains(part), sourceLocation: location)
    }
}

#if canImport(CryptoKit)
    let cryptography = AppleCryptography()
#else
    import COpenSSL

    let cryptography = OpenSSL()

    struct OpenSSL: Cryptography {
        func sha256(_ content: Data) -> Data {
            var digest = Data(count: 32)
            digest.withUnsafeMutableBytes { out in
                let place = out.bindMemory(to: UInt8.self).baseAddress
                content.withUnsafeBytes { bytes in
                    _ = EVP_Digest(bytes.baseAddress, bytes.count, place, nil, EVP_sha256(), nil)
                }
            }
            return digest
        }

        func isValid(signature: Data, of content: Data, publicKey: Data) -> Bool {
            if publicKey.isEmpty { return false }
            let key = publicKey.withUnsafeBytes { bytes in
                var start = bytes.bindMemory(to: UInt8.self).baseAddress
                return d2i_PUBKEY(nil, &start, bytes.count)
            }
            guard let key, let context = EVP_MD_CTX_new() else { return false }
            defer {
                EVP_MD_CTX_free(context)
                EVP_PKEY_free(key)
            }
            guard EVP_DigestVerifyInit(context, nil, EVP_sha256(), nil, key) == 1 else { return false }
            return Array(signature).withUnsafeBufferPointer { signature in
                Array(content).withUnsafeBufferPointer { content in
                    EVP_DigestVerify(
                        context, signature.baseAddress, signature.count, content.baseAddress,
                        content.count)
                }
            } == 1
        }
    }
#endif
