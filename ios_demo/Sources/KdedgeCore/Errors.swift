import Foundation

/// The bundle is missing, damaged, of another version, or not signed by whom it should be.
///
/// The message says which and what to do; it can be shown to the user.
public struct BundleError: LocalizedError, CustomStringConvertible, Equatable {
    public let description: String

    public var errorDescription: String? { description }

    public init(_ description: String) {
        self.description = description
    }
}

/// A text that is not answered: blank, or far too long. The message says which.
public struct TextError: LocalizedError, CustomStringConvertible, Equatable {
    public let description: String

    public var errorDescription: String? { description }

    public init(_ description: String) {
        self.description = description
    }
}
