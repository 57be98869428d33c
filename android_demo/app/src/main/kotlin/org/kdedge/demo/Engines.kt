package org.kdedge.demo

import android.content.Context
import android.os.Build
import org.kdedge.Artifact
import org.kdedge.Bundle
import org.kdedge.BundleException
import org.kdedge.Engine
import org.kdedge.Files
import org.kdedge.OnnxEngine

/** The bundle in the app's assets. */
fun bundleInAssets(context: Context): Bundle =
    Bundle.open(Files { context.assets.open("bundle/$it") })

/** Loads a model of a bundle in its runtime. */
fun loadEngine(bundle: Bundle, artifact: Artifact): Engine {
    val model = bundle.read(artifact.file)
    try {
        return when (artifact.format) {
            "litert" -> LiteRtEngine(model)
            "onnx" -> OnnxEngine(model)
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
