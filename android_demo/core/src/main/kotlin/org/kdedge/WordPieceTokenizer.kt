package org.kdedge

import java.text.Normalizer
import org.json.JSONException
import org.json.JSONObject

/**
 * BERT's WordPiece as Hugging Face's tokenizers library does it, from its tokenizer.json.
 *
 * Characters that are newer than Unicode 8 are what the device's own tables say they are; the
 * library takes them for letters.
 */
class WordPieceTokenizer
private constructor(
    vocabulary: Map<String, Int>,
    private val specialTokens: Map<String, Int>,
    private val cls: Int,
    private val sep: Int,
    private val unknown: Int,
    private val prefix: String,
    private val maxWordLength: Int,
    private val cleanText: Boolean,
    private val spaceIdeographs: Boolean,
    private val stripAccents: Boolean,
    private val lowercase: Boolean,
) {
    // The longest first: of those that begin at the same character it is the one that counts.
    private val specialToken =
        Regex(
            specialTokens.keys
                .sortedByDescending { it.length }
                .joinToString("|") { Regex.escape(it) }
        )

    private val startsOfSpecial = specialTokens.keys.map { it.first() }.distinct()

    private val wordPieces = Vocabulary(vocabulary)

    // Parts that came before; a new one takes the place of one with the same place. Threads may
    // lose each other's parts, and then only split them again.
    private val known = arrayOfNulls<Part>(MOST_KNOWN)

    /** How many tokens the vocabulary has. */
    val size: Int = (vocabulary.values + specialTokens.values).max() + 1

    /** Ids from [CLS] to [SEP], at most `maxLength` of them. */
    fun ids(text: String, maxLength: Int): IntArray {
        return intArrayOf(cls) + pieces(text, maxLength - 2) + sep
    }

    /**
     * Ids of two texts, [CLS] text [SEP] pair [SEP], at most `maxLength` of them, and for each its
     * segment: 1 from the second text on. The longer text is truncated first, then both alike.
     */
    fun pair(text: String, pair: String, maxLength: Int): Pair<IntArray, IntArray> {
        val limit = maxLength - 3
        val first = pieces(text, limit)
        val second = pieces(pair, limit)
        var least = minOf(first.size, second.size)
        var most = maxOf(least, limit - least)
        if (least + most > limit) {
            least = limit / 2
            most = limit - least
        }
        val (room, roomOfPair) =
            if (first.size <= second.size) least to most else most to least
        val start = intArrayOf(cls) + first.take(room) + sep
        val end = second.copyOf(minOf(roomOfPair, second.size)) + sep
        return start + end to IntArray(start.size) + IntArray(end.size) { 1 }
    }

    /** Ids of a text's first pieces, at most `limit` of them. */
    private fun pieces(text: String, limit: Int): IntArray {
        val ids = Ids(limit)
        var start = 0
        // Nearly all texts have none, and to look for this takes less time.
        if (startsOfSpecial.any { it in text }) {
            while (!ids.areFull) {
                val special = specialToken.find(text, start) ?: break
                addParts(text.substring(start, special.range.first), ids)
                ids.add(specialTokens.getValue(special.value))
                start = special.range.last + 1
            }
        }
        addParts(text.substring(start), ids)
        return ids.toArray()
    }

    /**
     * Adds the ids of each part between two spaces or punctuation marks of ASCII. These end a word
     * whatever is beside them, so each part can be split by itself.
     */
    private fun addParts(text: String, ids: Ids) {
        var start = 0
        var hash = 0
        for (at in text.indices) {
            val code = text[at].code
            if (!endsPart(code)) {
                hash = 31 * hash + code
                continue
            }
            if (at > start) addPart(text, start, at, hash, ids)
            if (code != ' '.code) addPart(text, at, at + 1, code, ids)
            if (ids.areFull) return
            start = at + 1
            hash = 0
        }
        if (start < text.length) addPart(text, start, text.length, hash, ids)
    }

    /** Adds the ids of `text` from `start` to `end`, whose hashCode is `hash`. */
    private fun addPart(text: String, start: Int, end: Int, hash: Int, ids: Ids) {
        val place = placeOf(hash, known.size)
        var part = known[place]
        if (part == null || part.text.length != end - start || !text.startsWith(part.text, start)) {
            part = split(text.substring(start, end))
            if (part.text.length <= MOST_KNOWN_CHARACTERS) known[place] = part
        }
        for (id in part.ids) ids.add(id)
    }

    private fun split(part: String): Part {
        val ids = Ids(Int.MAX_VALUE)
        // Of ASCII's visible characters the normalizer changes the case only.
        if (part.all { it in '!'..'~' }) addWord(if (lowercase) part.lowercase() else part, ids)
        else addWords(normalize(part), ids)
        return Part(part, ids.toArray())
    }

    private class Part(val text: String, val ids: IntArray)

    /** Share of unknown ids among those without the `special` ones; 1 where there are none. */
    fun unknownShare(ids: IntArray, special: Int = 2): Double =
        if (ids.size <= special) 1.0
        else ids.count { it == unknown }.toDouble() / (ids.size - special)

    private fun normalize(text: String): String {
        var result = text.mapCodePoints { code ->
            when {
                cleanText && (code == 0 || code == 0xFFFD || isControl(code)) -> Unit
                cleanText && isSpace(code) -> append(' ')
                spaceIdeographs && isIdeograph(code) ->
                    append(' ').appendCodePoint(code).append(' ')
                else -> appendCodePoint(code)
            }
        }
        if (stripAccents) {
            result =
                Normalizer.normalize(result, Normalizer.Form.NFD).mapCodePoints { code ->
                    if (Character.getType(code) != Character.NON_SPACING_MARK.toInt())
                        appendCodePoint(code)
                }
        }
        if (lowercase) {
            // One by one: a whole word's last sigma would become another letter.
            result = result.mapCodePoints { code ->
                append(String(Character.toChars(code)).lowercase())
            }
        }
        return result
    }

    private fun addWords(text: String, ids: Ids) {
        var wordStart = 0
        var at = 0
        while (at < text.length && !ids.areFull) {
            val code = text.codePointAt(at)
            val next = at + Character.charCount(code)
            if (isSpace(code) || isPunctuation(code)) {
                addWord(text.substring(wordStart, at), ids)
                if (!isSpace(code)) addWord(text.substring(at, next), ids)
                wordStart = next
            }
            at = next
        }
        addWord(text.substring(wordStart, at), ids)
    }

    /** The longest piece that fits, again and again; where none fits, the word is unknown. */
    private fun addWord(word: String, ids: Ids) {
        if (word.isEmpty()) return
        if (word.codePointCount(0, word.length) > maxWordLength) {
            ids.add(unknown)
            return
        }
        val found = Ids(word.length)
        var lead = ""
        var rest = word
        while (rest.length > lead.length) {
            val piece = wordPieces.longest(rest, lead.length)
            if (piece == null) {
                ids.add(unknown)
                return
            }
            found.add(piece.id)
            lead = prefix
            rest = prefix + rest.substring(piece.text.length)
        }
        for (id in found.toArray()) ids.add(id)
    }

    /** The first ids that are added, `limit` of them. */
    private class Ids(private val limit: Int) {
        private var ids = IntArray(minOf(limit, 64))
        private var size = 0
        val areFull
            get() = size >= limit

        fun add(id: Int) {
            if (areFull) return
            if (size == ids.size) ids = ids.copyOf(2 * size)
            ids[size++] = id
        }

        fun toArray(): IntArray = ids.copyOf(size)
    }

    /** The pieces, in a hash table that is asked without a new string for each length tried. */
    private class Vocabulary(ids: Map<String, Int>) {
        class Piece(val text: String, val id: Int)

        private val table = arrayOfNulls<Piece>(4 * Integer.highestOneBit(ids.size))

        init {
            for ((text, id) in ids) {
                var place = placeOf(text.hashCode(), table.size)
                while (table[place] != null) place = after(place)
                table[place] = Piece(text, id)
            }
        }

        /** The longest piece that `word` begins with, of more than `least` characters. */
        fun longest(word: String, least: Int): Piece? {
            // hashCode of the first characters, for each number of them.
            val hashes = IntArray(word.length + 1)
            for (i in word.indices) hashes[i + 1] = 31 * hashes[i] + word[i].code
            for (length in word.length downTo least + 1) {
                var place = placeOf(hashes[length], table.size)
                while (true) {
                    val piece = table[place] ?: break
                    if (piece.text.length == length && word.startsWith(piece.text)) return piece
                    place = after(place)
                }
            }
            return null
        }

        private fun after(place: Int) = (place + 1) and (table.size - 1)
    }

    companion object {
        private const val MOST_KNOWN = 65_536
        private const val MOST_KNOWN_CHARACTERS = 32
        private val PARTS =
            mapOf(
                "model" to "WordPiece",
                "normalizer" to "BertNormalizer",
                "pre_tokenizer" to "BertPreTokenizer",
            )

        /** Reads the content of a tokenizer.json. */
        fun parse(json: String): WordPieceTokenizer =
            try {
                parse(JSONObject(json))
            } catch (e: JSONException) {
                throw BundleException("tokenizer.json is damaged: ${e.message}", e)
            }

        private fun parse(json: JSONObject): WordPieceTokenizer {
            val model = json.getJSONObject("model")
            val normalizer = json.getJSONObject("normalizer")
            for ((name, type) in PARTS) {
                val found = json.getJSONObject(name).getString("type")
                demand(found == type) { "$name is $found. Only $type can be read." }
            }
            val vocabulary =
                model.getJSONObject("vocab").toMap { pieces, piece -> pieces.getInt(piece) }
            val added = json.getJSONArray("added_tokens").objects()
            for (token in added) {
                for (option in listOf("single_word", "lstrip", "rstrip", "normalized")) {
                    demand(!token.getBoolean(option)) {
                        "$option of ${token.getString("content")}. It must be false."
                    }
                }
            }
            fun idOf(token: String) =
                vocabulary[token]
                    ?: throw BundleException("tokenizer.json: $token is missing in its vocabulary.")
            val lowercase = normalizer.getBoolean("lowercase")
            return WordPieceTokenizer(
                vocabulary,
                added.associate { it.getString("content") to it.getInt("id") },
                idOf("[CLS]"),
                idOf("[SEP]"),
                idOf(model.getString("unk_token")),
                model.getString("continuing_subword_prefix"),
                model.getInt("max_input_chars_per_word"),
                normalizer.getBoolean("clean_text"),
                normalizer.getBoolean("handle_chinese_chars"),
                stripAccents =
                    if (normalizer.isNull("strip_accents")) lowercase
                    else normalizer.getBoolean("strip_accents"),
                lowercase,
            )
        }

        private fun demand(holds: Boolean, message: () -> String) {
            if (!holds) throw BundleException("tokenizer.json: ${message()}")
        }
    }
}

