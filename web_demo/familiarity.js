// How much a text is like the texts that a model was trained on.

/**
 * A function that gives the familiarity of a text's ids, [CLS] and [SEP] included.
 *
 * `content` is an ArrayBuffer with a bundle's familiarity.bin: an int8 for each token of the
 * vocabulary, in 1/16. `tokens` is the number of tokens.
 */
export function familiarityOf(content, tokens) {
  if (content.byteLength !== tokens) {
    throw new Error(
      `familiarity.bin is damaged: it has ${content.byteLength} bytes, which do not fit a ` +
        `vocabulary of ${tokens} tokens. Export the bundle again.`,
    );
  }
  const values = new Int8Array(content);
  return (ids) => {
    if (ids.length < 2) return 0;
    let total = 0;
    for (const id of ids.slice(1)) total += values[id];
    // Two typical tokens more, so that one odd word does not decide about a short text.
    return total / (16 * (ids.length + 1));
  };
}
