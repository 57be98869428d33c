package org.kdedge

/**
 * How much a text is like the texts that a model was trained on, from its tokens alone.
 *
 * @param values of a bundle's familiarity.bin: one for each token, in 1/16
 * @param tokens of the vocabulary
 */
class Familiarity(private val values: ByteArray, tokens: Int) {
    init {
        if (values.size != tokens) {
            throw BundleException(
                "$FILE is damaged: it has ${values.size} bytes, which do not fit a vocabulary " +
                    "of $tokens tokens. Export the bundle again."
            )
        }
    }

    /** The familiarity of a text's ids, [CLS] and [SEP] included; 0 for fewer than two. */
    fun score(ids: IntArray): Double {
        if (ids.size < 2) return 0.0
        val total = (1 until ids.size).sumOf { values[ids[it]].toInt() }
        // Two typical tokens more, so that one odd word does not decide about a short text.
        return total / (16.0 * (ids.size + 1))
    }

    companion object {
        const val FILE = "familiarity.bin"
    }
}
