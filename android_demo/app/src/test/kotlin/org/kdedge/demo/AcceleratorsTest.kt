package org.kdedge.demo

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.kdedge.Engine
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config

/** On the JVM there are neither the GPU's classes nor NNAPI's native library: it must fall back. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [24, 35])
class AcceleratorsTest {
    private val onCpu =
        object : Engine {
            override val length = 1
            override val givesLogits = false

            override fun run(ids: IntArray, mask: IntArray, segments: IntArray) = FloatArray(1)

            override fun close() = Unit
        }

    @Test
    fun `falls back to the CPU and says why`() {
        val gpu = fallen(Accelerator.GPU) { Accelerator.GPU.newDelegate() }
        assertEquals(Accelerator.GPU, gpu.asked)
        assertEquals(Accelerator.CPU, gpu.used)
        assertNull(gpu.share)
        assertEquals("its library is missing: org.tensorflow.lite.gpu.GpuDelegate", gpu.reason)

        // Its class is there, and has the constructor that the app calls.
        val npu = fallen(Accelerator.NPU) { Accelerator.NPU.newDelegate() }
        assertEquals(Accelerator.CPU, npu.used)
        assertTrue(npu.reason, "tensorflowlite_jni" in npu.reason!!)

        val refused = fallen(Accelerator.GPU) { throw IllegalArgumentException("Internal error") }
        assertEquals("Internal error", refused.reason)
    }

    private fun fallen(asked: Accelerator, fail: () -> Unit): Placement {
        val accelerated = {
            fail()
            Loaded(onCpu, Placement(asked))
        }
        val loaded = withFallBack(asked, accelerated) { onCpu }
        assertEquals(onCpu, loaded.engine)
        return loaded.placement
    }

    @Test
    fun `keeps what works`() {
        val loaded = Loaded(onCpu, Placement(Accelerator.GPU, share = 0.5))
        assertEquals(loaded, withFallBack(Accelerator.GPU, { loaded }) { error("not needed") })
    }

    @Test
    fun `counts the operators that a delegate took`() {
        val gpu = "I/tflite (71): Replacing 31 out of 40 node(s) with delegate " +
            "(TfLiteGpuDelegateV2) node, yielding 3 partitions for the whole graph.\n"
        // What is left, in fewer parts, goes to the CPU's delegate.
        val cpu = "V/tflite (71): Replacing 8 out of 12 node(s) with delegate " +
            "(TfLiteXNNPackDelegate) node, yielding 5 partitions for the whole graph.\n"
        assertEquals(0.775, shareTaken(gpu + cpu), 1e-9)
        val other = "I/tflite (71): Replacing 10 out of 60 node(s) with delegate " +
            "(TfLiteGpuDelegateV2) node, yielding 3 partitions for subgraph 1.\n"
        assertEquals(0.41, shareTaken(gpu + other + cpu), 1e-9)
        assertEquals(0.0, shareTaken(cpu), 0.0)
    }

    @Test
    fun `tells where a model runs`() {
        val context = RuntimeEnvironment.getApplication()
        fun told(placement: Placement) = placement.describe(context)
        val (cpu, gpu, npu) = Accelerator.entries
        assertEquals("", told(Placement(cpu)))
        assertEquals("GPU, which takes 78% of the operators", told(Placement(gpu, share = 0.775)))
        assertTrue("is not known" in told(Placement(npu)))
        assertEquals("CPU, not NPU: so it is", told(Placement(npu, cpu, reason = "so it is")))
    }

    @Test
    fun `knows three`() {
        assertEquals(Accelerator.CPU, Accelerator.of(null))
        assertEquals(Accelerator.NPU, Accelerator.of("npu"))
        val error =
            assertThrows(IllegalArgumentException::class.java) { Accelerator.of("tpu") }
        assertEquals("accelerator is tpu; cpu, gpu, npu are allowed.", error.message)
    }
}
