import Foundation

/// What checks files and signatures.
///
/// Apps use `AppleCryptography`. Elsewhere, as in the tests on Linux, it is some other library.
public protocol Cryptography: Sendable {
    /// SHA-256, 32 bytes.
    func sha256(_ content: Data) -> Data

    /// Whether an ECDSA signature with P-256 and SHA-256, in DER, is of this content and key.
    ///
    /// - Parameter publicKey: in DER, as `openssl ec -in key.pem -pubout -outform DER` writes it.
    func isValid(signature: Data, of content: Data, publicKey: Data) -> Bool
}

#if canImport(CryptoKit)
    import CryptoKit

    /// CryptoKit, which is part of Apple's systems.
    public struct AppleCryptography: Cryptography {
        public init() {}

        public func sha256(_ content: Data) -> Data {
            Data(SHA256.hash(data: content))
        }

        public func isValid(signature: Data, of content: Data, publicKey: Data) -> Bool {
            guard
                let key = try? P256.Signing.PublicKey(derRepresentation: publicKey),
                let parsed = try? P256.Signing.ECDSASignature(derRepresentation: signature)
            else { return false }
            return key.isValidSignature(parsed, for: content)
        }
    }
#endif
