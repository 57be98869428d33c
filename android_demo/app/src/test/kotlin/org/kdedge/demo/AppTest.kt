package org.kdedge.demo

import android.content.Intent
import android.graphics.Bitmap
import android.graphics.Canvas
import android.os.Looper
import android.view.View
import android.view.View.MeasureSpec
import android.view.ViewGroup
import android.widget.EditText
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TextView
import java.io.File
import java.util.concurrent.TimeUnit
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** The screens on Robolectric's Android, with ONNX Runtime for the JVM; LiteRT has none for it. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [24, 35])
class AppTest {
    private val controller = Robolectric.buildActivity(MainActivity::class.java)

    @Test
    fun `says what it thinks of what is typed`() {
        controller.setup()
        choose("onnx-int8")
        type("a moving, funny film")
        waitUntil { message() == "positive" }
        // This bundle takes one text.
        assertEquals(View.GONE, controller.get().findViewById<View>(R.id.pair).visibility)
        val bars = controller.get().findViewById<View>(R.id.bars)
        assertEquals(View.VISIBLE, bars.visibility)
        val positive = (bars as ViewGroup).getChildAt(1)
        val percent = positive.findViewById<ProgressBar>(R.id.bar).progress
        assertTrue("$percent", percent > 50)
        assertEquals("positive, $percent percent", positive.contentDescription)
        assertTrue(latency().matches(Regex("Tokenize \\d+\\.\\d\\d ms, infer \\d+\\.\\d\\d ms")))

        type("a waste of two hours")
        waitUntil { message() == "negative" }
        type(" ")
        waitUntil { message() == "The text is empty." }
        assertEquals(View.INVISIBLE, bars.visibility)
    }

    @Test
    fun `is unsure of what is no review`() {
        controller.setup()
        choose("onnx-int8")
        // "This film is good" in Chinese, whose characters the model does not know.
        for (other in listOf("\u8fd9\u90e8\u7535\u5f71\u5f88\u597d", "How do I activate my card?")) {
            type("a moving, funny film")
            waitUntil { message() == "positive" }
            // The first of them.
            val bar = controller.get().findViewById<View>(R.id.bar)
            assertEquals(1f, bar.alpha)
            type(other)
            waitUntil { message() == "unsure" }
            assertTrue("${bar.alpha}", bar.alpha < 0.5f)
        }
    }

    @Test
    @Config(sdk = [35], qualifiers = "w360dp-h420dp-notnight-xhdpi")
    @GraphicsMode(GraphicsMode.Mode.NATIVE)
    fun `a picture in the light theme`() = draw("light", "a moving, funny film", "positive")

    @Test
    @Config(sdk = [35], qualifiers = "w360dp-h420dp-night-xhdpi")
    @GraphicsMode(GraphicsMode.Mode.NATIVE)
    fun `a picture in the dark theme`() = draw("dark", "How do I activate my card?", "unsure")

    private fun draw(name: String, text: String, answer: String) {
        val folder = System.getenv("KDEDGE_FROM_PYTHON")
        assumeTrue("check.py says where pictures go", folder != null)
        controller.setup()
        choose("onnx-int8")
        // The first answer takes longer.
        type("a waste of two hours")
        waitUntil { message() == "negative" }
        type(text)
        waitUntil { message() == answer }
        // The committed app has no place to get bundles from.
        controller.get().findViewById<View>(R.id.update).visibility = View.GONE
        val screen = controller.get().window.decorView
        screen.measure(exactly(screen.width), exactly(screen.height))
        screen.layout(0, 0, screen.width, screen.height)
        val picture =
            Bitmap.createBitmap(screen.width, screen.height, Bitmap.Config.ARGB_8888)
        screen.draw(Canvas(picture))
        File(folder, "$name.png").outputStream().use {
            picture.compress(Bitmap.CompressFormat.PNG, 100, it)
        }
    }

    private fun exactly(pixels: Int) = MeasureSpec.makeMeasureSpec(pixels, MeasureSpec.EXACTLY)

    @Test
    fun `waits until one stops typing`() {
        controller.setup()
        choose("onnx-int8")
        type("a waste of two hours")
        waitUntil { message() == "negative" }
        type("a moving, funny film")
        shadowOf(Looper.getMainLooper()).idleFor(100, TimeUnit.MILLISECONDS)
        Thread.sleep(300)
        shadowOf(Looper.getMainLooper()).idle()
        assertEquals("negative", message())
        shadowOf(Looper.getMainLooper()).idleFor(100, TimeUnit.MILLISECONDS)
        waitUntil { message() == "positive" }
    }

    @Test
    fun `keeps text and model when the phone is turned`() {
        controller.setup()
        choose("onnx-int8")
        type("a moving, funny film")
        waitUntil { message() == "positive" }
        val before = controller.get()
        controller.recreate()
        assertNotEquals(before, controller.get())
        waitUntil { message() == "positive" }
        assertEquals("onnx-int8", spinner().selectedItem)
        assertEquals("a moving, funny film", text().text.toString())
    }

