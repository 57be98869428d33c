const [text, example, labels, status] = ["text", "example", "labels", "status"].map((id) =>
  document.getElementById(id),
);

function say(message, isError = false) {
  status.textContent = message;
  status.classList.toggle("error", isError);
}

async function load(path) {
  const response = await fetch(path);
  if (!response.ok) {
    throw new Error(
      `There is no bundle here: ${path} is missing. ` +
        "Make this folder with: python -m converters.to_web BUNDLE --out SITE",
    );
  }
  return response;
}

function row({ label, score }) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  const percent = document.createElement("span");
  const bar = document.createElement("meter");
  name.textContent = label;
  percent.textContent = `${(100 * score).toFixed(1)}%`;
  bar.value = score;
  // The number beside it says the same.
  bar.ariaHidden = "true";
  item.append(name, percent, bar);
  return item;
}

async function start() {
  say("Loading the model…");
  const { model, dtype } = await (await load("models/index.json")).json();
  const samples = (await (await load(`models/${model}/sample_texts.txt`)).text()).trim().split("\n");
  // Only now: where the bundle is missing the runtime is as well, and the message must come first.
  const { env, pipeline } = await import("@huggingface/transformers");
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = "models/";
  // A bundle that was made anew must not be hidden by the old one.
  env.useBrowserCache = false;
  env.backends.onnx.wasm.wasmPaths = new URL("runtime/", location).href;
  const classifier = await pipeline("text-classification", model, { dtype, device: "wasm" });
  // transformers.js cuts a long text by dropping its end, [SEP] included; the model needs it there.
  const { tokenizer } = classifier;
  classifier.tokenizer = (...inputs) => {
    const encoded = tokenizer(...inputs);
    encoded.input_ids.data[encoded.input_ids.data.length - 1] = BigInt(tokenizer.sep_token_id);
    return encoded;
  };
  // The first run also prepares memory: not what a user should see as latency.
  await classifier(samples[0]);

  async function classify() {
    const typed = text.value;
    if (!typed.trim()) {
      labels.replaceChildren();
      say("Ready.");
      return;
    }
    const begun = performance.now();
    const scores = await classifier(typed, { top_k: 10 });
    const took = performance.now() - begun;
    if (typed !== text.value) return;
    labels.replaceChildren(...scores.map(row));
    say(`${scores[0].label}, in ${took.toFixed(1)} ms`);
  }

  let timer;
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(classify, 150);
  });
  example.addEventListener("click", () => {
    text.value = samples[Math.floor(Math.random() * samples.length)];
    classify();
  });
  text.disabled = example.disabled = false;
  text.focus();
  classify();
}

start().catch((error) => say(error.message, true));
