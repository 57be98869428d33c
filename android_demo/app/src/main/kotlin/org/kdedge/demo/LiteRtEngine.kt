package org.kdedge.demo

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.kdedge.BundleException
import org.kdedge.Engine
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

/**
 * A `.tflite` file in LiteRT: int32 [1, length] ids, mask, segment_ids -> float32 outputs.
 */
class LiteRtEngine(model: ByteArray, threads: Int = 1) : Engine {
    private val interpreter =
        try {
            val buffer = ByteBuffer.allocateDirect(model.size).order(ByteOrder.nativeOrder())
            Interpreter(buffer.put(model), Interpreter.Options().setNumThreads(threads))
        } catch (e: IllegalArgumentException) {
            throw BundleException("LiteRT refuses this model: ${e.message}", e)
        }

    override val length: Int

    override val givesLogits = false

    private val width: Int

    init {
        val inputs =
            List(interpreter.inputTensorCount) { interpreter.getInputTensor(it).shape().toList() }
        val output = interpreter.getOutputTensor(0)
        if (
            inputs.size != 3 || inputs.distinct().size != 1 || output.dataType() != DataType.FLOAT32
        ) {
            interpreter.close()
            throw BundleException(
                "The model takes $inputs and gives ${output.dataType()}; " +
                    "three inputs [1, length] and FLOAT32 are needed."
            )
        }
        length = inputs[0][1]
        width = output.shape()[1]
    }

    override fun run(ids: IntArray, mask: IntArray, segments: IntArray): FloatArray {
        val output = arrayOf(FloatArray(width))
        val inputs = arrayOf(arrayOf(ids), arrayOf(mask), arrayOf(segments))
        interpreter.runForMultipleInputsOutputs(inputs, mapOf(0 to output))
        return output[0]
    }

    override fun close() = interpreter.close()
}
