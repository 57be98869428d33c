package org.kdedge

import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class WordPieceTokenizerTest {
    @Test
    fun `ids are those of every golden vector`() {
        val tokenizer = WordPieceTokenizer.parse(fromPython("tokenizer.json").readText())
        // The second time the tokenizer knows the words.
        val wrong = (VECTORS + VECTORS).filter { !areGolden(tokenizer, it) }
        assertEquals(emptyList<String>(), wrong.map { it.getString("name") })
        assertEquals(205, VECTORS.size)
    }

    @Test
    fun `threads share a tokenizer that saw more words than it keeps`() {
        val tokenizer = WordPieceTokenizer.parse(fromPython("tokenizer.json").readText())
        val wrong =
            List(20_000) { it }
                .parallelStream()
                .filter { number ->
                    tokenizer.ids("Word$number", 8)
                    !areGolden(tokenizer, VECTORS[number % VECTORS.size])
                }
                .count()
        assertEquals(0L, wrong)
    }

    @Test
    fun `ids and segments are those of every golden pair`() {
        val tokenizer = WordPieceTokenizer.parse(fromPython("tokenizer.json").readText())
        val vectors = JSONArray(GOLDEN.resolve("pairs.json").readText()).objects()
        for (vector in vectors) {
            val (ids, segments) =
                tokenizer.pair(
                    vector.getString("text"),
                    vector.getString("text_pair"),
                    vector.getInt("max_length"),
                )
            val name = vector.getString("name")
            assertEquals(name, vector.getJSONArray("ids").toList(), ids.toList())
            assertEquals(name, vector.getJSONArray("segments").toList(), segments.toList())
        }
        assertEquals(9, vectors.size)
    }

    @Test
    fun `keeps capitals and accents where the tokenizer is cased`() {
        val cased =
            WordPieceTokenizer.parse(tokenizer("\"lowercase\": false, \"strip_accents\": null"))
        assertArrayEquals(intArrayOf(2, 4, 5, 3), cased.ids("Caf\u00e9 caf\u00e9", 8))
    }

    @Test
    fun `keeps accents where the tokenizer says so`() {
        val accents =
            WordPieceTokenizer.parse(tokenizer("\"lowercase\": true, \"strip_accents\": false"))
        assertArrayEquals(intArrayOf(2, 5, 3), accents.ids("CAF\u00c9", 8))
    }

    @Test
    fun `says what it cannot read`() {
        val bert = tokenizer("\"lowercase\": true, \"strip_accents\": null")
        for ((json, message) in
            listOf(
                "{" to "damaged",
                bert.replace("WordPiece", "BPE") to "BPE",
                bert.replace("\"lstrip\": false", "\"lstrip\": true") to "lstrip of [CLS]",
                bert.replace("[UNK]\": 1", "unk\": 1") to "[UNK] is missing",
            )) {
            val error = assertThrows(BundleException::class.java) { WordPieceTokenizer.parse(json) }
            assert(message in error.message!!) { error.message!! }
        }
    }

    private fun areGolden(tokenizer: WordPieceTokenizer, vector: JSONObject): Boolean {
        val ids = tokenizer.ids(vector.getString("text"), GOLDEN_IDS.getInt("max_length")).toList()
        // The second where a device's tables of characters are newer than the library's.
        return ids == vector.getJSONArray("ids").toList() ||
            ids == vector.optJSONArray("slow_ids")?.toList()
    }

    private fun tokenizer(normalizer: String) =
        """{
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2,
            "[SEP]": 3, "Caf\u00e9": 4, "caf\u00e9": 5, "cafe": 6}},
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            $normalizer},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "added_tokens": [{"content": "[CLS]", "id": 2, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}]
    }"""

    companion object {
        private val GOLDEN_IDS = JSONObject(GOLDEN.resolve("tokenizer.json").readText())
        private val VECTORS = GOLDEN_IDS.getJSONArray("vectors").objects()
    }
}
