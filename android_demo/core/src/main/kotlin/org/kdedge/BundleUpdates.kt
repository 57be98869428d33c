package org.kdedge

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.net.URL
import java.security.KeyFactory
import java.security.Signature
import java.security.SignatureException
import java.security.spec.InvalidKeySpecException
import java.security.spec.X509EncodedKeySpec
import java.util.UUID
import java.util.zip.ZipEntry
import java.util.zip.ZipInputStream

/**
 * A bundle that can be replaced after the app was installed, by one that its developer has signed.
 *
 *     val updates = BundleUpdates(
 *         File(filesDir, "bundle"), Files { assets.open("bundle/$it") }, publicKey)
 *     updates.install(URL("https://example.org/bundle.zip"))
 *     val bundle = updates.current { Log.w("kdedge", it) }
 *
 * A bundle that is refused changes nothing, and so does a process that ends halfway. When the app
 * itself comes with another bundle, that one counts and what was installed before does not.
 *
 * The signature says who made a bundle, not that there is no newer one: fetch it over https.
 *
 * @param folder a folder of this object alone, in the app's own storage
 * @param shipped the bundle that the app came with
 * @param publicKey an ECDSA key for P-256 as DER, which `openssl ec -in key.pem -pubout -outform
 *   DER -out public.der` writes
 * @param maxBytes of all files of a bundle, unpacked
 */
class BundleUpdates(
    private val folder: File,
    private val shipped: Files,
    publicKey: ByteArray,
    private val maxBytes: Long = 200_000_000,
) {
    private val key =
        try {
            KeyFactory.getInstance("EC").generatePublic(X509EncodedKeySpec(publicKey))
        } catch (e: InvalidKeySpecException) {
            throw BundleException(
                "publicKey is not an EC public key in DER. This writes one: " +
                    "openssl ec -in key.pem -pubout -outform DER -out public.der",
                e,
            )
        }

    // Its lines: the folder of the installed bundle; the SHA-256 of the shipped manifest.
    private val pointer = File(folder, "installed")

    /** The installed bundle, or the shipped one; `refused` is told why an installed one is not used. */
    fun current(refused: (BundleException) -> Unit): Bundle {
        val name = installed() ?: return Bundle.open(shipped)
        return try {
            opened(File(folder, name))
        } catch (e: BundleException) {
            refused(e)
            Bundle.open(shipped)
        }
    }

    /**
     * Receives a bundle as a zip archive, verifies its signature and each file, and makes it the
     * current one. The archive is closed afterwards.
     *
     * @param accept a last test, which throws if the app cannot use the bundle; for instance one
     *   that loads a model and asks it a text
     * @throws BundleException the bundle is refused, with the reason; the current one stays
     */
    fun install(archive: InputStream, accept: (Bundle) -> Unit = {}): Bundle {
        val before = installed()
        val fresh = File(folder, UUID.randomUUID().toString())
        var done = false
        try {
            archive.use { unzip(it, fresh) }
            val bundle = opened(fresh)
            bundle.verify()
            accept(bundle)
            write(File(folder, "installed.new")) {
                write("${fresh.name}\n${sha256(shippedManifest())}\n".encodeToByteArray())
            }
            done = File(folder, "installed.new").renameTo(pointer)
            if (!done) throw IOException("$pointer cannot be written")
            return bundle
        } catch (e: IOException) {
            throw BundleException("The new bundle was not received: ${e.message}.", e)
        } finally {
            // Not the one before: it may still be in use.
            val kept = listOf(before, if (done) fresh.name else null)
            val others = folder.listFiles().orEmpty().filter { it.isDirectory && it.name !in kept }
            others.forEach(File::deleteRecursively)
        }
    }

    /** Receives a bundle from a URL, for instance `https://...` or `file:...`. */
    fun install(url: URL, accept: (Bundle) -> Unit = {}): Bundle {
        val archive =
            try {
                val connection = url.openConnection()
                connection.connectTimeout = TIMEOUT_MS
                connection.readTimeout = TIMEOUT_MS
                connection.getInputStream()
            } catch (e: IOException) {
                throw BundleException("$url cannot be opened: ${e.message}.", e)
            }
        return install(archive, accept)
    }

    /** The name of the installed bundle's folder. */
    private fun installed(): String? {
        val lines = if (pointer.isFile) pointer.readLines() else return null
        return lines[0].takeIf { lines.getOrNull(1) == sha256(shippedManifest()) }
    }

    private fun shippedManifest() = shipped.open(MANIFEST).use { it.readBytes() }

    private fun opened(place: File): Bundle {
        fun content(name: String) =
            File(place, name).takeIf { it.isFile }?.readBytes()
                ?: throw BundleException(
                    "$name is missing. A signed bundle is needed, as a zip archive of its files."
                )
        val manifest = content(MANIFEST)
        val signature = content("manifest.sig")
        val valid =
            Signature.getInstance("SHA256withECDSA").run {
                initVerify(key)
                update(manifest)
                try {
                    verify(signature)
                } catch (_: SignatureException) {
                    false
                }
            }
        if (!valid) throw BundleException("The bundle is not signed with the key of this app.")
        return Bundle.open(Files { File(place, it).inputStream() })
    }

    private fun unzip(archive: InputStream, target: File) {
        val zip = ZipInputStream(archive)
        val buffer = ByteArray(1 shl 16)
        var left = maxBytes
        for (entry in generateSequence { next(zip) }.filterNot { it.isDirectory }) {
            if (!staysInside(entry.name)) {
                throw BundleException("The file ${entry.name} would lie outside the bundle.")
            }
            write(File(target, entry.name)) {
                generateSequence { zip.read(buffer).takeIf { it >= 0 } }
                    .forEach { count ->
                        left -= count
                        if (left < 0) {
                            throw BundleException(
                                "The bundle has more than $maxBytes bytes. Raise maxBytes."
                            )
                        }
                        write(buffer, 0, count)
                    }
            }
        }
    }

    private fun next(zip: ZipInputStream): ZipEntry? =
        try {
            zip.nextEntry
        } catch (e: IllegalArgumentException) {
            throw IOException("a name in the archive is not UTF-8", e)
        }

    private fun write(file: File, content: FileOutputStream.() -> Unit) {
        file.parentFile?.mkdirs()
        FileOutputStream(file).use {
            it.content()
            it.fd.sync()
        }
    }

    private companion object {
        const val MANIFEST = "manifest.json"
        const val TIMEOUT_MS = 30_000
    }
}
