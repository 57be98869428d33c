package org.kdedge.demo

import ai.onnxruntime.OrtEnvironment
import android.content.Context
import android.os.Build
import org.kdedge.Artifact
import org.kdedge.Bundle
import org.kdedge.BundleException
import org.kdedge.OnnxEngine
import org.tensorflow.lite.TensorFlowLite

/** Loads a model of a bundle in its runtime; ONNX Runtime runs on the CPU here. */
fun loadEngine(
    bundle: Bundle,
    artifact: Artifact,
    threads: Int = 1,
    accelerator: Accelerator = Accelerator.CPU,
): Loaded {
    val model = bundle.read(artifact.file)
    try {
        return when (artifact.format) {
            "litert" -> loadLiteRt(model, threads, accelerator)
            "onnx" -> Loaded(OnnxEngine(model, threads), onnxPlacement(accelerator))
            else ->
                throw BundleException(
                    "${artifact.name}: this app has no engine for ${artifact.format}."
                )
        }
    } catch (e: LinkageError) {
        val abis = Build.SUPPORTED_ABIS.joinToString()
        throw BundleException(
            "${artifact.name}: the app has no native library for this device ($abis).",
            e,
        )
    }
}

private fun onnxPlacement(asked: Accelerator) =
    if (asked == Accelerator.CPU) Placement(asked)
    else Placement(asked, Accelerator.CPU, reason = "this app runs ONNX models on the CPU")

/** Name and version of the runtime of a loaded artifact. */
fun runtimeOf(artifact: Artifact): Pair<String, String> =
    if (artifact.format == "litert") "LiteRT" to TensorFlowLite.runtimeVersion()
    else "ONNX Runtime" to OrtEnvironment.getEnvironment().version
