// Measures one model in a page. Requests and answers are those of agent.py, with these differences:
// the model is at /model, `inputs` are the arrays themselves, `runtime` is the package's key, the
// kinds are "time" and "outputs", and peak memory and energy are missing, which a page can't see.

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

export async function answer(request) {
  const bytes = new Uint8Array(await (await fetch("/model")).arrayBuffer());
  const { feeds, infer, load, runtime } = await { litert, onnx }[request.format](bytes, request);
  if (request.kind === "outputs") {
    const outputs = [];
    for (const feed of feeds) outputs.push(Array.from(await infer(feed), Number));
    return { outputs, runtime };
  }
  const [first] = await time(infer, feeds, 1, 0);
  await time(infer, feeds, request.warmup_count, request.warmup_seconds);
  const samples = await time(infer, feeds, request.min_count, request.min_seconds);
  return {
    load_ns: nanoseconds(load),
    first_inference_ns: nanoseconds(first),
    samples_ns: samples.map(nanoseconds),
    peak_rss_bytes: null,
    joules: null,
    runtime,
  };
}

// Milliseconds of each inference; cycles through the feeds until count and time are reached.
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

// Indices of the texts of each inference, in full batches.
function batches(request) {
  const count = Math.floor(request.inputs.ids.length / request.batch);
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: request.batch }, (_, j) => i * request.batch + j),
  );
}

async function onnx(bytes, request) {
  const { env, InferenceSession, Tensor } = await import("onnxruntime-web");
  env.wasm.numThreads = request.threads;
  env.logLevel = "error";
  // Includes starting WebAssembly: ONNX Runtime Web can't do that before the first session.
  const start = performance.now();
  const session = await InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const load = performance.now() - start;
  const feeds = batches(request).map((texts) =>
    Object.fromEntries(
      session.inputNames.map((name) => {
        const rows = texts.map((text) => request.inputs[ONNX_NAMES[name]][text]);
        const shape = [rows.length, rows[0].length];
        return [name, new Tensor("int64", rows.flat().map(BigInt), shape)];
      }),
    ),
  );
  const infer = async (feed) => (await session.run(feed))[session.outputNames[0]].data;
  return { feeds, infer, load, runtime: "ONNX Runtime Web" };
}

async function litert(bytes, request) {
  const { loadLiteRt, loadAndCompile, Tensor } = await import("@litertjs/core");
  await loadLiteRt("/node_modules/@litertjs/core/wasm/", { threads: request.threads > 1 });
  const start = performance.now();
  const model = await loadAndCompile(bytes, {
    accelerator: "wasm",
    cpuOptions: { numThreads: request.threads },
  });
  const load = performance.now() - start;
  // A file for several lengths has a signature for each.
  const { length } = request.inputs.ids[0];
  const signature = Object.values(model.signatures).find(
    (one) => one.getInputDetails()[0].shape[1] === length,
  );
  const names = signature.getInputDetails().map(({ name }) => name);
  const feeds = request.inputs.ids.map((_, text) =>
    names.map((name) => Int32Array.from(request.inputs[name][text])),
  );
  // Includes creating and freeing tensors, which every app must do.
  const infer = async (feed) => {
    const inputs = feed.map((values) => new Tensor(values, [1, length]));
    const outputs = await signature.run(inputs);
    const values = outputs[0].toTypedArray();
    for (const tensor of [...inputs, ...outputs]) tensor.delete();
    return values;
  };
  return { feeds, infer, load, runtime: "LiteRT.js" };
}
