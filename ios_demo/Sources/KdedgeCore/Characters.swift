/// What BERT's tokenizer takes characters for.
extension Unicode.Scalar {
    var isSpace: Bool {
        switch properties.generalCategory {
        case .spaceSeparator, .lineSeparator, .paragraphSeparator: true
        default: (0x09...0x0D).contains(value) || value == 0x85
        }
    }

    /// NUL, U+FFFD and control characters.
    var isDropped: Bool {
        switch properties.generalCategory {
        case .control, .format, .privateUse: ![0x09, 0x0A, 0x0D].contains(value)
        default: value == 0xFFFD
        }
    }

    var isPunctuation: Bool {
        switch value {
        case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: return true
        default: break
        }
        switch properties.generalCategory {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
            .initialPunctuation, .finalPunctuation, .otherPunctuation:
            return true
        default: return false
        }
    }

    // U+2B820 to U+2B91F are missing in the tokenizers library, so the models never learnt from them.
    var isIdeograph: Bool {
        switch value {
        case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F,
            0x2B740...0x2B81F, 0x2B920...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
            true
        default: false
        }
    }
}