private inline fun String.mapCodePoints(write: StringBuilder.(Int) -> Unit): String {
    val result = StringBuilder(length)
    var at = 0
    while (at < length) {
        val code = codePointAt(at)
        result.write(code)
        at += Character.charCount(code)
    }
    return result.toString()
}

internal fun isSpace(code: Int) = code in 0x09..0x0D || code == 0x85 || Character.isSpaceChar(code)

private fun isControl(code: Int) =
    code !in intArrayOf(0x09, 0x0A, 0x0D) &&
        when (Character.getType(code).toByte()) {
            Character.CONTROL,
            Character.FORMAT,
            Character.PRIVATE_USE -> true
            else -> false
        }

private val ENDS_PART = BooleanArray(128) { it == ' '.code || isAsciiPunctuation(it) }

private fun endsPart(code: Int) = code < ENDS_PART.size && ENDS_PART[code]

/** Place of a hash in a table whose size is a power of two. */
private fun placeOf(hash: Int, size: Int) = (hash xor (hash ushr 15)) and (size - 1)

private fun isAsciiPunctuation(code: Int) =
    code in 0x21..0x2F || code in 0x3A..0x40 || code in 0x5B..0x60 || code in 0x7B..0x7E

private fun isPunctuation(code: Int) =
    isAsciiPunctuation(code) ||
        when (Character.getType(code).toByte()) {
            Character.CONNECTOR_PUNCTUATION,
            Character.DASH_PUNCTUATION,
            Character.START_PUNCTUATION,
            Character.END_PUNCTUATION,
            Character.INITIAL_QUOTE_PUNCTUATION,
            Character.FINAL_QUOTE_PUNCTUATION,
            Character.OTHER_PUNCTUATION -> true
            else -> false
        }

// U+2B820 to U+2B91F are missing in the tokenizers library, so the models never learnt from them.
private fun isIdeograph(code: Int) =
    code in 0x4E00..0x9FFF ||
        code in 0x3400..0x4DBF ||
        code in 0x20000..0x2A6DF ||
        code in 0x2A700..0x2B73F ||
        code in 0x2B740..0x2B81F ||
        code in 0x2B920..0x2CEAF ||
        code in 0xF900..0xFAFF ||
        code in 0x2F800..0x2FA1F
