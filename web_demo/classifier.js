// A bundle in the browser: text -> labels with probabilities, by transformers.js.

const MAX_CHARACTERS = 100_000;
// As Python sees it.
const BLANK = /^[\p{White_Space}\x1c-\x1f]*$/u;

function check(text) {
  if (BLANK.test(text)) throw new Error("The text is empty.");
  // An emoji is one character, and two in `length`.
  const characters = text.length > MAX_CHARACTERS ? [...text].length : text.length;
  if (characters > MAX_CHARACTERS) {
    throw new Error(
      `The text has ${characters.toLocaleString("en")} characters; ` +
        `at most ${MAX_CHARACTERS.toLocaleString("en")} are allowed.`,
    );
  }
  if (/\p{Surrogate}/u.test(text)) throw new Error("The text has half a surrogate pair.");
}

async function load(path) {
  const response = await fetch(path);
  if (!response.ok) {
    throw new Error(
      `There is no bundle here: ${path} is missing. ` +
        "Make this folder with: kdedge package web BUNDLE --out SITE",
    );
  }
  return response;
}

/**
 * Loads the bundle that `kdedge package web` put beside this file.
 *
 * Gives `samples`, texts of the kind that the model knows if the bundle has some, and `classify`, an async function:
 * text -> [{label, score}], the most probable first. It throws an Error whose message
 * can be shown for a text that is blank, longer than 100,000 characters or not well formed.
 */
export async function loadClassifier() {
  const { model, dtype, samples: has } = await (await load("models/index.json")).json();
  const path = `models/${model}/sample_texts.txt`;
  const samples = has ? (await (await load(path)).text()).trim().split("\n") : [];
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
  async function classify(text) {
    check(text);
    return classifier(text, { top_k: null });
  }
  // The first run also prepares memory: not what a user should see as latency.
  await classify(samples[0] ?? "a");
  return { classify, samples };
}
