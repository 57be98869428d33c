package org.kdedge

import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class DecisionTest {
    @Test
    fun `the golden decisions`() {
        val cases = JSONArray(GOLDEN.resolve("decisions.json").readText()).objects()
        for (case in cases) {
            val name = case.getString("name")
            val stored = case.getJSONObject("decision")
            val decision =
                Decision(
                    stored.getDouble("temperature"),
                    numbers(stored, "thresholds"),
                    stored.getDouble("max_unknown"),
                    if (stored.isNull("min_familiarity")) null
                    else stored.getDouble("min_familiarity"),
                )
            val task = Task.parse(case.getJSONObject("task"))
            val outputs = floats(numbers(case, "outputs"))
            val decided =
                decision.decide(
                    task,
                    outputs,
                    case.getDouble("unknown"),
                    case.getDouble("familiarity"),
                )
            assertArrayEquals(name, floats(numbers(case, "calibrated")), decided.outputs, 1e-6f)
            val labels = case.getJSONArray("labels")
            assertEquals(name, List(labels.length()) { labels.getString(it) }, decided.labels)
            assertEquals(name, case.getBoolean("unsure"), decided.unsure)
        }
        assertEquals(41, cases.size)
    }

    @Test
    fun `a text of unknown tokens`() {
        val bundle = Bundle.open(filesIn(COMMITTED_BUNDLE))
        val classifier = TextClassifier(bundle, SURE_ENGINE, Decision(2.0, emptyList(), 0.5))
        val known = classifier.classify("a good film")
        assertEquals(0.75f, known.probabilities.getValue("positive"), 1e-6f)
        assertEquals(false, known.unsure)
        // Three of the four tokens are unknown, and of the other text there are none.
        assertTrue(classifier.classify("\u597d \u597d good \u597d").unsure)
        assertTrue(classifier.classify("\u200b").unsure)
        assertEquals(false, TextClassifier(bundle, SURE_ENGINE).classify("\u597d").unsure)
    }

    private fun numbers(from: JSONObject, key: String): List<Double> {
        val array = from.getJSONArray(key)
        return List(array.length()) { array.getDouble(it) }
    }

    private fun floats(numbers: List<Double>) = FloatArray(numbers.size) { numbers[it].toFloat() }
}
