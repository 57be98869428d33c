package org.kdedge

/**
 * How much a text is like the texts that a model was trained on, from its tokens alone.
 *
 * @param content of a bundle's familiarity.bin: an int8 for each token, then a bit for each pair of
 *   neighbouring tokens
 * @param tokens of the vocabulary
 */
class Familiarity(private val content: ByteArray, private val tokens: Int) {
    // A power of two.
    private val bits = 8 * (content.size - tokens)

    init {
        if (bits < 1024 || bits and (bits - 1) != 0) {
            throw BundleException(
                "$FILE is damaged: it has ${content.size} bytes, which do not fit a vocabulary " +
                    "of $tokens tokens. Export the bundle again."
            )
        }
    }

    /** The familiarity of a text's ids, [CLS] and [SEP] included; 0 for fewer than two. */
    fun score(ids: IntArray): Double {
        if (ids.size < 2) return 0.0
        var total = 0
        for (i in 1 until ids.size) {
            // It may overflow, which does not change its lowest bits.
            val bit = (ids[i - 1] * 31337 + ids[i] * 7919) and (bits - 1)
            val isKnown = content[tokens + (bit shr 3)].toInt() shr (bit and 7) and 1 == 1
            total += content[ids[i]] + if (isKnown) 32 else 0
        }
        // Two typical tokens more, so that one odd word does not decide about a short text.
        return total / (16.0 * (ids.size + 1))
    }

    companion object {
        const val FILE = "familiarity.bin"
    }
}
