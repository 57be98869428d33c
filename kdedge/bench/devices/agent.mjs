// What runs in the browser: the same job and the same answer as agent.py, with these differences.
// The model is at /model, `inputs` are the arrays themselves, `runtime` is the package's key, and
// the kinds are "time" and "outputs", and there is no peak memory and no energy, which a page can't
// see.

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
  const bytes = new Uint8Array(await (await fetch("/model")).arrayBuffer());
  const { feeds, infer, load, runtime } = await { litert, onnx }[job.format](bytes, job);
  if (job.kind === "outputs") {
    const outputs = [];
    for (const feed of feeds) outputs.push(Array.from(await infer(feed), Number));
    return { outputs, runtime };
  }
  const [first] = await time(infer, feeds, 1, 0);
  await time(infer, feeds, job.warmup_count, job.warmup_seconds);
  const samples = await time(infer, feeds, job.min_count, job.min_seconds);
  return {
    load_ns: nanoseconds(load),
    first_inference_ns: nanoseconds(first),
    samples_ns: samples.map(nanoseconds),
    peak_rss_bytes: null,
    joules: null,
    runtime,
  };
}

// Milliseconds of each inference, going round the feeds until count and duration are reached.
async function time(infer, feeds, minCount, minSeconds) {
  const samples = [];
  const end = performance.now() + 1000 * minSeconds;
  while (samples.length < minCount || performance.now() < end) {
    const feed = feeds[samples.length % feeds.length];
    const start = performance.now();
    await infer(feed);
    samples.push(performance.now() - start);
  }
  return samples;
}

// Numbers of the texts of each inference; all batches are full.
function batches(job) {
  const count = Math.floor(job.inputs.ids.length / job.batch);
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: job.batch }, (_, j) => i * job.batch + j),
  );
}

async function onnx(bytes, job) {
  const { env, InferenceSession, Tensor } = await import("onnxruntime-web");
  env.wasm.numThreads = job.threads;
  env.logLevel = "error";
  // Its first session starts its WebAssembly as well, and it has no way to do that before.
  const start = performance.now();
  const session = await InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const load = performance.now() - start;
  const feeds = batches(job).map((texts) =>
    Object.fromEntries(
      session.inputNames.map((name) => {
        const rows = texts.map((text) => job.inputs[ONNX_NAMES[name]][text]);
        const shape = [rows.length, rows[0].length];
        return [name, new Tensor("int64", rows.flat().map(BigInt), shape)];
      }),
    ),
  );
  const infer = async (feed) => (await session.run(feed))[session.outputNames[0]].data;
  return { feeds, infer, load, runtime: "ONNX Runtime Web" };
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
  const feeds = job.inputs.ids.map((_, text) =>
    NAMES.map((name) => [name, Int32Array.from(job.inputs[name][text])]),
  );
  // Making and freeing tensors is timed as well: no app can do without.
  const infer = async (feed) => {
    const inputs = Object.fromEntries(
      feed.map(([name, values]) => [name, new Tensor(values, [1, values.length])]),
    );
    const outputs = Object.values(await model.run(inputs));
    const said = outputs[0].toTypedArray();
    for (const tensor of [...Object.values(inputs), ...outputs]) tensor.delete();
    return said;
  };
  return { feeds, infer, load, runtime: "LiteRT.js" };
}