    @Test
    fun `says that a runtime is missing`() {
        controller.setup()
        waitUntil { "no native library" in message() }
        assertTrue(message(), message().startsWith("litert-int8-lengths: the app has no native"))
        val accelerator = controller.get().findViewById<View>(R.id.of_accelerator)
        assertEquals(View.VISIBLE, accelerator.visibility)
        // And goes on with the other, which runs on the CPU only.
        type("a moving, funny film")
        choose("onnx-int8")
        waitUntil { message() == "positive" }
        assertEquals(View.GONE, accelerator.visibility)
    }

    @Test
    fun `receives a signed bundle and goes on with it`() {
        controller.setup()
        choose("onnx-int8")
        type("a moving, funny film")
        waitUntil { message() == "positive" }
        val update = controller.get().findViewById<View>(R.id.update)
        assumeTrue("check.py says where bundles come from", update.visibility == View.VISIBLE)
        update.performClick()
        val installed = File(controller.get().filesDir, "bundle/installed")
        waitUntil { installed.exists() }
        type("a waste of two hours")
        waitUntil { message() == "negative" }
        // The folder of the bundle and the file that names it.
        val folder = installed.readLines()[0]
        assertEquals(setOf(folder, "installed"), installed.parentFile.list().toSet())
        assertEquals("onnx-int8", benchmark("onnx-int8", 1).getString("artifact"))
    }

    @Test
    fun `measures an artifact`() {
        val result = benchmark("onnx-int8", 20)
        assertEquals("onnx-int8", result.getString("artifact"))
        for (samples in listOf("tokenize_ns", "infer_ns")) {
            val values = result.getJSONArray(samples)
            assertEquals(20, values.length())
            assertTrue(values.getLong(19) > 0)
        }
        assertTrue(result.getJSONObject("device").getInt("cores") > 0)
        // `kdedge bench --app` asks for the very file.
        val sha256 = result.getString("artifact_sha256")
        assertEquals("onnx-int8", benchmark(sha256, 1).getString("artifact"))
    }

    @Test
    fun `says where it measured`() {
        val asked = benchmark("onnx-int8", 1, accelerator = "npu").getJSONObject("accelerator")
        assertEquals("npu", asked.getString("asked"))
        assertEquals("cpu", asked.getString("used"))
        assertTrue(asked.isNull("share"))
        assertEquals("this app runs ONNX models on the CPU", asked.getString("reason"))
    }

    @Test
    fun `measures for some time`() {
        val times = benchmark("onnx-int8", 20, seconds = 0.5f).getJSONArray("infer_ns")
        assertTrue("${times.length()}", times.length() > 20)
    }

    @Test
    fun `writes what kdedge reads`() {
        val golden = JSONObject(File("../../tests/golden/benchmark.json").readText())
        assertEquals(kinds(golden), kinds(benchmark("onnx-int8", 20)))
    }

    /** Each key with the kind of its value. */
    private fun kinds(json: JSONObject): Map<String, Any> =
        json.keys().asSequence().associateWith { key ->
            when (val value = json.get(key)) {
                is JSONObject -> kinds(value)
                is JSONArray -> List(value.length()) { value.getLong(it) }.size
                is Number -> "number"
                else -> "text"
            }
        }

    @Test
    fun `says what it cannot measure`() {
        assertTrue("has no artifact int2" in benchmark("int2", 20).getString("error"))
        assertTrue("count is 0" in benchmark("onnx-int8", 0).getString("error"))
        assertTrue("no native library" in benchmark("litert-int8", 20).getString("error"))
        val unknown = benchmark("onnx-int8", 1, accelerator = "tpu").getString("error")
        assertTrue(unknown, "accelerator is tpu; cpu, gpu, npu are allowed." in unknown)
    }

    private fun benchmark(
        artifact: String,
        count: Int,
        seconds: Float = 0f,
        accelerator: String? = null,
    ): JSONObject {
        val intent =
            Intent()
                .putExtra("artifact", artifact)
                .putExtra("accelerator", accelerator)
                .putExtra("count", count)
                .putExtra("seconds", seconds)
                .putExtra("warmup", 5)
        val activity =
            Robolectric.buildActivity(BenchmarkActivity::class.java, intent).setup().get()
        val file = File(activity.getExternalFilesDir(null), "benchmark.json")
        waitUntil { file.exists() }
        return JSONObject(file.readText())
    }

    private fun choose(artifact: String) {
        waitUntil { spinner().adapter != null }
        val position =
            (0 until spinner().adapter.count).first { spinner().adapter.getItem(it) == artifact }
        spinner().setSelection(position)
    }

    private fun type(text: String) = text().setText(text)

    private fun text() = controller.get().findViewById<EditText>(R.id.text)

    private fun spinner() = controller.get().findViewById<Spinner>(R.id.artifacts)

    private fun message() = controller.get().findViewById<TextView>(R.id.message).text.toString()

    private fun latency() = controller.get().findViewById<TextView>(R.id.latency).text.toString()

    private fun waitUntil(holds: () -> Boolean) {
        val end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30)
        while (!holds()) {
            check(System.nanoTime() < end) { "nothing came of it in 30 seconds" }
            shadowOf(Looper.getMainLooper()).idleFor(50, TimeUnit.MILLISECONDS)
            Thread.sleep(10)
        }
    }
}
