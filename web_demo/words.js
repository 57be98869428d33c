// Token ids of texts, from a table of the words that were split before.

// The most words in the table. Longer words are rare, and are split each time.
const MAX_WORDS = 32_768;
const MAX_CHARACTERS = 32;
// A punctuation mark of ASCII, or a run of characters without these and without white space of ASCII.
const PARTS = /[!-/:-@[-`{-~]|[^!-/:-@[-`{-~\t\n\r]+/g;
// Of these the normalizer changes the case only.
const PLAIN = /^(?:[A-Za-z0-9]+|[!-/:-@[-`{-~])$/;

/**
 * A function text -> ids of its word pieces, without special tokens.
 *
 * They are those of `tokenizer`, a BERT's in Hugging Face's tokenizers for JavaScript, but several times
 * as fast, because most words are in the table already. BERT splits each word alone, and a word ends at a space and
 * before and after each punctuation mark of ASCII. So a text can be cut there, and each part split alone.
 * Added tokens, such as [SEP], are searched for in the whole text: texts with one are left to `tokenizer`.
 */
export function wordTable(tokenizer) {
  const vocabulary = tokenizer.get_vocab();
  const { normalizer, model } = tokenizer;
  const added = [...tokenizer.get_added_tokens_decoder().values()];
  const known = new Map();

  const encode = (text) => tokenizer.encode(text, { add_special_tokens: false }).ids;

  // WordPiece: the longest piece that starts the word, then the same for the rest of it. Undefined if
  // there is none.
  function pieces(word) {
    const ids = [];
    let prefix = "";
    let start = 0;
    while (start < word.length) {
      let end = word.length;
      while (end > start && !vocabulary.has(prefix + word.slice(start, end))) end--;
      if (end === start) return undefined;
      ids.push(vocabulary.get(prefix + word.slice(start, end)));
      prefix = model.config.continuing_subword_prefix;
      start = end;
    }
    return ids;
  }

  function split(word) {
    if (PLAIN.test(word) && word.length <= MAX_CHARACTERS) {
      const ids = pieces(normalizer.config.lowercase ? word.toLowerCase() : word);
      if (ids) return ids;
    }
    const parts = word.match(PARTS) ?? [];
    return parts.length > 1 ? parts.flatMap(idsOf) : encode(word);
  }

  function idsOf(word) {
    let ids = known.get(word);
    if (ids === undefined) {
      ids = split(word);
      if (known.size >= MAX_WORDS) known.clear();
      if (word.length <= MAX_CHARACTERS) known.set(word, ids);
    }
    return ids;
  }

  return (text) =>
    added.some(({ content }) => text.includes(content)) ? encode(text) : text.split(" ").flatMap(idsOf);
}
