package org.kdedge

import java.io.File
import org.junit.Assume.assumeTrue

// Gradle and android_demo/check.py run the tests in the module's folder.
val GOLDEN = File("../../tests/golden")
val COMMITTED_BUNDLE = File("../app/src/main/assets/bundle")

/** A file that check.py made with Python; without it, as in Android Studio, the test is skipped. */
fun fromPython(name: String): File {
    val folder = System.getenv("KDEDGE_FROM_PYTHON")
    assumeTrue("made by android_demo/check.py", folder != null)
    return File(folder, name)
}

fun filesIn(folder: File) = Files { File(folder, it).inputStream() }

/** A model of two labels that is 90% sure of the second one, whatever the text. */
val SURE_ENGINE =
    object : Engine {
        override val length = null

        override val givesLogits = false

        override fun run(ids: IntArray, mask: IntArray, segments: IntArray) =
            floatArrayOf(0.1f, 0.9f)

        override fun close() = Unit
    }
