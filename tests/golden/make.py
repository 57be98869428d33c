"""Makes tokenizer.json: texts and the ids that Hugging Face's slow BertTokenizer gives them.

python tests/golden/make.py runs/movie_reviews/teacher/vocab.txt

The slow one is plain Python that shares no code with the tokenizers library, which kdedge uses.
"""

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
MAX_LENGTH = 64

# Name -> text. What cannot be seen is written as an escape.
TEXTS = {
    # English
    "a sentence": "a moving, funny film",
    "a word": "film",
    "a letter": "a",
    "a review": "Marinated in clichés and mawkish dialogue.",
    "capitals": "THE BEST FILM OF THE YEAR",
    "mixed case": "tHe bEsT fIlM",
    "an apostrophe": "It's what it's, isn't it? Don't!",
    "a hyphen": "a well-made, feel-good, paint-by-numbers rom-com",
    "word pieces": "unbelievably tokenizable honorificabilitudinitatibus",
    "a rare name": "Kieslowski, Tarkovsky and Apichatpong Weerasethakul",
    "digits": "1234567890",
    "a number": "12,345.67",
    "a year and an hour": "In 1999 at 10:30, 3.5 out of 5",
    "letters and digits": "mp3 b2b 4k 2nd x86 c3po",
    "an address": "https://example.org/a_b?c=d&e=f#g",
    "an e-mail address": "someone.else+tag@example.org",
    "a hashtag and a handle": "#film @someone",
    "mark-up": "<b>bold</b> &amp; <br/> &#233;",
    "code": "if (a[0] != b) { return c->d; }",
    "a path": "C:\\films\\new\\review.txt",
    "unknown letters in a row": "qwrtpsdfgh zzxqjk",
    "a word of the vocabulary's tail": "##ing ##ed",
    "vocabulary entries as text": "[unused0] [unused99]",
    # Punctuation
    "all ASCII punctuation": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "every punctuation by itself": " ".join("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    "a run of full stops": "well......",
    "a run of exclamation marks": "wow!!!!!!!!!!",
    "a run of dashes": "a -- b --- c ----",
    "smileys": ":-) ;-( :D <3 ^_^ \\o/",
    "an underscore": "snake_case_name",
    "typographic quotes": "“good” ‘bad’ „gut“ «bon» ‹bien›",
    "typographic dashes": "a–b—c―d‐e‑f−g",
    "an ellipsis": "wait… what…",
    "bullets and daggers": "• one † two ‡ three § four ¶ five",
    "inverted marks": "¿Qué? ¡Qué!",
    "a middle dot": "col·lecció",
    "currency": "$5 £5 €5 ¥5 ₹5 ₽5 ₿5 ¢5",
    "mathematics": "a×b÷c ± 2 ≤ 3 ≠ ∞ ∑ √2 ∈",
    "arrows and boxes": "→ ← ⇒ ■ □ ▲ ★ ☆ ✓ ✗",
    "superscripts and fractions": "x² y³ ½ ¼ 10⁻⁶ H₂O",
    "trade marks": "© ® ™ ℠ ℃ № Ω K Å",
    "Chinese punctuation": "你好,世界。「引用」、《书名》!?",
    # White space
    "empty": "",
    "a space": " ",
    "spaces": "     ",
    "blank of all kinds": " \t\n\r\u00a0\u3000",
    "spaces around": "   good film   ",
    "spaces between": "good     film",
    "a tab": "good\tfilm",
    "a line feed": "good\nfilm",
    "a carriage return": "good\r\nfilm",
    "a vertical tab": "good\u000bfilm",
    "a form feed": "good\u000cfilm",
    "a next line": "good\u0085film",
    "a no-break space": "good\u00a0film",
    "an ideographic space": "good\u3000film",
    "an en and an em space": "good\u2002film\u2003now",
    "a thin, a hair and a narrow space": "a\u2009b\u200ac\u202fd",
    "an Ogham space": "good\u1680film",
    "a line separator": "good\u2028film",
    "a paragraph separator": "good\u2029film",
    "a Mongolian vowel separator": "good\u180efilm",
    # Control and format characters
    "NUL": "good\u0000film",
    "NUL alone": "\u0000",
    "bell": "good\u0007film",
    "escape": "\u001b[31mred\u001b[0m",
    "information separators": "a\u001cb\u001dc\u001ed\u001fe",
    "delete": "good\u007ffilm",
    "C1 controls": "a\u0080b\u009fc",
    "a zero width space": "good\u200bfilm",
    "a zero width non-joiner": "good\u200cfilm",
    "a zero width joiner": "good\u200dfilm",
    "a word joiner": "good\u2060film",
    "a byte order mark in front": "\ufeffgood film",
    "a byte order mark inside": "good\ufefffilm",
    "a soft hyphen": "extra\u00adordinary",
    "marks of direction": "\u200egood\u200f film\u202b x\u202c \u2066y\u2069",
    "a tag character": "good\U000e0041film",
    "a combining grapheme joiner": "a\u034fb",
    "a variation selector": "a\ufe0fb \u2764\ufe0f \u2764\ufe0e",
    "the replacement character": "good \ufffd film",
    "replacement characters in a word": "caf\ufffd\ufffd",
    "private use": "good\ue000film \uf8ff",
    "private use of plane 15": "good\U000f0000film",
    "not a character": "good\uffff\ufdd0film",
    "unassigned": "good\u0378film",
    "a mark newer than Unicode 8": "good\u08d4film",
    "a format character newer than Unicode 8": "good\u08e2film",
    "punctuation newer than Unicode 8": "good\u2e4cfilm",
    "object replacement": "good\ufffcfilm",
    # Latin letters with marks
    "accents, composed": "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u00c7A",
    "accents, decomposed": "cafe\u0301 nai\u0308ve A\u030angstro\u0308m C\u0327A",
    "an accent alone": "\u0301",
    "an accent after a space": "a \u0301b",
    "a heap of accents": "z\u0351\u036b\u0343\u036aa\u0302\u0302\u0306l\u034fg\u0321o\u0322",
    "German": "Größe, Übermaß, Ärger",
    "capital sharp s": "GRO\u1e9eE STRA\u1e9eE",
    "French": "Où est l'œuvre? Ça, c'est un chef-d'œuvre!",
    "Spanish": "El niño y la cigüeña; ¡qué película!",
    "Portuguese": "Não há coração que aguente",
    "Polish": "Zażółć gęślą jaźń",
    "Czech": "Příliš žluťoučký kůň",
    "Turkish": "\u0130stanbul I\u015f\u0131k \u0131l\u0131k i\u0307",
    "Turkish dotted capital I alone": "\u0130",
    "Turkish dotless i alone": "\u0131",
    "Vietnamese, composed": "Tiếng Việt rất hay",
    "Vietnamese, decomposed": "Tie\u0302\u0301ng Vie\u0323\u0302t",
    "Icelandic": "Þórr og Ægir, ðað",
    "Norwegian": "Blåbærøl på øya",
    "letters without a decomposition": "ł đ ħ ø æ œ ß ŋ ı",
    "digraph letters": "\u01c4 \u01c5 \u01c6 \u0132 \u0133",
    "ligatures": "\ufb01lm o\ufb03ce \ufb00 \ufb05",
    "full-width forms": "\uff27\uff4f\uff4f\uff44 \uff46\uff49\uff4c\uff4d\uff01 \uff11\uff12",
    "half-width katakana": "\uff76\uff9e\uff76\uff9e",
    "mathematical letters": "\U0001d400\U0001d41b \U0001d4d0 \U0001d7d8",
    "circled letters": "\u24b6\u24d1 \u2460",
    "Roman numerals": "\u2160\u2163 \u2170",
    "modifier letters": "\u02b0\u02b2 \u02bc \u2019",
    # Other alphabets
    "Greek": "Η ταινία είναι υπέροχη",
    "Greek with many marks": "\u1f00\u1f04\u1fb3 \u1f88",
    "Greek final sigma": "\u039f\u0394\u039f\u03a3 \u03a3\u03b1\u03c2 \u03a3",
    "Russian": "Отличный фильм, ёлки",
    "Cyrillic short i, composed and decomposed": "\u0439 \u0438\u0306 \u0419",
    "Ukrainian": "Їжак і ґанок",
    "Serbian": "Љубав и џез",
    "Armenian": "Շատ լավ ֆիլմ եւ",
    "Georgian": "კარგი ფილმი",
    "Georgian capitals": "\u1c90\u1c91",
    "Cherokee": "\u13a0\u13a1 \uab70",
    "Hebrew": "סרט מצוין",
    "Hebrew with points": "\u05e1\u05b6\u05e8\u05b6\u05d8 \u05d8\u05d5\u05b9\u05d1",
    "Arabic": "فيلم رائع جدا",
    "Arabic with vowels": "\u0641\u0650\u064a\u0644\u0652\u0645\u064c",
    "Arabic hamza, composed and decomposed": "\u0623 \u0627\u0654 \u0622",
    "Arabic presentation forms": "\ufedf\ufe8e \ufefb",
    "Arabic digits and punctuation": "١٢٣، ٤٥٦؟ ۷۸۹",
    "Persian with a non-joiner": "می\u200cخواهم",
    "Urdu": "بہت اچھی فلم",
    "Devanagari": "यह फिल्म बहुत अच्छी है।",
    "Devanagari nukta, composed and decomposed": "\u0958 \u0915\u093c",
    "Bengali": "ছবিটি খুব ভালো",
    "Tamil": "படம் மிக நன்று",
    "Telugu": "సినిమా చాలా బాగుంది",
    "Thai": "หนังดีมากที่สุด",
    "Thai sara am": "\u0e19\u0e49\u0e33",
    "Lao": "ຮູບເງົາດີ",
    "Khmer": "ភាពយន្តល្អ",
    "Burmese": "ကောင်းသော",
    "Tibetan": "བཀྲ་ཤིས།",
    "Ethiopic": "ጥሩ ፊልም።",
    # East Asia
    "Chinese": "这部电影非常好看",
    "Chinese, traditional": "這部電影非常好看",
    "Chinese amid English": "a 好film電影b",
    "Chinese of extension B": "\U00020000\U0002a6d6",
    "Chinese of extension A": "\u3400\u4db5",
    "an ideograph of extension E": "good\U0002b820film",
    "a later ideograph of extension E": "good\U0002b920film",
    "Chinese compatibility ideographs": "\uf900\ufa0e \U0002f800",
    "the next ideograph after the main block": "\u9fff\u4e00",
    "an ideographic zero and radicals": "\u3007 \u2e80 \u2f00",
    "Japanese": "この映画はとても面白い",
    "Japanese katakana": "スター・ウォーズ",
    "Japanese voiced sounds, composed": "\u304c\u3071\u30ac",
    "Japanese voiced sounds, decomposed": "\u304b\u3099\u306f\u309a\u30ab\u3099",
    "Japanese iteration marks": "人々 こゝろ",
    "Korean": "이 영화는 정말 재미있다",
    "Korean, decomposed": "\u110b\u116a\u11bc",
    "Korean compatibility letters": "\u314b\u314b\u314b \u3160\u3160",
    "Bopomofo": "ㄅㄆㄇ",
    # Symbols outside the basic plane
    "an emoji": "😀",
    "emoji": "so good 😀🎬 !!",
    "emoji in a word": "good😀film",
    "an emoji with a skin tone": "👍🏽 ok",
    "a family of emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 film",
    "a rainbow flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "flags": "\U0001f1e9\U0001f1ea \U0001f1ef\U0001f1f5",
    "a flag of tags": "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "a keycap": "1\ufe0f\u20e3 #\ufe0f\u20e3",
    "a heart": "I ❤ film ♥",
    "music": "\U0001d11e 𝄢 ♪♫",
    "Gothic": "\U00010330\U00010331",
    "Deseret capitals": "\U00010400\U00010428",
    "cuneiform": "\U00012000",
    # The special tokens as text
    "all special tokens": "[CLS] [SEP] [MASK] [UNK] [PAD]",
    "special tokens in a text": "a [SEP] b [MASK] c",
    "special tokens without spaces": "good[SEP]film[MASK]",
    "special tokens in lower case": "[cls] [sep] [mask]",
    "special tokens, broken": "[CLS [ SEP] [[MASK]]",
    # Length
    "99 letters": "a" * 99,
    "100 letters": "a" * 100,
    "101 letters": "a" * 101,
    "200 letters": "a" * 200,
    "100 letters with accents, composed": "\u00e9" * 100,
    "101 letters with accents, composed": "\u00e9" * 101,
    "100 letters with accents, decomposed": "e\u0301" * 100,
    "100 letters of two code units": "\U00010428" * 100,
    "a long word among others": "good " + "b" * 150 + " film",
    "62 words": " ".join(["good"] * 62),
    "63 words": " ".join(["good"] * 63),
    "100 words": " ".join(["good"] * 100),
    "1,000 words": " ".join(["good film"] * 500),
    "1,000 words of other letters": "дом " * 1000,
    "500 full stops": "." * 500,
    "500 ideographs": "好" * 500,
    "a word that is cut at the end": " ".join(["good"] * 61) + " honorificabilitudinitatibus",
}

# If the two differ, the tokenizers library is right: models are trained with its ids. Each
# of these texts is one unknown word to it.
UNKNOWN_WORD = [101, 100, 102]
VERSIONS = "the tokenizers library has the characters of Unicode 8; Python has newer ones: it "
NOTES = {
    "unassigned": VERSIONS + "drops what is not assigned",
    "not a character": VERSIONS + "drops what is not assigned",
    "a mark newer than Unicode 8": VERSIONS + "strips this mark",
    "a format character newer than Unicode 8": VERSIONS + "drops this character",
    "punctuation newer than Unicode 8": VERSIONS + "splits at this punctuation",
    "an ideograph of extension E": "in the tokenizers library extension E starts at U+2B920, and "
    "in Unicode at U+2B820",
}


def content(vocabulary: Path) -> str:
    """What tokenizer.json holds, for a vocab.txt."""
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(str(vocabulary), do_lower_case=True)
    vectors = []
    for name, text in TEXTS.items():
        ids = tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        vector = {"name": name, "text": text, "ids": ids}
        if name in NOTES:
            vector |= {"ids": UNKNOWN_WORD, "slow_ids": ids, "note": NOTES[name]}
        vectors.append(vector)
    checksum = hashlib.sha256(vocabulary.read_bytes()).hexdigest()
    # One vector on each line, with escapes: a change is one line, and no editor alters a text.
    lines = ",\n".join(json.dumps(vector) for vector in vectors)
    head = f'"vocabulary_sha256": "{checksum}", "max_length": {MAX_LENGTH}'
    return f'{{{head}, "vectors": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    (HERE / "tokenizer.json").write_text(content(Path(sys.argv[1])))
