package org.kdedge

import kotlin.math.max
import kotlin.math.pow

/** Makes answers of a model's probabilities: calibrates them, and says which are unsure. */
data class Decision(
    /** The logarithms of the probabilities are divided by it. */
    val temperature: Double,
    /** One for all classes, one for each, or none. */
    val thresholds: List<Double>,
    /** Share of a text's tokens that may be unknown. */
    val maxUnknown: Double,
) {
    /** The probabilities to show. */
    fun calibrated(probabilities: FloatArray): FloatArray {
        val powers = probabilities.map { max(it.toDouble(), SMALLEST).pow(1 / temperature) }
        val sum = powers.sum()
        return FloatArray(powers.size) { (powers[it] / sum).toFloat() }
    }

    /** Whether the answer is unsure; `unknown` is the share of unknown tokens. */
    fun unsure(calibrated: FloatArray, unknown: Double): Boolean {
        if (unknown > maxUnknown) return true
        val answer = calibrated.indices.maxByOrNull { calibrated[it] } ?: return false
        val threshold = thresholds.getOrNull(if (thresholds.size > 1) answer else 0)
        return threshold != null && calibrated[answer] < threshold
    }

    private companion object {
        const val SMALLEST = 1e-7
    }
}
