// What goes into a model for two texts, and what its numbers say, by the task of a bundle's manifest.

const SMALLEST = 1e-7;

const TASKS = {
  classification: {
    held: (task, outputs) => [outputs.indexOf(Math.max(...outputs))],
    scaled(outputs, temperature) {
      const powers = outputs.map((p) => Math.max(p, SMALLEST) ** (1 / temperature));
      const sum = powers.reduce((a, b) => a + b);
      return powers.map((power) => power / sum);
    },
  },
  "multi-label": {
    held(task, outputs) {
      // Without thresholds it is 0.5 for each.
      const above = outputs.flatMap((output, i) => (output > (task.thresholds[i] ?? 0.5) ? [i] : []));
      return above.sort((i, j) => outputs[j] - outputs[i]);
    },
    scaled: (outputs, temperature) =>
      outputs
        .map((p) => Math.min(Math.max(p, SMALLEST), 1 - SMALLEST))
        .map((p) => 1 / (1 + ((1 - p) / p) ** (1 / temperature))),
  },
  regression: {
    held: () => [],
    scaled: (outputs) => outputs,
  },
};

function rulesOf(task) {
  if (!(task.name in TASKS)) {
    throw new Error(
      `The task ${task.name} is not supported; supported: ${Object.keys(TASKS).join(", ")}. ` +
        "Make the page again with a newer kdedge: kdedge package web.",
    );
  }
  return TASKS[task.name];
}

/** The places of the labels that hold, the most probable first: one, any number, none for scores. */
export function heldBy(task, outputs) {
  return rulesOf(task).held(task, outputs);
}

/** The labels that hold, the most probable first. */
export function labelsOf(task, outputs) {
  return heldBy(task, outputs).map((i) => task.label_names[i]);
}

/** The probabilities of the logits divided by a temperature; scores stay as they are. */
export function scaled(task, outputs, temperature) {
  return rulesOf(task).scaled(outputs, temperature);
}

/**
 * [CLS] text [SEP] pair [SEP], at most `most` ids, with the segment of each, of the ids of two texts
 * without special tokens. The longer text is truncated first, then both alike.
 */
export function pairTokens(first, second, cls, sep, most) {
  const limit = most - 3;
  let shorter = Math.min(first.length, second.length);
  let longer = Math.max(shorter, limit - shorter);
  if (shorter + longer > limit) {
    shorter = Math.floor(limit / 2);
    longer = limit - shorter;
  }
  const [room, roomOfPair] =
    first.length <= second.length ? [shorter, longer] : [longer, shorter];
  const start = [cls, ...first.slice(0, room), sep];
  const end = [...second.slice(0, roomOfPair), sep];
  return { ids: [...start, ...end], segments: [...start.map(() => 0), ...end.map(() => 1)] };
}
