package org.kdedge

import java.io.File
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class FamiliarityTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var folder: File
    private val golden = JSONObject(GOLDEN.resolve("familiarity.json").readText())
    private val words = COMMITTED_BUNDLE.resolve("vocab.txt").readLines()

    // Familiar are texts about films.
    private val table =
        ByteArray(words.size).also { it[words.indexOf("film")] = 64.toByte() }

    @Before
    fun copyTheBundle() {
        folder = temporary.newFolder()
        COMMITTED_BUNDLE.copyRecursively(folder, overwrite = true)
    }

    @Test
    fun `the golden familiarities`() {
        val tables =
            golden.getJSONArray("tables").objects().map { table ->
                val content = ByteArray(table.getInt("size"))
                for ((place, byte) in table.getJSONObject("bytes").toMap(JSONObject::getInt)) {
                    content[place.toInt()] = byte.toByte()
                }
                Familiarity(content, table.getInt("tokens"))
            }
        val vectors = golden.getJSONArray("vectors").objects()
        for (each in vectors) {
            val ids = each.getJSONArray("ids")
            val score =
                tables[each.getInt("table")].score(IntArray(ids.length()) { ids.getInt(it) })
            assertEquals(each.getString("name"), each.getDouble("familiarity"), score, 0.0)
        }
        assertEquals(11, vectors.size)
    }

    @Test
    fun `sizes that do not fit`() {
        for (each in golden.getJSONArray("refused").objects()) {
            val size = each.getInt("size")
            val error =
                assertThrows(BundleException::class.java) {
                    Familiarity(ByteArray(size), each.getInt("tokens"))
                }
            assertTrue(error.message!!, "is damaged: it has $size bytes" in error.message!!)
        }
    }

    @Test
    fun `texts that are not familiar`() {
        val classifier = classifier(table)
        // [CLS] good film [SEP]: 64 / (16 * 5), and of a longer text 64 / (16 * 6).
        assertEquals(false, classifier.classify("good film").unsure)
        assertEquals(false, classifier.classify("a good film").unsure)
        assertTrue(classifier.classify("a very good film").unsure)
        assertTrue(classifier.classify("good").unsure)
        // Without a decision no answer is unsure.
        assertEquals(false, TextClassifier(opened(), SURE_ENGINE).classify("good").unsure)
        // [SEP] of both texts counts.
        val pairs = classifier(table, pairs = true)
        assertEquals(false, pairs.classify("good", "film").unsure)
        assertTrue(pairs.classify("very good", "film").unsure)
    }

    @Test
    fun `files that are missing or damaged`() {
        val damaged = "familiarity.bin is damaged: it has ${table.size + 1} bytes"
        assertRefused("$damaged, which do not fit a vocabulary of ${words.size} tokens.") {
            classifier(table + 0)
        }
        classifier(table)
        folder.resolve(Familiarity.FILE).writeBytes(table.reversedArray())
        assertRefused("familiarity.bin is not the file that was exported") { ask() }
        folder.resolve(Familiarity.FILE).delete()
        assertRefused("familiarity.bin is missing. Copy the bundle again.") { ask() }
        changeManifest { it.getJSONObject("files").remove(Familiarity.FILE) }
        assertRefused("min_familiarity is given, and familiarity.bin is not in the bundle.") {
            opened()
        }
        // Without the limit it is not needed.
        changeManifest { manifest ->
            for (decision in decisionsOf(manifest)) {
                decision.put("min_familiarity", JSONObject.NULL)
            }
        }
        assertEquals(false, ask().classify("good").unsure)
    }

    /** Of the bundle with this file, which is needed. */
    private fun classifier(content: ByteArray, pairs: Boolean = false): TextClassifier {
        folder.resolve(Familiarity.FILE).writeBytes(content)
        val decision =
            mapOf(
                "temperature" to 1.0,
                "thresholds" to JSONArray(),
                "max_unknown" to 1.0,
                "min_familiarity" to 64 / 96.0,
            )
        changeManifest {
            it.put("pairs", pairs)
            it.getJSONObject("files").put(Familiarity.FILE, sha256(content))
            for (artifact in it.getJSONArray("artifacts").objects()) {
                artifact.put("trust", JSONObject(mapOf("decision" to decision)))
            }
        }
        return ask()
    }

    private fun ask() = opened().let { TextClassifier(it, SURE_ENGINE, it.artifact().decision) }

    private fun opened() = Bundle.open(filesIn(folder))

    private fun decisionsOf(manifest: JSONObject) =
        manifest.getJSONArray("artifacts").objects().map {
            it.getJSONObject("trust").getJSONObject("decision")
        }

    private fun changeManifest(change: (JSONObject) -> Unit) {
        val file = folder.resolve("manifest.json")
        file.writeText(JSONObject(file.readText()).also(change).toString())
    }

    private fun assertRefused(message: String, use: () -> Unit) {
        val error = assertThrows(BundleException::class.java) { use() }
        assertTrue("not \"$message\" but \"${error.message}\"", message in error.message!!)
    }
}
