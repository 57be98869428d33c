package org.kdedge

import kotlin.math.abs
import org.json.JSONArray
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class TextClassifierTest {
    private val bundle = Bundle.open(filesIn(COMMITTED_BUNDLE))
    private val classifier =
        bundle.artifact("onnx-int8").let {
            TextClassifier(bundle, OnnxEngine(bundle.read(it.file)), it.decision)
        }

    @After fun close() = classifier.close()

    @Test
    fun `the same answers as Python`() {
        val expected = JSONArray(fromPython("expected.json").readText()).objects()
        var largest = 0f
        for (each in expected) {
            val answer = classifier.classify(each.getString("text"))
            each.getJSONArray("probabilities").forEachIndexed { i, probability ->
                val ours = answer.probabilities.getValue(bundle.task.labels[i])
                largest = maxOf(largest, abs((probability as Number).toFloat() - ours))
            }
            assertEquals(each.getString("label"), answer.text)
            assertEquals(each.getString("text"), each.getBoolean("unsure"), answer.unsure)
        }
        assertTrue(expected.size >= 100)
        assertTrue("$largest", largest < 1e-4f)
        println("largest difference from Python: $largest, of ${expected.size} texts")
    }

    @Test
    fun `an answer or a message for texts that nobody should send`() {
        val hostile = JSONArray(GOLDEN.resolve("hostile.json").readText()).objects()
        for (each in hostile) {
            val text =
                each.optString("text", null)
                    ?: each.getString("repeat").repeat(each.getInt("count"))
            if (each.getBoolean("answer")) {
                val sum = classifier.classify(text).probabilities.values.sum()
                assertEquals(each.getString("name"), 1f, sum, 1e-5f)
            } else {
                assertThrows(each.getString("name"), TextException::class.java) {
                    classifier.classify(text)
                }
            }
        }
        assertEquals(43, hostile.size)
    }

    @Test
    fun `blank as Python sees it`() {
        for (blank in listOf("\u0085", "\u001c\u001f", "\u2028\u2029", "\u1680\u205f")) {
            assertThrows(TextException::class.java) { classifier.classify(blank) }
        }
    }

    @Test
    fun `pads to the engine's length`() {
        val answer =
            TextClassifier(
                    bundle,
                    engine(length = 6) { ids, mask ->
                        assertEquals(listOf(1, 1, 1, 1, 0, 0), mask.toList())
                        assertEquals(listOf(0, 0), ids.drop(4))
                        floatArrayOf(0.25f, 0.75f)
                    },
                )
                .classify("good film")
        assertEquals(mapOf("negative" to 0.25f, "positive" to 0.75f), answer.probabilities)
        assertEquals("positive", answer.text)
        assertEquals(listOf("positive"), answer.labels)
    }

    @Test
    fun `pads to the shortest length that holds the text`() {
        val lengths = mutableListOf<Int>()
        val longest =
            engine(length = 8) { ids, mask ->
                assertEquals(ids.count { it != 0 }, mask.sum())
                lengths += ids.size
                floatArrayOf(1f, 0f)
            }
        val engine =
            object : Engine by longest {
                override fun lengthFor(tokens: Int) = listOf(4, 6, 8).first { it >= tokens }
            }
        val classifier = TextClassifier(bundle, engine)
        // With [CLS] and [SEP] these have 3, 4, 5 and 12 tokens.
        for (words in listOf(1, 2, 3, 10)) classifier.classify("film ".repeat(words))
        assertEquals(listOf(4, 4, 6, 8), lengths)
    }

    @Test
    fun `cuts to the engine's length and keeps the end`() {
        lateinit var cut: IntArray
        val engine =
            engine(length = 4) { ids, _ ->
                cut = ids
                floatArrayOf(1f, 0f)
            }
        TextClassifier(bundle, engine).classify("good film")
        val good = cut.toList()
        TextClassifier(bundle, engine).classify("good film good film good film")
        assertEquals(good, cut.toList())
    }

    @Test
    fun `a model of other classes`() {
        val error =
            assertThrows(BundleException::class.java) {
                TextClassifier(bundle, engine(null) { _, _ -> floatArrayOf(1f) })
                    .classify("good film")
            }
        assertEquals("The model gives 1 numbers and the bundle's task has 2.", error.message)
    }

    @Test
    fun `a second text that this bundle does not take`() {
        assertThrows(TextException::class.java) { classifier.classify("good film", "bad film") }
    }

    @Test
    fun `no model`() {
        assertThrows(BundleException::class.java) { OnnxEngine(ByteArray(100)) }
    }

    private fun engine(length: Int?, answer: (IntArray, IntArray) -> FloatArray) =
        object : Engine {
            override val length = length

            override val givesLogits = false

            override fun run(ids: IntArray, mask: IntArray, segments: IntArray) = answer(ids, mask)

            override fun close() = Unit
        }
}
