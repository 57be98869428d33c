package org.kdedge.demo

import android.app.Activity
import android.content.Intent
import android.os.Build
import android.os.Bundle as State
import android.util.Log
import android.view.WindowManager
import android.widget.TextView
import java.io.File
import kotlin.concurrent.thread
import org.json.JSONArray
import org.json.JSONObject
import org.kdedge.Answer
import org.kdedge.BundleException
import org.kdedge.TextClassifier

/**
 * Measures an artifact on this device, over the bundle's sample texts, and writes benchmark.json.
 *
 *     adb shell am start -n org.kdedge.demo/.BenchmarkActivity \
 *         --es artifact litert-int8 --ei count 1000 --ef seconds 10
 *     adb logcat -s kdedge
 *     adb pull /sdcard/Android/data/org.kdedge.demo/files/benchmark.json
 *
 * `artifact` is a name or a SHA-256; `--es accelerator gpu`, or `npu`, asks for another processor
 * than the CPU, and the file says what ran. Counts and seconds, `warmup` and `warmup_seconds` too, are
 * both reached. Where it fails, the file says only `error`. `kdedge bench --app` does all this.
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

        val file = File(getExternalFilesDir(null) ?: filesDir, "benchmark.json")
        file.delete()
        thread {
            val result =
                try {
                    measure(Job(intent))
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

    private class Job(intent: Intent) {
        val artifact: String? = intent.getStringExtra("artifact")
        val count = intent.getIntExtra("count", 1000)
        val seconds = intent.getFloatExtra("seconds", 0f)
        val warmup = intent.getIntExtra("warmup", 100)
        val warmupSeconds = intent.getFloatExtra("warmup_seconds", 0f)
        val threads = intent.getIntExtra("threads", 1)
        val accelerator = Accelerator.of(intent.getStringExtra("accelerator"))

        init {
            require(count in 1..100_000 && warmup in 0..100_000) {
                "count is $count and warmup $warmup; 1 to 100,000 and 0 to 100,000 are allowed."
            }
        }
    }

    private fun measure(job: Job): JSONObject {
        val start = System.nanoTime()
        val bundle = currentBundle(this)
        val artifact =
            bundle.artifacts.find { it.sha256 == job.artifact } ?: bundle.artifact(job.artifact)
        if ("sample_texts.txt" !in bundle) {
            throw BundleException(
                "The bundle has no texts to measure with. " +
                    "`kdedge export STUDENT_DIR --out BUNDLE_DIR --sample-texts` puts some into it."
            )
        }
        val model = loadEngine(bundle, artifact, job.threads, job.accelerator)
        TextClassifier(bundle, model.engine, artifact.decision).use { classifier ->
            val loaded = System.nanoTime()
            // Lines have a tab between the texts of a pair.
            val texts =
                bundle
                    .read("sample_texts.txt")
                    .decodeToString()
                    .lines()
                    .filter(String::isNotBlank)
                    .map { if (bundle.pairs) it.split('\t', limit = 2) else listOf(it) }
            val first = classifier.classify(texts[0][0], texts[0].getOrNull(1))
            classifier.classifyInTurn(texts, job.warmup, job.warmupSeconds)
            val answers = classifier.classifyInTurn(texts, job.count, job.seconds)
            val (runtime, version) = runtimeOf(artifact)
            return JSONObject()
                .put("format_version", 1)
                .put("artifact", artifact.name)
                .put("artifact_sha256", artifact.sha256)
                .put("runtime", JSONObject().put("name", runtime).put("version", version))
                .put("accelerator", json(model.placement))
                .put("texts", texts.size)
                .put("threads", job.threads)
                .put("load_ns", loaded - start)
                .put("first_inference_ns", first.inferNanos)
                .put("tokenize_ns", JSONArray(answers.map { it.tokenizeNanos }))
                .put("infer_ns", JSONArray(answers.map { it.inferNanos }))
                .put("device", device())
        }
    }

    /** One text after the other until both `count` and `seconds` are reached. */
    private fun TextClassifier.classifyInTurn(
        texts: List<List<String>>,
        count: Int,
        seconds: Float,
    ): List<Answer> {
        val end = System.nanoTime() + (1e9 * seconds).toLong()
        val answers = ArrayList<Answer>()
        while (answers.size < count || System.nanoTime() < end) {
            val text = texts[answers.size % texts.size]
            answers += classify(text[0], text.getOrNull(1))
        }
        return answers
    }

    private fun json(placement: Placement) =
        JSONObject()
            .put("asked", placement.asked.id)
            .put("used", placement.used.id)
            .put("share", placement.share ?: JSONObject.NULL)
            .put("reason", placement.reason ?: JSONObject.NULL)

    private fun device() =
        JSONObject()
            .put("manufacturer", Build.MANUFACTURER)
            .put("model", Build.MODEL)
            .put("sdk", Build.VERSION.SDK_INT)
            .put("abi", Build.SUPPORTED_ABIS[0])
            .put("cores", Runtime.getRuntime().availableProcessors())
}
