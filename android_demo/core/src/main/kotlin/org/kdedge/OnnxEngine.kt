package org.kdedge

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import java.nio.LongBuffer

/**
 * A `.onnx` file in ONNX Runtime: int64 [1, tokens] inputs -> logits.
 *
 * Here and not in the app since ONNX Runtime's classes are the same on Android and on the JVM,
 * where the tests run them.
 */
class OnnxEngine(model: ByteArray, threads: Int = 1) : Engine {
    override val length: Int? = null

    override val givesLogits = true

    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession =
        try {
            val options = OrtSession.SessionOptions()
            options.setIntraOpNumThreads(threads)
            // Without VNNI the int8 sums of x86 overflow, which those of phones don't.
            options.addConfigEntry("session.x64quantprecision", "1")
            environment.createSession(model, options)
        } catch (e: OrtException) {
            throw BundleException("ONNX Runtime refuses this model: ${e.message}", e)
        }

    override fun run(ids: IntArray, mask: IntArray, segments: IntArray): FloatArray {
        val values =
            mapOf(
                "input_ids" to ids,
                "attention_mask" to mask,
                "token_type_ids" to segments,
            )
        val inputs =
            values.filterKeys { it in session.inputNames }.mapValues { (_, row) -> tensor(row) }
        try {
            session.run(inputs, setOf("logits")).use { result ->
                @Suppress("UNCHECKED_CAST")
                return (result[0].value as Array<FloatArray>)[0]
            }
        } finally {
            inputs.values.forEach(OnnxTensor::close)
        }
    }

    override fun close() = session.close()

    private fun tensor(row: IntArray) =
        OnnxTensor.createTensor(
            environment,
            LongBuffer.wrap(LongArray(row.size) { row[it].toLong() }),
            longArrayOf(1, row.size.toLong()),
        )
}
