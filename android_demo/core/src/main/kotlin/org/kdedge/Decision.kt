package org.kdedge

/** Makes answers of a model's outputs: calibrates them, and says which are unsure. */
data class Decision(
    /** The logarithms of the probabilities are divided by it; of several labels, the log odds. */
    val temperature: Double,
    /** One for all labels, one for each, or none. */
    val thresholds: List<Double>,
    /** Share of a text's tokens that may be unknown. */
    val maxUnknown: Double,
    /** The answer is unsure for a text that is less familiar; null for no limit. */
    val minFamiliarity: Double? = null,
) {
    /**
     * The answer for the outputs of a text; `unknown` is the share of its unknown tokens.
     * `familiarity` counts only if there is a `minFamiliarity`.
     */
    fun decide(
        task: Task,
        outputs: FloatArray,
        unknown: Double,
        familiarity: Double,
    ): Decided {
        val calibrated = task.scaled(outputs, temperature)
        val held = task.held(outputs)
        val sure = held.filter { calibrated[it] >= threshold(it) }
        // Unsure labels are left out, except if that leaves none.
        val labels = sure.ifEmpty { held }.map { task.labels[it] }
        val noneSure = sure.isEmpty() && held.isNotEmpty()
        val unfamiliar = minFamiliarity != null && familiarity < minFamiliarity
        return Decided(calibrated, labels, unknown > maxUnknown || unfamiliar || noneSure)
    }

    private fun threshold(label: Int) =
        thresholds.getOrNull(if (thresholds.size > 1) label else 0) ?: 0.0
}

/** An answer. */
class Decided(
    /** The probabilities to show, or the score. */
    val outputs: FloatArray,
    /** The labels, the most probable first; none for a score. */
    val labels: List<String>,
    /** Whether the model is too unsure of the answer for it to be shown. */
    val unsure: Boolean,
)
