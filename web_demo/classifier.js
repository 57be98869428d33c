// A bundle in the browser: text -> labels with probabilities, or a score, by transformers.js.

import { familiarityOf } from "./familiarity.js";
import { heldBy, labelsOf, outputsOf, pairTokens, scaled } from "./tasks.js";
import { wordTable } from "./words.js";

const MAX_CHARACTERS = 100_000;
// transformers.js names a bundle's artifacts so.
const ARTIFACTS = { q8: "onnx-int8", fp32: "onnx-float32" };
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

/**
 * Probabilities to show, the labels of the answer, and whether it is unsure.
 *
 * `task` and `decision` are those of manifest.json, where each artifact has a decision; `outputs` are
 * the model's probabilities, or the score, and `unknown` is the share of the text's tokens that are
 * [UNK]. `familiarity` counts only if the decision has a `min_familiarity`.
 */
export function decide(task, decision, outputs, unknown, familiarity) {
  const calibrated = scaled(task, outputs, decision.temperature);
  const { thresholds } = decision;
  const held = heldBy(task, outputs);
  const sure = held.filter((i) => calibrated[i] >= (thresholds[thresholds.length > 1 ? i : 0] ?? 0));
  // Unsure labels are left out, except if that leaves none.
  const labels = (sure.length ? sure : held).map((i) => task.label_names[i]);
  const unsure =
    unknown > decision.max_unknown ||
    familiarity < (decision.min_familiarity ?? -Infinity) ||
    sure.length < Math.min(held.length, 1);
  return { calibrated, labels, unsure };
}

// Of the ids without the special ones.
function unknownShare(ids, unknownId, special) {
  const tokens = ids.length - special;
  return tokens ? ids.filter((id) => id === unknownId).length / tokens : 1;
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
 * Gives `task` and `pairs` of the manifest, `samples`, texts of the kind that the model knows if the
 * bundle has some (of pairs with a tab between), and `classify`, an async function:
 * text -> [{label, score, holds, unsure}], the most probable first; with `pairs` it takes two texts.
 * `holds` says whether it is the text's label: of the first one, or of those above their thresholds.
 * `unsure`, the same in all, says whether the model is too unsure of the answer for it to be shown.
 * Where the task is a score, there is one, with the label "score". It throws an Error whose message
 * can be shown for a text that is
 * blank, longer than 100,000 characters or not well formed.
 */
export async function loadClassifier() {
  const { model, dtype, samples: has } = await (await load("models/index.json")).json();
  const file = (name) => load(`models/${model}/${name}`);
  const manifest = await (await file("manifest.json")).json();
  const { task, labels, artifacts, pairs = false } = manifest;
  const decision = artifacts.find(({ name }) => name === ARTIFACTS[dtype]).trust?.decision;
  const isLimited = typeof decision?.min_familiarity === "number";
  const table = isLimited ? await (await file("familiarity.bin")).arrayBuffer() : null;
  const samples = has ? (await (await file("sample_texts.txt")).text()).trim().split("\n") : [];
  // Only now: where the bundle is missing the runtime is as well, and the message must come first.
  const { env, pipeline, Tensor } = await import("@huggingface/transformers");
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = "models/";
  // A bundle that was made anew must not be hidden by the old one.
  env.useBrowserCache = false;
  env.backends.onnx.wasm.wasmPaths = new URL("runtime/", location).href;
  const loaded = await pipeline("text-classification", model, { dtype, device: "wasm" });
  // Not by the pipeline itself: it makes 1 of every score, knows no thresholds, and cuts a long text
  // by dropping its end, [SEP] included; the model needs it there. Of two texts it cuts the second only.
  const { tokenizer, model: network } = loaded;
  const familiarity = table ? familiarityOf(table, tokenizer.get_vocab().size) : () => 0;
  // Manifests of version 1 have labels.
  const says = task ?? { name: "classification", label_names: labels };
  const words = wordTable(tokenizer);
  const [cls, sep] = tokenizer.encode("");
  const most = tokenizer.model_max_length;
  const tensor = (row) => new Tensor("int64", BigInt64Array.from(row, BigInt), [1, row.length]);
  function tokensOf(text, pair) {
    if (pairs) return pairTokens(words(text), words(pair), cls, sep, most);
    const ids = [cls, ...words(text).slice(0, most - 2), sep];
    return { ids, segments: ids.map(() => 0) };
  }
  async function classify(text, pair) {
    check(text);
    if (pairs) check(pair ?? "");
    const { ids, segments } = tokensOf(text, pair);
    const { logits } = await network({
      input_ids: tensor(ids),
      attention_mask: tensor(ids.map(() => 1)),
      token_type_ids: tensor(segments),
    });
    const raw = outputsOf(says, [...logits.data]);
    const special = pairs ? 3 : 2;
    const share = unknownShare(ids, tokenizer.unk_token_id, special);
    const { calibrated: outputs, labels: held, unsure } = decision
      ? decide(says, decision, raw, share, familiarity(ids))
      : { calibrated: raw, labels: labelsOf(says, raw), unsure: false };
    return outputs
      .map((score, i) => ({ label: says.label_names?.[i] ?? "score", score }))
      .map((answer) => ({ ...answer, holds: held.includes(answer.label), unsure }))
      .sort((a, b) => b.score - a.score);
  }
  // The first run also prepares memory: not what a user should see as latency.
  await classify(...(samples[0]?.split("\t") ?? ["a", "a"]));
  return { classify, samples, task: says, pairs };
}
