package org.kdedge

import com.sun.net.httpserver.HttpServer
import java.io.ByteArrayOutputStream
import java.io.File
import java.net.InetAddress
import java.net.InetSocketAddress
import java.net.URL
import java.security.KeyPair
import java.security.KeyPairGenerator
import java.security.Signature
import java.security.spec.ECGenParameterSpec
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class BundleUpdatesTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var folder: File
    private val keys = newKeys()
    private val refused = ArrayList<String?>()

    // The labels tell the bundles apart.
    private val shipped = bundle("shipped")
    private val good = signed(bundle("good"))

    @Before
    fun makeTheFolder() {
        folder = File(temporary.root, "updates")
    }

    @Test
    fun `the shipped bundle is current until one is installed`() {
        assertEquals("shipped", name(updates().current { refused += it.message }))
        assertEquals("good", name(updates().install(zip(good))))
        // As after a restart.
        assertEquals("good", name(updates().current { refused += it.message }))
        assertEquals("newer", name(updates().install(zip(signed(bundle("newer"))))))
        assertEquals("newer", name(updates().current { refused += it.message }))
        assertEquals(emptyList<String>(), refused)
    }

    @Test
    fun `what openssl has signed, with its models`() {
        val key = fromPython("public.der").readBytes()
        val updates = BundleUpdates(folder, filesIn(COMMITTED_BUNDLE), key)
        val bundle = updates.install(fromPython("signed.zip").inputStream())
        bundle.verify()
        val engine = OnnxEngine(bundle.read(bundle.artifact("onnx-int8").file))
        TextClassifier(bundle, engine).use {
            assertEquals("positive", it.classify("a moving, funny film").text)
        }
        val others = BundleUpdates(folder, filesIn(COMMITTED_BUNDLE), keys.public.encoded)
        val url = fromPython("signed.zip").toURI().toURL()
        val error = assertThrows(BundleException::class.java) { others.install(url) }
        assertEquals("The bundle is not signed with the key of this app.", error.message)
    }

    @Test
    fun `keeps the old one if the new one is refused`() {
        updates().install(zip(good))
        val model = "onnx/model.onnx"
        val manifest = good.getValue("manifest.json").decodeToString()
        val changed = "manifest.json" to manifest.replace("good", "bad!").encodeToByteArray()
        val newer = "manifest.json" to """{"format_version": 99}""".encodeToByteArray()
        val cases =
            listOf(
                "manifest.sig is missing" to good - "manifest.sig",
                "not signed with the key" to signed(bundle("forged"), newKeys()),
                "not signed with the key" to good + changed,
                "not signed with the key" to good + ("manifest.sig" to ByteArray(70)),
                "not signed with the key" to good + ("manifest.sig" to ByteArray(0)),
                "manifest.json is missing" to mapOf("a.txt" to ByteArray(3)),
                "$model is not the file" to good + (model to ByteArray(9)),
                "$model is missing" to good - model,
                "familiarity.bin is missing" to good - Familiarity.FILE,
                "format_version is 99" to signed(bundle("a") + newer),
                "../a.txt would lie outside" to mapOf("../a.txt" to ByteArray(3)),
                "more than 100000 bytes" to good + ("a" to ByteArray(200_000)),
            )
        for ((message, files) in cases) assertRefused(message, updates(), bytes(files))
        assertRefused("manifest.json is missing", updates(), ByteArray(100))
        assertRefused("was not received", updates(), bytes(good).copyOf(300))
        assertEquals("good", name(updates().current { refused += it.message }))
        // The good one and its pointer; nothing is left of the others.
        assertEquals(2, folder.listFiles()!!.size)
        assertFalse(File(temporary.root, "a.txt").exists())
    }

    @Test
    fun `keeps the old one if the app cannot use the new one`() {
        updates().install(zip(good))
        val error =
            assertThrows(BundleException::class.java) {
                updates().install(zip(signed(bundle("newer")))) {
                    OnnxEngine(it.read(it.artifact().file)).close()
                }
            }
        assertTrue(error.message!!, "ONNX Runtime refuses this model" in error.message!!)
        assertEquals("good", name(updates().current { refused += it.message }))
    }

    @Test
    fun `says why an installed bundle is not used`() {
        updates().install(zip(good))
        val manifest = folder.walk().single { it.name == "manifest.json" }
        manifest.writeText(manifest.readText() + " ")
        assertEquals("shipped", name(updates().current { refused += it.message }))
        manifest.parentFile.deleteRecursively()
        assertEquals("shipped", name(updates().current { refused += it.message }))
        assertEquals(2, refused.size)
        assertTrue(refused[0]!!, "not signed with the key" in refused[0]!!)
        assertTrue(refused[1]!!, "manifest.json is missing" in refused[1]!!)
    }

    @Test
    fun `what a process that ended halfway has left does no harm`() {
        File(folder, "half").mkdirs()
        File(folder, "half/manifest.json").writeText("{")
        File(folder, "installed.new").writeText("half")
        assertEquals("shipped", name(updates().current { refused += it.message }))
        updates().install(zip(good))
        assertEquals("good", name(updates().current { refused += it.message }))
        assertFalse(File(folder, "half").exists())
        assertEquals(emptyList<String>(), refused)
    }

    @Test
    fun `a bundle in use can be read until the next but one is installed`() {
        val old = updates().install(zip(good))
        updates().install(zip(signed(bundle("newer"))))
        old.verify()
    }

    @Test
    fun `the bundle of a newer app counts`() {
        updates().install(zip(good))
        val newerApp = bundle("newer app")
        val updates = BundleUpdates(folder, files(newerApp), keys.public.encoded)
        assertEquals("newer app", name(updates.current { refused += it.message }))
        assertEquals("good", name(updates.install(zip(good))))
        assertEquals("good", name(updates.current { refused += it.message }))
    }

    @Test
    fun `from a server`() {
        val server = HttpServer.create(InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0)
        server.createContext("/bundle.zip") { exchange ->
            val content = bytes(good)
            exchange.sendResponseHeaders(200, content.size.toLong())
            exchange.responseBody.use { it.write(content) }
        }
        server.start()
        try {
            val root = "http://localhost:${server.address.port}"
            assertEquals("good", name(updates().install(URL("$root/bundle.zip"))))
            val error =
                assertThrows(BundleException::class.java) { updates().install(URL("$root/none")) }
            assertTrue(error.message!!, "/none cannot be opened" in error.message!!)
        } finally {
            server.stop(0)
        }
    }

    @Test
    fun `another kind of key`() {
        val rsa = KeyPairGenerator.getInstance("RSA").generateKeyPair().public.encoded
        for (key in listOf(rsa, ByteArray(0), "-----BEGIN PUBLIC KEY-----".encodeToByteArray())) {
            assertThrows(BundleException::class.java) { BundleUpdates(folder, files(good), key) }
        }
    }

    private fun updates() = BundleUpdates(folder, files(shipped), keys.public.encoded, 100_000)

    private fun assertRefused(message: String, updates: BundleUpdates, archive: ByteArray) {
        val error =
            assertThrows(message, BundleException::class.java) {
                updates.install(archive.inputStream())
            }
        assertTrue("not \"$message\" but \"${error.message}\"", message in error.message!!)
    }

    private fun name(bundle: Bundle) = bundle.task.labels[0]

    private fun bundle(name: String): Map<String, ByteArray> {
        val model = "no model".encodeToByteArray()
        val table = ByteArray(200)
        val manifest =
            JSONObject(COMMITTED_BUNDLE.resolve("manifest.json").readText())
                .put("format_version", 1)
                .put("labels", listOf(name, "other"))
                .put(
                    "files",
                    mapOf("onnx/model.onnx" to sha256(model), Familiarity.FILE to sha256(table)),
                )
                .put("defaults", mapOf("onnx" to "onnx-int8"))
                .put(
                    "artifacts",
                    listOf(
                        mapOf("name" to "onnx-int8", "file" to "onnx/model.onnx", "format" to "onnx")
                    ),
                )
        return mapOf(
            "manifest.json" to manifest.toString().encodeToByteArray(),
            "onnx/model.onnx" to model,
            Familiarity.FILE to table,
        )
    }

    private fun signed(files: Map<String, ByteArray>, by: KeyPair = keys) =
        files +
            ("manifest.sig" to
                Signature.getInstance("SHA256withECDSA").run {
                    initSign(by.private)
                    update(files.getValue("manifest.json"))
                    sign()
                })

    private fun files(content: Map<String, ByteArray>) = Files {
        content.getValue(it).inputStream()
    }

    private fun zip(files: Map<String, ByteArray>) = bytes(files).inputStream()

    private fun bytes(files: Map<String, ByteArray>): ByteArray {
        val out = ByteArrayOutputStream()
        ZipOutputStream(out).use { zip ->
            for ((name, content) in files) {
                zip.putNextEntry(ZipEntry(name))
                zip.write(content)
            }
        }
        return out.toByteArray()
    }

    private fun newKeys() =
        KeyPairGenerator.getInstance("EC")
            .apply { initialize(ECGenParameterSpec("secp256r1")) }
            .generateKeyPair()
}
