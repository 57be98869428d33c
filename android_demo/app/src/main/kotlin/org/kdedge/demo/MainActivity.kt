package org.kdedge.demo

import android.app.Activity
import android.content.Context
import android.os.Bundle as State
import android.os.Handler
import android.os.Looper
import android.text.Editable
import android.text.TextWatcher
import android.view.View
import android.view.ViewGroup
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.EditText
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TextView
import java.util.concurrent.Executors
import kotlin.math.roundToInt
import org.kdedge.Answer
import org.kdedge.Bundle
import org.kdedge.BundleException
import org.kdedge.TextClassifier
import org.kdedge.TextException

/** Type, and see the labels, how probable they are and how long that took. */
class MainActivity : Activity() {
    private val main = Handler(Looper.getMainLooper())

    // Models are loaded, asked and closed here, one thing after the other.
    private val worker = Executors.newSingleThreadExecutor()

    // Of the worker alone.
    private var classifier: TextClassifier? = null

    // The latest; the worker passes over older ones, and their answers are not shown.
    @Volatile private var question = 0
    private val askLater = Runnable(::ask)

    private var bundle: Bundle? = null
    private var artifact: String? = null
    private var accelerator = Accelerator.CPU

    private val update by lazy { findViewById(R.id.update) as Button }
    private val text by lazy { findViewById(R.id.text) as EditText }
    private val pair by lazy { findViewById(R.id.pair) as EditText }
    private val artifacts by lazy { findViewById(R.id.artifacts) as Spinner }
    private val accelerators by lazy { findViewById(R.id.accelerators) as Spinner }
    private val ofAccelerator by lazy { findViewById(R.id.of_accelerator) as View }
    private val placement by lazy { findViewById(R.id.placement) as TextView }
    private val message by lazy { findViewById(R.id.message) as TextView }
    private val bars by lazy { findViewById(R.id.bars) as ViewGroup }
    private val latency by lazy { findViewById(R.id.latency) as TextView }

    override fun onCreate(state: State?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        // The text is kept by its view; the spinner is still empty when the views' state comes
        // back.
        artifact = state?.getString(ARTIFACT)
        accelerator = Accelerator.of(state?.getString(ACCELERATOR))
        accelerators.adapter = choices(Accelerator.entries.map { it.name })
        accelerators.setSelection(accelerator.ordinal)
        for (one in listOf(text, pair)) one.addTextChangedListener(typing)
        inBackground {
            val loaded = currentBundle(this)
            val source = sourceOf(this);
            {
                showBundle(loaded)
                if (source != null) offer(source)
            }
        }
    }

    private val typing =
        object : TextWatcher {
            override fun beforeTextChanged(s: CharSequence?, start: Int, count: Int, after: Int) =
                Unit

            override fun onTextChanged(s: CharSequence?, start: Int, before: Int, count: Int) = Unit

            override fun afterTextChanged(s: Editable?) {
                main.removeCallbacks(askLater)
                main.postDelayed(askLater, DEBOUNCE_MS)
            }
        }

    override fun onSaveInstanceState(state: State) {
        super.onSaveInstanceState(state)
        state.putString(ARTIFACT, artifact)
        state.putString(ACCELERATOR, accelerator.id)
    }

