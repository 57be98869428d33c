// How much a text is like the texts that a model was trained on.

/**
 * A function that gives the familiarity of a text's ids, [CLS] and [SEP] included.
 *
 * `content` is an ArrayBuffer with a bundle's familiarity.bin: an int8 for each token of the
 * vocabulary, then a bit for each pair of neighbouring tokens. `tokens` is the number of tokens.
 */
export function familiarityOf(content, tokens) {
  const bytes = content.byteLength - tokens;
  // A power of two.
  if (bytes < 128 || (bytes & (bytes - 1)) !== 0) {
    throw new Error(
      `familiarity.bin is damaged: it has ${content.byteLength} bytes, which do not fit a ` +
        `vocabulary of ${tokens} tokens. Export the bundle again.`,
    );
  }
  const values = new Int8Array(content, 0, tokens);
  const pairs = new Uint8Array(content, tokens);
  return (ids) => {
    if (ids.length < 2) return 0;
    let total = 0;
    for (let i = 1; i < ids.length; i++) {
      const bit = (ids[i - 1] * 31337 + ids[i] * 7919) % (8 * bytes);
      total += values[ids[i]] + 32 * ((pairs[bit >> 3] >> (bit & 7)) & 1);
    }
    // Two typical tokens more, so that one odd word does not decide about a short text.
    return total / (16 * (ids.length + 1));
  };
}
