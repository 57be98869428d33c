package org.kdedge

import java.io.File
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class BundleTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var folder: File

    @Before
    fun copyTheBundle() {
        folder = temporary.newFolder()
        COMMITTED_BUNDLE.copyRecursively(folder, overwrite = true)
    }

    @Test
    fun `the committed bundle is whole`() {
        val bundle = Bundle.open(filesIn(folder))
        assertEquals(listOf("negative", "positive"), bundle.task.labels)
        assertEquals("litert-int8-lengths", bundle.artifact().name)
        val files =
            JSONObject(folder.resolve("manifest.json").readText()).getJSONObject("files").keySet()
        files.forEach(bundle::read)
        assertEquals(11, files.size)
    }

    @Test
    fun `a changed byte`() {
        val model = folder.resolve("litert/model_int8.tflite")
        model.writeBytes(model.readBytes().also { it[1000] = (it[1000] + 1).toByte() })
        assertRefused("litert/model_int8.tflite is not the file") {
            it.read("litert/model_int8.tflite")
        }
    }

    @Test
    fun `a missing file`() {
        folder.resolve("tokenizer.json").delete()
        assertRefused("tokenizer.json is missing") { it.read("tokenizer.json") }
    }

    @Test
    fun `a file that the manifest does not name`() {
        folder.resolve("secret.txt").writeText("x")
        assertRefused("secret.txt is not in") { it.read("secret.txt") }
        assertRefused("is not in") { it.read("../secret.txt") }
    }

    @Test
    fun `an artifact that is not there`() =
        assertRefused("It has: litert-int8-lengths, litert-int8, onnx-int8") { it.artifact("int2") }

    @Test
    fun `no manifest`() {
        folder.resolve("manifest.json").delete()
        assertRefused("No bundle")
    }

    @Test
    fun `half a manifest`() {
        val manifest = folder.resolve("manifest.json")
        manifest.writeText(manifest.readText().take(500))
        assertRefused("manifest.json is damaged")
    }

    @Test
    fun `a newer version`() {
        changeManifest { JSONObject().put("format_version", 4).put("unheard", "of") }
        assertRefused("format_version is 4 and this app reads 1 to 3")
    }

    @Test
    fun `an older version, with labels`() {
        changeManifest { manifest ->
            manifest.remove("task")
            manifest.put("format_version", 1).put("labels", listOf("bad", "good"))
        }
        assertEquals(listOf("bad", "good"), Bundle.open(filesIn(folder)).task.labels)
    }

    @Test
    fun `paths outside the bundle`() {
        for (path in
            listOf("/etc/passwd", "../secret.txt", "litert/../../secret.txt", "..\\secret.txt")) {
            changeManifest { it.apply { getJSONObject("files").put(path, "00") } }
            assertRefused("$path would lie outside")
            copyTheBundle()
        }
    }

    @Test
    fun `a model without a checksum`() {
        changeManifest { it.apply { getJSONObject("files").remove("onnx/model_quantized.onnx") } }
        assertRefused("onnx/model_quantized.onnx has no checksum")
    }

    @Test
    fun `a model of another format`() {
        changeManifest {
            it.apply {
                getJSONArray("artifacts").getJSONObject(0).put("file", "onnx/model_quantized.onnx")
            }
        }
        assertRefused("onnx/model_quantized.onnx is not a file of the format litert")
    }

    @Test
    fun `defaults that are not there`() {
        changeManifest { it.put("defaults", JSONObject().put("litert", "int2")) }
        assertRefused("defaults name no artifact")
        changeManifest { it.put("defaults", JSONObject()) }
        assertRefused("defaults name no artifact")
    }

    @Test
    fun `too few labels or tokens`() {
        changeManifest { it.put("max_length", 2) }
        assertRefused("max_length: 2")
        changeManifest { it.apply { getJSONObject("task").put("label_names", listOf("one")) } }
        assertRefused("labels: 1")
    }

    private fun changeManifest(change: (JSONObject) -> JSONObject) {
        val manifest = folder.resolve("manifest.json")
        manifest.writeText(change(JSONObject(manifest.readText())).toString())
    }

    private fun assertRefused(message: String, use: (Bundle) -> Unit = {}) {
        val error = assertThrows(BundleException::class.java) { use(Bundle.open(filesIn(folder))) }
        if (message !in error.message!!)
            throw AssertionError("not \"$message\" but \"${error.message}\"")
    }
}