    override fun onDestroy() {
        main.removeCallbacks(askLater)
        worker.execute { classifier?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun offer(source: Source) {
        update.visibility = View.VISIBLE
        update.setOnClickListener {
            val chosen = artifact
            inBackground {
                val received =
                    source.updates.install(source.url) { new ->
                        // What this phone cannot run is refused.
                        val model = new.artifacts.find { it.name == chosen } ?: new.artifact()
                        TextClassifier(new, loadEngine(new, model).engine).use {
                            it.classify("a text", "another".takeIf { new.pairs })
                        }
                    };
                { showBundle(received) }
            }
        }
    }

    private fun showBundle(loaded: Bundle) {
        bundle = loaded
        pair.visibility = if (loaded.pairs) View.VISIBLE else View.GONE
        bars.removeAllViews()
        for (label in loaded.task.labels) {
            val bar = layoutInflater.inflate(R.layout.bar, bars, false)
            (bar.findViewById(R.id.label) as TextView).text = label
            bars.addView(bar)
        }
        val names = loaded.artifacts.map { it.name }
        artifacts.adapter = choices(names)
        artifacts.setSelection(names.indexOf(artifact ?: loaded.artifact().name).coerceAtLeast(0))
        // None is loaded yet.
        artifact = null
        artifacts.onItemSelectedListener = choosing
        accelerators.onItemSelectedListener = choosing
    }

    private fun choices(names: List<String>) =
        ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, names)

    private val choosing =
        object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(
                parent: AdapterView<*>?,
                view: View?,
                position: Int,
                id: Long,
            ) =
                load(
                    artifacts.selectedItem as String,
                    Accelerator.entries[accelerators.selectedItemPosition],
                )

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }

    private fun load(name: String, on: Accelerator) {
        val bundle = bundle ?: return
        // A spinner may tell of one choice twice.
        if (name == artifact && on == accelerator) return
        artifact = name
        accelerator = on
        val model = bundle.artifact(name)
        val litert = model.format == "litert"
        ofAccelerator.visibility = if (litert) View.VISIBLE else View.GONE
        placement.text = ""
        inBackground {
            classifier?.close()
            classifier = null
            val asked = if (litert) on else Accelerator.CPU
            val loaded = loadEngine(bundle, model, accelerator = asked)
            classifier = TextClassifier(bundle, loaded.engine, model.decision);
            {
                placement.text = loaded.placement.describe(this)
                ask()
            }
        }
    }

    private fun ask() {
        val number = ++question
        val asked = text.text.toString()
        val second = pair.text.toString().takeIf { bundle?.pairs == true }
        inBackground {
            val answer = if (number == question) classifier?.classify(asked, second) else null;
            { if (answer != null && number == question) show(answer) }
        }
    }

    /** Does `work` on the worker, and then on the main thread what `work` returns. */
    private fun inBackground(work: () -> () -> Unit) {
        worker.execute {
            val done =
                try {
                    work()
                } catch (e: BundleException) {
                    { showMessage(e.message) }
                } catch (e: TextException) {
                    { showMessage(e.message) }
                }
            main.post { if (!isDestroyed) done() }
        }
    }

    private fun show(answer: Answer) {
        showMessage(if (answer.unsure) getString(R.string.unsure) else answer.text)
        bars.visibility = View.VISIBLE
        answer.probabilities.entries.forEachIndexed { i, (label, probability) ->
            val percent = (100 * probability).roundToInt()
            val bar = bars.getChildAt(i)
            bar.contentDescription = getString(R.string.bar, label, percent)
            (bar.findViewById(R.id.bar) as ProgressBar).run {
                progress = percent
                alpha = if (answer.unsure) UNSURE_ALPHA else 1f
            }
            (bar.findViewById(R.id.percent) as TextView).text = getString(R.string.percent, percent)
        }
        latency.text =
            getString(R.string.latency, answer.tokenizeNanos / 1e6, answer.inferNanos / 1e6)
    }

    private fun showMessage(line: String?) {
        message.text = line
        bars.visibility = View.INVISIBLE
        latency.text = ""
    }

    private companion object {
        const val ARTIFACT = "artifact"
        const val ACCELERATOR = "accelerator"
        const val DEBOUNCE_MS = 150L
        const val UNSURE_ALPHA = 0.3f
    }
}

/** Where a model runs, unless that is the CPU because it was chosen. */
fun Placement.describe(context: Context): String =
    when {
        used != asked -> context.getString(R.string.fell_back, asked.name, reason)
        asked == Accelerator.CPU -> ""
        share == null -> context.getString(R.string.share_unknown, used.name)
        else -> context.getString(R.string.runs_on, used.name, (100 * share).roundToInt())
    }
