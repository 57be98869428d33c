// A bundle in the browser: text -> labels with probabilities, or a score, by LiteRT.js.

import { familiarityOf } from "./familiarity.js";
import { heldBy, labelsOf, pairTokens, scaled } from "./tasks.js";
import { wordTable } from "./words.js";

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

let loading;

// LiteRT.js, which can be loaded only once for a page.
async function runtime() {
  const litert = await import("@litertjs/core");
  loading ??= litert.loadLiteRt(new URL("runtime/", location).href);
  await loading;
  return litert;
}

/**
 * `run`, an async function (ids, segments) -> probabilities, or the score, and `longest`, the most ids
 * that it takes.
 *
 * The file has a signature for each length that texts are padded to; the shortest that holds a text
 * is run.
 */
async function loadNetwork(content, padId) {
  const { loadAndCompile, Tensor } = await runtime();
  const model = await loadAndCompile(content, { accelerator: "wasm" });
  const [{ dtype }] = model.getOutputDetails();
  if (dtype !== "float32") {
    throw new Error(`The model gives ${dtype}. Export it again without integer_output = true.`);
  }
  const signatures = Object.values(model.signatures)
    .map((signature) => ({ signature, inputs: signature.getInputDetails() }))
    .map((one) => ({ ...one, length: one.inputs[0].shape[1] }))
    .sort((a, b) => a.length - b.length);

  async function run(ids, segments) {
    const { signature, inputs, length } = signatures.find(({ length }) => length >= ids.length);
    const padded = (values, padding) => {
      const row = new Int32Array(length).fill(padding, values.length);
      row.set(values);
      return row;
    };
    const rows = {
      ids: padded(ids, padId),
      mask: new Int32Array(length).fill(1, 0, ids.length),
      segment_ids: padded(segments, 0),
    };
    const tensors = inputs.map(({ name }) => new Tensor(rows[name], [1, length]));
    const outputs = await signature.run(tensors);
    const values = [...outputs[0].toTypedArray()];
    for (const tensor of [...tensors, ...outputs]) tensor.delete();
    return values;
  }
  return { run, longest: signatures.at(-1).length };
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
  const { model, artifact: name, samples: has } = await (await load("models/index.json")).json();
  const file = (path) => load(`models/${encodeURIComponent(model)}/${path}`);
  const [manifest, config] = await Promise.all(
    ["manifest.json", "tokenizer_config.json"].map(async (path) => (await file(path)).json()),
  );
  const { task, labels, artifacts, pairs = false } = manifest;
  const artifact = artifacts.find((one) => one.name === name);
  const decision = artifact.trust?.decision;
  const isLimited = typeof decision?.min_familiarity === "number";
  const table = isLimited ? await (await file("familiarity.bin")).arrayBuffer() : null;
  const samples = has ? (await (await file("sample_texts.txt")).text()).trim().split("\n") : [];
  const content = new Uint8Array(await (await file(artifact.file)).arrayBuffer());
  // Only now: where the bundle is missing the runtime is as well, and the message must come first.
  const { Tokenizer } = await import("@huggingface/tokenizers");
  const tokenizer = new Tokenizer(await (await file("tokenizer.json")).json(), config);
  const { run, longest } = await loadNetwork(content, tokenizer.token_to_id(config.pad_token));
  const familiarity = table ? familiarityOf(table, tokenizer.get_vocab().size) : () => 0;
  // Manifests of version 1 have labels.
  const knownTask = task ?? { name: "classification", label_names: labels };
  const words = wordTable(tokenizer);
  const [cls, sep] = tokenizer.encode("").ids;
  const unknownId = tokenizer.token_to_id(config.unk_token);
  function tokensOf(text, pair) {
    if (pairs) return pairTokens(words(text), words(pair), cls, sep, longest);
    const ids = [cls, ...words(text).slice(0, longest - 2), sep];
    return { ids, segments: ids.map(() => 0) };
  }
  async function classify(text, pair) {
    check(text);
    if (pairs) check(pair ?? "");
    const { ids, segments } = tokensOf(text, pair);
    const raw = await run(ids, segments);
    const share = unknownShare(ids, unknownId, pairs ? 3 : 2);
    const { calibrated: outputs, labels: held, unsure } = decision
      ? decide(knownTask, decision, raw, share, familiarity(ids))
      : { calibrated: raw, labels: labelsOf(knownTask, raw), unsure: false };
    return outputs
      .map((score, i) => ({ label: knownTask.label_names?.[i] ?? "score", score }))
      .map((answer) => ({ ...answer, holds: held.includes(answer.label), unsure }))
      .sort((a, b) => b.score - a.score);
  }
  // The first run also prepares memory: not what a user should see as latency.
  await classify(...(samples[0]?.split("\t") ?? ["a", "a"]));
  return { classify, samples, task: knownTask, pairs };
}
