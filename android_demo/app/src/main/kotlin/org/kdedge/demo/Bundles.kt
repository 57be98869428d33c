package org.kdedge.demo

import android.content.Context
import android.util.Log
import java.io.File
import java.net.URL
import org.kdedge.Bundle
import org.kdedge.BundleUpdates
import org.kdedge.Files

/** Where the app gets newer bundles from. */
class Source(val updates: BundleUpdates, val url: URL)

/**
 * What the app's developer has put into the assets: `updates/public.der`, the key that bundles are
 * signed with, and `updates/url.txt`, where the zip archive of the bundle is. Null without them.
 */
fun sourceOf(context: Context): Source? {
    if (context.assets.list("updates").isNullOrEmpty()) return null
    fun content(name: String) = context.assets.open("updates/$name").use { it.readBytes() }
    val folder = File(context.filesDir, "bundle")
    return Source(
        BundleUpdates(folder, shipped(context), content("public.der")),
        URL(content("url.txt").decodeToString().trim()),
    )
}

/** The bundle that was received last, or the one in the app's assets. */
fun currentBundle(context: Context): Bundle =
    sourceOf(context)?.updates?.current { Log.w("kdedge", "the received bundle is not used", it) }
        ?: Bundle.open(shipped(context))

private fun shipped(context: Context) = Files { context.assets.open("bundle/$it") }
