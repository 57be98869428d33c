package org.kdedge.demo

import android.app.Activity
import android.os.Build
import android.os.Bundle as State
import android.util.Log
import android.view.WindowManager
import android.widget.TextView
import java.io.File
import kotlin.concurrent.thread
import org.json.JSONArray
import org.json.JSONObject
import org.kdedge.TextClassifier

/**
 * Measures an artifact on this device, over the bundle's sample texts, and writes benchmark.json.
 *
 *     adb shell am start -n org.kdedge.demo/.BenchmarkActivity \
 *         --es artifact litert-int8 --ei count 1000 --ei warmup 100
 *     adb logcat -s kdedge
 *     adb pull /sdcard/Android/data/org.kdedge.demo/files/benchmark.json
 *
 * Where it fails, the file says only `error`.
 */
class BenchmarkActivity : Activity() {
    override fun onCreate(state: State?) {
        super.onCreate(state)
        // A device that goes to sleep slows down.
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        val screen =
            TextView(this).apply {
                setText(R.string.measuring)
                fitsSystemWindows = true
            }
        setContentView(screen)
        // Started by an intent; a rotation must not start it again.
        if (state != null) return

        val artifact = intent.getStringExtra("artifact")
        val count = intent.getIntExtra("count", 1000)
        val warmup = intent.getIntExtra("warmup", 100)
        val file = File(getExternalFilesDir(null) ?: filesDir, "benchmark.json")
        file.delete()
        thread {
            val result =
                try {
                    measure(artifact, count, warmup)
                } catch (e: Exception) {
                    JSONObject().put("error", "$e")
                }
            val unfinished = File(file.path + ".new")
            unfinished.writeText(result.toString(2))
            unfinished.renameTo(file)
            Log.i("kdedge", "wrote $file")
            runOnUiThread { screen.text = getString(R.string.wrote, file.path) }
        }
    }

    private fun measure(artifactName: String?, count: Int, warmup: Int): JSONObject {
        require(count in 1..100_000 && warmup in 0..100_000) {
            "count is $count and warmup $warmup; 1 to 100,000 and 0 to 100,000 are allowed."
        }
        val start = System.nanoTime()
        val bundle = bundleInAssets(this)
        val artifact = bundle.artifact(artifactName)
        TextClassifier(bundle, loadEngine(bundle, artifact)).use { classifier ->
            val loaded = System.nanoTime()
            val texts =
                bundle.read("sample_texts.txt").decodeToString().lines().filter(String::isNotBlank)
            repeat(warmup) { classifier.classify(texts[it % texts.size]) }
            val answers = List(count) { classifier.classify(texts[it % texts.size]) }
            return JSONObject()
                .put("format_version", 1)
                .put("artifact", artifact.name)
                .put("artifact_sha256", artifact.sha256)
                .put("texts", texts.size)
                .put("warmup", warmup)
                .put("load_ns", loaded - start)
                .put("tokenize_ns", JSONArray(answers.map { it.tokenizeNanos }))
                .put("infer_ns", JSONArray(answers.map { it.inferNanos }))
                .put("device", device())
        }
    }

    private fun device() =
        JSONObject()
            .put("manufacturer", Build.MANUFACTURER)
            .put("model", Build.MODEL)
            .put("sdk", Build.VERSION.SDK_INT)
            .put("abi", Build.SUPPORTED_ABIS[0])
            .put("cores", Runtime.getRuntime().availableProcessors())
}
