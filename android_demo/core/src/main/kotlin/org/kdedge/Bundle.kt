package org.kdedge

import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** The bundle is missing, damaged, or of another version. The message says which and what to do. */
class BundleException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** Where a bundle's files come from, for instance `Files { assets.open("bundle/$it") }`. */
fun interface Files {
    /** Opens the file at `path` inside the bundle; throws IOException where there is none. */
    fun open(path: String): InputStream
}

/** One model file of a bundle. */
data class Artifact(
    val name: String,
    val file: String,
    /** `litert` or `onnx`. */
    val format: String,
    val sha256: String,
    /** How its outputs become answers; null in bundles without one. */
    val decision: Decision? = null,
)

/** A bundle that `kdedge export` wrote. Every file is compared with its SHA-256 when it is read. */
class Bundle
private constructor(
    private val files: Files,
    private val checksums: Map<String, String>,
    private val defaults: Map<String, String>,
    val artifacts: List<Artifact>,
    /** What its models say of a text. */
    val task: Task,
    /** Whether a model is asked about two texts together. */
    val pairs: Boolean,
    /** Tokens that a text is truncated to, [CLS] and [SEP] included. */
    val maxLength: Int,
) {
    /** The artifact with this name; with null, the default for LiteRT, otherwise for ONNX. */
    fun artifact(name: String? = null): Artifact {
        val wanted = name ?: defaults["litert"] ?: defaults["onnx"]
        return artifacts.find { it.name == wanted }
            ?: throw BundleException(
                "This bundle has no artifact $wanted. It has: " +
                    "${artifacts.joinToString { it.name }}."
            )
    }

    /** Whether the bundle has a file at this path. */
    operator fun contains(path: String) = path in checksums

    /** The content of a file of the bundle. */
    fun read(path: String): ByteArray {
        val expected =
            checksums[path] ?: throw BundleException("$path is not in the bundle's manifest.")
        val content =
            try {
                files.open(path).use { it.readBytes() }
            } catch (e: IOException) {
                throw BundleException("$path is missing. Copy the bundle again.", e)
            }
        if (sha256(content) != expected) {
            throw BundleException(
                "$path is not the file that was exported: its SHA-256 differs. " +
                    "Copy the bundle again."
            )
        }
        return content
    }

    /** Compares every file with its SHA-256. */
    fun verify() = checksums.keys.forEach { read(it) }

    companion object {
        private val SUFFIXES = mapOf("litert" to ".tflite", "onnx" to ".onnx")

        /** Version 1 was for classification only, version 2 had no decisions. */
        private val FORMAT_VERSIONS = 1..3

        /** Reads the manifest. Models and tokenizer are read, and checked, when they are used. */
        fun open(files: Files): Bundle {
            val text =
                try {
                    files.open("manifest.json").use { it.readBytes().decodeToString() }
                } catch (e: IOException) {
                    throw BundleException(
                        "No bundle: manifest.json is missing. " +
                            "`python -m converters.to_android BUNDLE` puts one here.",
                        e,
                    )
                }
            return try {
                parse(JSONObject(text), files)
            } catch (e: JSONException) {
                throw BundleException("manifest.json is damaged: ${e.message}", e)
            }
        }

        private fun parse(manifest: JSONObject, files: Files): Bundle {
            // First, for a newer version may have other keys.
            val version = manifest.getInt("format_version")
            demand(version in FORMAT_VERSIONS) {
                "format_version is $version and this app reads " +
                    "${FORMAT_VERSIONS.first} to ${FORMAT_VERSIONS.last}. " +
                    "Update the app or export the bundle anew."
            }

            val checksums =
                manifest.getJSONObject("files").toMap { json, key -> json.getString(key) }
            for (path in checksums.keys) {
                demand(staysInside(path)) {
                    "the file $path would lie outside the bundle."
                }
            }
            val artifacts =
                manifest.getJSONArray("artifacts").objects().map { artifact ->
                    val file = artifact.getString("file")
                    demand(file in checksums) { "$file has no checksum." }
                    val format = artifact.getString("format")
                    demand(file.endsWith(SUFFIXES[format] ?: "")) {
                        "$file is not a file of the format $format."
                    }
                    val decision =
                        artifact.optJSONObject("trust")?.getJSONObject("decision")?.let {
                            decision(it)
                        }
                    demand(decision?.minFamiliarity == null || Familiarity.FILE in checksums) {
                        "min_familiarity is given, and ${Familiarity.FILE} is not in the bundle. " +
                            "Export it again."
                    }
                    Artifact(
                        artifact.getString("name"),
                        file,
                        format,
                        checksums.getValue(file),
                        decision,
                    )
                }
            val defaults =
                manifest.getJSONObject("defaults").toMap { json, key -> json.getString(key) }
            demand(
                defaults.isNotEmpty() && artifacts.map { it.name }.containsAll(defaults.values)
            ) {
                "defaults name no artifact of this bundle."
            }
            val task =
                if (version == 1) {
                    val names = manifest.getJSONArray("labels")
                    Classification(List(names.length()) { names.getString(it) })
                } else Task.parse(manifest.getJSONObject("task"))
            demand(task is Regression || task.labels.size >= 2) {
                "labels: ${task.labels.size}. At least 2 are needed."
            }
            val maxLength = manifest.getInt("max_length")
            demand(maxLength >= 3) {
                "max_length: $maxLength. At least 3: [CLS], one word piece and [SEP]."
            }
            val pairs = manifest.optBoolean("pairs")
            return Bundle(files, checksums, defaults, artifacts, task, pairs, maxLength)
        }

        private fun decision(stored: JSONObject): Decision {
            val thresholds = stored.getJSONArray("thresholds")
            return Decision(
                stored.getDouble("temperature"),
                List(thresholds.length()) { thresholds.getDouble(it) },
                stored.getDouble("max_unknown"),
                if (stored.isNull("min_familiarity")) null
                else stored.getDouble("min_familiarity"),
            )
        }

        private fun demand(holds: Boolean, message: () -> String) {
            if (!holds) throw BundleException("manifest.json: ${message()}")
        }
    }
}

internal fun sha256(content: ByteArray): String =
    MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }

internal fun staysInside(path: String) =
    !path.startsWith("/") && ".." !in path.split("/") && "\\" !in path

internal fun JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }

internal fun <V> JSONObject.toMap(value: (JSONObject, String) -> V): Map<String, V> =
    keys().asSequence().associateWith { value(this, it) }
