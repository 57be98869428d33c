package org.kdedge

import java.util.Locale
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.max
import kotlin.math.pow
import org.json.JSONException
import org.json.JSONObject

/** A task: the kinds of labels, and how a model's outputs become an answer. */
sealed class Task {
    /** Names of the labels, in the order of the model's output; none for scores. */
    abstract val labels: List<String>

    /** How many numbers the model gives. */
    abstract val width: Int

    /** Probabilities, or the score, of a model that ends in logits. */
    abstract fun outputs(logits: FloatArray): FloatArray

    /** The outputs of the logits divided by a temperature; scores stay as they are. */
    abstract fun scaled(outputs: FloatArray, temperature: Double): FloatArray

    /** The positions of the labels that hold, the most probable first; none for scores. */
    abstract fun held(outputs: FloatArray): List<Int>

    /** The labels that hold, the most probable first; none for scores. */
    fun labelsOf(outputs: FloatArray): List<String> = held(outputs).map { labels[it] }

    /** The answer in words. */
    open fun text(outputs: FloatArray, labels: List<String>): String =
        labels.joinToString(", ").ifEmpty { "none" }

    companion object {
        internal const val SMALLEST = 1e-7

        /** Reads `task` of a manifest; throws JSONException or BundleException. */
        fun parse(task: JSONObject): Task =
            when (val name = task.getString("name")) {
                "classification" -> Classification(names(task))
                "multi-label" -> multiLabel(task)
                "regression" ->
                    Regression(
                        task.getDouble("mean").toFloat(),
                        task.getDouble("deviation").toFloat(),
                        limit(task, "low", Float.NEGATIVE_INFINITY),
                        limit(task, "high", Float.POSITIVE_INFINITY),
                    )
                else ->
                    throw BundleException(
                        "manifest.json: task: $name. This app knows classification, multi-label " +
                            "and regression. Update the app."
                    )
            }

        private fun names(task: JSONObject): List<String> {
            val names = task.getJSONArray("label_names")
            return List(names.length()) { names.getString(it) }
        }

        private fun multiLabel(task: JSONObject): MultiLabel {
            val labels = names(task)
            val given = task.getJSONArray("thresholds")
            if (given.length() != 0 && given.length() != labels.size) {
                throw JSONException("${given.length()} thresholds, ${labels.size} labels")
            }
            val thresholds =
                if (given.length() == 0) List(labels.size) { 0.5f }
                else List(labels.size) { given.getDouble(it).toFloat() }
            return MultiLabel(labels, thresholds)
        }

        private fun limit(task: JSONObject, name: String, none: Float) =
            if (task.isNull(name)) none else task.getDouble(name).toFloat()
    }
}

/** One label for each text: the most probable one. */
class Classification(override val labels: List<String>) : Task() {
    override val width = labels.size

    override fun outputs(logits: FloatArray): FloatArray {
        val largest = logits.max()
        val exponentials = FloatArray(logits.size) { exp(logits[it] - largest) }
        val sum = exponentials.sum()
        return FloatArray(logits.size) { exponentials[it] / sum }
    }

    override fun scaled(outputs: FloatArray, temperature: Double): FloatArray {
        val powers = outputs.map { max(it.toDouble(), SMALLEST).pow(1 / temperature) }
        val sum = powers.sum()
        return FloatArray(powers.size) { (powers[it] / sum).toFloat() }
    }

    override fun held(outputs: FloatArray) = listOf(outputs.indices.maxByOrNull { outputs[it] }!!)
}

/** Any number of labels: those whose probability is above their threshold. */
class MultiLabel(override val labels: List<String>, private val thresholds: List<Float>) : Task() {
    override val width = labels.size

    override fun outputs(logits: FloatArray) =
        FloatArray(logits.size) {
            // Of two forms the one that does not overflow.
            val small = exp(-abs(logits[it]))
            (if (logits[it] >= 0) 1f else small) / (1f + small)
        }

    override fun scaled(outputs: FloatArray, temperature: Double) =
        FloatArray(outputs.size) {
            val probability = outputs[it].toDouble().coerceIn(SMALLEST, 1 - SMALLEST)
            (1 / (1 + ((1 - probability) / probability).pow(1 / temperature))).toFloat()
        }

    override fun held(outputs: FloatArray) =
        outputs.indices
            .filter { outputs[it] > thresholds[it] }
            .sortedByDescending { outputs[it] }
}

/** A score in the units of the data. */
class Regression(
    private val mean: Float,
    private val deviation: Float,
    private val low: Float,
    private val high: Float,
) : Task() {
    override val labels = emptyList<String>()

    override val width = 1

    override fun outputs(logits: FloatArray) =
        FloatArray(logits.size) { (mean + deviation * logits[it]).coerceIn(low, high) }

    override fun scaled(outputs: FloatArray, temperature: Double) = outputs

    override fun held(outputs: FloatArray) = emptyList<Int>()

    override fun text(outputs: FloatArray, labels: List<String>) =
        String.format(Locale.ROOT, "%.2f", outputs[0])
}
