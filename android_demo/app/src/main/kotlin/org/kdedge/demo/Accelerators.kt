package org.kdedge.demo

import android.os.Process
import android.util.Log
import java.io.IOException
import java.lang.reflect.InvocationTargetException
import java.util.UUID
import org.kdedge.Engine
import org.tensorflow.lite.Delegate

/**
 * Where a LiteRT model runs. Delegates are found by their names, so that the app compiles and runs
 * without their libraries; docs/android.md says which those are.
 */
enum class Accelerator(private val className: String?) {
    CPU(null),
    GPU("org.tensorflow.lite.gpu.GpuDelegate"),
    /** Through Android's NNAPI, which also knows other accelerators. */
    NPU("org.tensorflow.lite.nnapi.NnApiDelegate");

    /** `cpu`, `gpu` or `npu`, as `kdedge bench` writes it. */
    val id = name.lowercase()

    /** Throws an exception or a LinkageError where its library is missing. */
    fun newDelegate(): Delegate? =
        className?.let { Class.forName(it).getDeclaredConstructor().newInstance() as Delegate }

    companion object {
        /** The CPU for null. */
        fun of(id: String?): Accelerator =
            if (id == null) CPU
            else
                requireNotNull(entries.find { it.id == id }) {
                    "accelerator is $id; ${entries.joinToString { it.id }} are allowed."
                }
    }
}

/** Where a model runs. */
class Placement(
    val asked: Accelerator,
    val used: Accelerator = asked,
    /** Of the model's operators that `used` took; null for the CPU, or if it is not known. */
    val share: Double? = null,
    /** Why the CPU is used and not what was asked for. */
    val reason: String? = null,
)

/** An engine that is loaded, and where it runs. */
class Loaded(val engine: Engine, val placement: Placement)

/** Loads a LiteRT model with an accelerator, or on the CPU where that fails. */
fun loadLiteRt(model: ByteArray, threads: Int, asked: Accelerator): Loaded {
    if (asked == Accelerator.CPU) return Loaded(LiteRtEngine(model, threads), Placement(asked))
    return withFallBack(
        asked,
        accelerated = {
            val log = LiteRtLog()
            val engine = LiteRtEngine(model, threads, asked.newDelegate())
            try {
                // Some delegates refuse a model only when it runs.
                engine.tryOut()
                val share = log.read()?.let(::shareTaken)
                check(share != 0.0) { "it takes none of the model's operators" }
                Loaded(engine, Placement(asked, share = share))
            } catch (e: RuntimeException) {
                engine.close()
                throw e
            }
        },
        onCpu = { LiteRtEngine(model, threads) },
    )
}

/** What `accelerated` loads; where it throws, what `onCpu` loads, and why. */
fun withFallBack(asked: Accelerator, accelerated: () -> Loaded, onCpu: () -> Engine): Loaded {
    val why =
        try {
            return accelerated()
        } catch (e: Exception) {
            e
        } catch (e: LinkageError) {
            e
        }
    Log.w("kdedge", "$asked is not used", why)
    return Loaded(onCpu(), Placement(asked, Accelerator.CPU, reason = reasonOf(why)))
}

private fun reasonOf(why: Throwable): String =
    when (why) {
        is InvocationTargetException -> reasonOf(why.targetException)
        is ClassNotFoundException,
        is LinkageError -> "its library is missing: ${why.message}"
        else -> why.message ?: "$why"
    }

/** The lines that LiteRT writes to this process's log from now on. */
private class LiteRtLog {
    // As important as LiteRT's lines: phones that leave out those leave out this one.
    private val mark = UUID.randomUUID().toString().also { Log.v("kdedge", it) }

    /** Null where the log can't be read. */
    fun read(): String? =
        try {
            val pid = Process.myPid().toString()
            val reader = ProcessBuilder("logcat", "-d", "-v", "brief", "--pid", pid).start()
            val all = reader.inputStream.use { it.readBytes() }.decodeToString()
            if (mark in all) all.substringAfter(mark) else null
        } catch (_: IOException) {
            null
        }
}

/**
 * The share of a model's operators that a delegate took, from what LiteRT logs, for instance
 * "Replacing 31 out of 62 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions".
 * XNNPACK is the CPU's.
 */
fun shareTaken(log: String): Double {
    val found = REPLACING.findAll(log).filter { it.groupValues[3] != "TfLiteXNNPackDelegate" }
    val counts = found.map { it.groupValues[1].toInt() to it.groupValues[2].toInt() }.toList()
    return if (counts.isEmpty()) 0.0
    else counts.sumOf { it.first }.toDouble() / counts.sumOf { it.second }
}

private val REPLACING = Regex("""Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\)""")
