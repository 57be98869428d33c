package org.kdedge.demo

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.kdedge.BundleException
import org.kdedge.Engine
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.Interpreter

/**
 * A `.tflite` file in LiteRT. It has a signature for each length that a text can have: int32
 * [1, length] ids, mask, segment_ids -> float32 outputs.
 *
 * It runs on the CPU; a delegate takes the operators that it can, and is closed with the engine.
 */
class LiteRtEngine(
    model: ByteArray,
    threads: Int = 1,
    private val delegate: Delegate? = null,
) : Engine {
    private class Signature(val key: String, val output: String, val width: Int)

    private val interpreter =
        try {
            val buffer = ByteBuffer.allocateDirect(model.size).order(ByteOrder.nativeOrder())
            val options = Interpreter.Options().setNumThreads(threads)
            if (delegate != null) options.addDelegate(delegate)
            Interpreter(buffer.put(model), options)
        } catch (e: IllegalArgumentException) {
            delegate?.close()
            throw BundleException("LiteRT refuses this model: ${e.message}", e)
        }

    /** By length, the shortest first. */
    private val signatures =
        try {
            interpreter.signatureKeys.associate(::signature).toSortedMap().ifEmpty {
                throw BundleException("The model has no signature.")
            }
        } catch (e: BundleException) {
            close()
            throw e
        }

    override val length: Int = signatures.lastKey()

    override val givesLogits = false

    override fun lengthFor(tokens: Int) = signatures.keys.find { it >= tokens } ?: length

    override fun run(ids: IntArray, mask: IntArray, segments: IntArray): FloatArray {
        val signature = signatures.getValue(ids.size)
        val output = arrayOf(FloatArray(signature.width))
        val inputs =
            mapOf("ids" to arrayOf(ids), "mask" to arrayOf(mask), "segment_ids" to arrayOf(segments))
        interpreter.runSignature(inputs, mapOf(signature.output to output), signature.key)
        return output[0]
    }

    /** Runs each length once, on padding. */
    fun tryOut() {
        for (length in signatures.keys) run(IntArray(length), IntArray(length), IntArray(length))
    }

    override fun close() {
        interpreter.close()
        // Its memory is used until then.
        delegate?.close()
    }

    private fun signature(key: String): Pair<Int, Signature> {
        val names = interpreter.getSignatureInputs(key).sorted()
        val shapes =
            names.map { interpreter.getInputTensorFromSignature(it, key).shape().toList() }
        val output = interpreter.getSignatureOutputs(key).single()
        val tensor = interpreter.getOutputTensorFromSignature(output, key)
        if (
            names != listOf("ids", "mask", "segment_ids") ||
                shapes.distinct().size != 1 ||
                tensor.dataType() != DataType.FLOAT32
        ) {
            throw BundleException(
                "The model takes $names of $shapes and gives ${tensor.dataType()}; ids, mask, " +
                    "segment_ids [1, length] and FLOAT32 are needed."
            )
        }
        return shapes[0][1] to Signature(key, output, tensor.shape()[1])
    }
}
