package org.kdedge

import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class TaskTest {
    private val vectors = JSONArray(GOLDEN.resolve("tasks.json").readText()).objects()

    @Test
    fun `the same answers as Python`() {
        for (each in vectors) {
            val task = Task.parse(each.getJSONObject("task"))
            val outputs = task.outputs(floats(each.getJSONArray("logits")))
            val name = each.getString("name")
            assertArrayEquals(name, floats(each.getJSONArray("outputs")), outputs, 1e-5f)
            val labels = each.getJSONArray("labels")
            assertEquals(name, List(labels.length()) { labels.getString(it) }, task.labelsOf(outputs))
        }
        assertEquals(9, vectors.size)
    }

    @Test
    fun `an answer in words`() {
        val (sad, glad) = MultiLabel(listOf("joy", "love"), listOf(0.5f, 0.5f)).let { task ->
            listOf(floatArrayOf(0.1f, 0.1f), floatArrayOf(0.6f, 0.7f)).map {
                task.text(it, task.labelsOf(it))
            }
        }
        assertEquals("none", sad)
        assertEquals("love, joy", glad)
        val score = Regression(3f, 0.5f, 1f, 5f)
        assertEquals("2.50", score.text(score.outputs(floatArrayOf(-1f)), emptyList()))
    }

    @Test
    fun `a task of a later kdedge`() {
        val error =
            assertThrows(BundleException::class.java) {
                Task.parse(JSONObject().put("name", "words"))
            }
        assertEquals(
            "manifest.json: task: words. This app knows classification, multi-label and " +
                "regression. Update the app.",
            error.message,
        )
    }

    private fun floats(array: JSONArray) =
        FloatArray(array.length()) { array.getDouble(it).toFloat() }
}
