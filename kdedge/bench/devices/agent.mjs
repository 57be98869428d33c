// What runs in the browser: the same job and the same answer as agent.py, with these differences.
// The model is at /model, `inputs` are the arrays themselves, `runtime` is the package's key, and
// there is no peak memory, which a page can't see.

const NAMES = ["ids", "mask", "segment_ids"];
const ONNX_NAMES = { input_ids: "ids", attention_mask: "mask", token_type_ids: "segment_ids" };
const nanoseconds = (milliseconds) => Math.round(milliseconds * 1e6);

export function describe() {
  return {
    "clock resolution, µs": clockResolution(),
    "cross-origin isolated": crossOriginIsolated ? "yes" : "no",
  };
}

// The smallest step that performance.now() makes, in microseconds.
function clockResolution() {
  let smallest = Infinity;
  for (let i = 0; i < 200; i++) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    smallest = Math.min(smallest, now - start);
  }
  return Math.round(smallest * 1e4) / 10;
}

export async function answer(job) {
  try {
    return await measure(job);
  } catch (error) {
    return { error: String(error) };
  }
}

async function measure(job) {
  const bytes = new Uint8Array(await (await fetch("/model")).arrayBuffer());
  const { infer, load, runtime } = await { litert, onnx }[job.format](bytes, job);
  const count = job.inputs.ids.length;
  const [first] = await time(infer, count, 1, 0);
  await time(infer, count, job.warmup_count, job.warmup_seconds);
  const samples = await time(infer, count, job.min_count, job.min_seconds);
  return {
    load_ns: nanoseconds(load),
    first_inference_ns: nanoseconds(first),
    samples_ns: samples.map(nanoseconds),
    peak_rss_bytes: null,
    runtime,
  };
}

// Milliseconds of each inference, going round the texts until count and duration are reached.
async function time(infer, texts, minCount, minSeconds) {
  const samples = [];
  const end = performance.now() + 1000 * minSeconds;
  while (samples.length < minCount || performance.now() < end) {
    const text = samples.length % texts;
    const start = performance.now();
    await infer(text);
    samples.push(performance.now() - start);
  }
  return samples;
}

async function onnx(bytes, job) {
  const { env, InferenceSession, Tensor } = await import("onnxruntime-web");
  env.wasm.numThreads = job.threads;
  env.logLevel = "error";
  // Its first session starts its WebAssembly as well, and it has no way to do that before.
  const start = performance.now();
  const session = await InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const load = performance.now() - start;
  const rows = job.inputs.ids.map((_, text) =>
    Object.fromEntries(
      session.inputNames.map((name) => {
        const values = job.inputs[ONNX_NAMES[name]][text];
        return [name, new Tensor("int64", values.map(BigInt), [1, values.length])];
      }),
    ),
  );
  const infer = (text) => session.run(rows[text]);
  return { infer, load, runtime: "ONNX Runtime Web" };
}

async function litert(bytes, job) {
  const { loadLiteRt, loadAndCompile, Tensor } = await import("@litertjs/core");
  await loadLiteRt("/node_modules/@litertjs/core/wasm/", { threads: job.threads > 1 });
  const start = performance.now();
  const model = await loadAndCompile(bytes, {
    accelerator: "wasm",
    cpuOptions: { numThreads: job.threads },
  });
  const load = performance.now() - start;
  const rows = job.inputs.ids.map((_, text) =>
    NAMES.map((name) => [name, Int32Array.from(job.inputs[name][text])]),
  );
  // Making and freeing tensors is timed as well: no app can do without.
  const infer = async (text) => {
    const inputs = Object.fromEntries(
      rows[text].map(([name, values]) => [name, new Tensor(values, [1, values.length])]),
    );
    const outputs = Object.values(await model.run(inputs));
    for (const output of outputs) output.toTypedArray();
    for (const tensor of [...Object.values(inputs), ...outputs]) tensor.delete();
  };
  return { infer, load, runtime: "LiteRT.js" };
}
