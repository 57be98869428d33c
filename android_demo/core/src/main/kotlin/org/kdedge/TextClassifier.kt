package org.kdedge

import java.io.Closeable

/**
 * A text that is not answered: blank, far too long, or with half a surrogate pair. The message
 * says which.
 */
class TextException(message: String) : IllegalArgumentException(message)

/** Runs one model, one text at a time. */
interface Engine : Closeable {
    /** Tokens that longer texts must be truncated to; null for any number. */
    val length: Int?

    /**
     * The length to pad a text of so many tokens to, with 0: the shortest that the model takes and
     * that holds them. Null for the text's own length.
     */
    fun lengthFor(tokens: Int): Int? = length

    /** Whether the model ends in logits; if not, in probabilities or the score. */
    val givesLogits: Boolean

    /**
     * What the model gives. The arrays are as long as each other; `mask` is 0 where `ids` are
     * padding, `segments` is 1 for a second text.
     */
    fun run(ids: IntArray, mask: IntArray, segments: IntArray): FloatArray
}

/** What a model says of a text. */
class Answer(
    /** In words: the label, the labels, or the score. */
    val text: String,
    /** The labels that hold, the most probable first: one, any number, or none for a score. */
    val labels: List<String>,
    /** Label to probability, in the bundle's order; empty for a score. */
    val probabilities: Map<String, Float>,
    /** The score; null unless the task is regression. */
    val score: Float?,
    val tokenizeNanos: Long,
    val inferNanos: Long,
    /** Whether the model is too unsure of the answer for it to be shown. */
    val unsure: Boolean = false,
)

/**
 * One model of a bundle with the bundle's tokenizer and task. One thread at a time.
 *
 * `decision` is that of the model's artifact; for null outputs are the model's own, and no answer is
 * unsure.
 */
class TextClassifier(
    bundle: Bundle,
    private val engine: Engine,
    private val decision: Decision? = null,
) : Closeable by engine {
    private val task = bundle.task
    private val pairs = bundle.pairs
    private val length = minOf(bundle.maxLength, engine.length ?: bundle.maxLength)
    private val tokenizer = WordPieceTokenizer.parse(bundle.read("tokenizer.json").decodeToString())
    private val familiarity =
        decision?.minFamiliarity?.let { Familiarity(bundle.read(Familiarity.FILE), tokenizer.size) }

    /**
     * Throws TextException for a text that cannot be answered. `pair` is the second text, which
     * some bundles need.
     */
    fun classify(text: String, pair: String? = null): Answer {
        if (pairs != (pair != null)) {
            throw TextException(
                if (pairs) "This bundle takes pairs of texts. Give a second text."
                else "This bundle takes single texts. Leave out the second text."
            )
        }
        checkText(text)
        if (pair != null) checkText(pair)
        val start = System.nanoTime()
        val (pieces, places) =
            if (pair != null) tokenizer.pair(text, pair, length)
            else tokenizer.ids(text, length).let { it to IntArray(it.size) }
        val ids = pieces.copyOf(engine.lengthFor(pieces.size) ?: pieces.size)
        val segments = places.copyOf(ids.size)
        val mask = IntArray(ids.size) { if (it < pieces.size) 1 else 0 }
        val tokenized = System.nanoTime()
        val given = engine.run(ids, mask, segments)
        if (given.size != task.width) {
            throw BundleException(
                "The model gives ${given.size} numbers and the bundle's task has ${task.width}."
            )
        }
        val raw = if (engine.givesLogits) task.outputs(given) else given
        val unknown = tokenizer.unknownShare(pieces, special = if (pair == null) 2 else 3)
        val familiar = familiarity?.score(pieces) ?: 0.0
        val decided =
            decision?.decide(task, raw, unknown, familiar)
                ?: Decided(raw, task.labelsOf(raw), false)
        val outputs = decided.outputs
        val done = System.nanoTime()
        return Answer(
            task.text(outputs, decided.labels),
            decided.labels,
            task.labels.zip(outputs.toList()).toMap(),
            if (task is Regression) outputs[0] else null,
            tokenized - start,
            done - tokenized,
            decided.unsure,
        )
    }

    private fun checkText(text: String) {
        if (text.all { isSpace(it.code) || it in '\u001c'..'\u001f' })
            throw TextException("The text is empty.")
        val characters = text.codePointCount(0, text.length)
        if (characters > MAX_CHARACTERS)
            throw TextException(
                "The text has $characters characters; at most $MAX_CHARACTERS are allowed."
            )
        if (text.hasLoneSurrogate()) throw TextException("The text has half a surrogate pair.")
    }

    private companion object {
        const val MAX_CHARACTERS = 100_000
    }
}

private fun String.hasLoneSurrogate() = indices.any { i ->
    when {
        this[i].isHighSurrogate() -> getOrNull(i + 1)?.isLowSurrogate() != true
        this[i].isLowSurrogate() -> getOrNull(i - 1)?.isHighSurrogate() != true
        else -> false
    }
}
