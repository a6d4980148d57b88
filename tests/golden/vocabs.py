"""tokenizer.json files for the tests: real vocabularies converted from GGUF, and small ones trained here with each
type of component. Each maker takes a path and writes the file."""

import itertools
import json
import pathlib
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from golden.texts import NOVELS, REAL

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "vocab"

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3, QWEN2 = GPT4 % "{1,3}", GPT4 % ""
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


# ---- real vocabularies, from GGUF ----

def fields(name):
    """The metadata of a GGUF file (its own reader needs 10 s for 400,000 strings)."""
    data, at = (SHARED / f"ggml-vocab-{name}.gguf").read_bytes(), 16
    formats = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}

    def read(kind):
        nonlocal at
        if kind == 8:
            n = read(10)
            at += n
            return data[at - n:at].decode()
        if kind == 9:
            kind, n = read(4), read(10)
            return [read(kind) for _ in range(n)]
        value = struct.unpack_from(formats[kind], data, at)[0]
        at += struct.calcsize(formats[kind])
        return value

    return {read(8): read(read(4)) for _ in range(read(10))}


def special_tokens(f):
    """Control tokens (3) and user-defined ones (4)."""
    kinds = f["tokenizer.ggml.token_type"]
    for i, (token, kind) in enumerate(zip(f["tokenizer.ggml.tokens"], kinds)):
        if kind in (3, 4):
            yield {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": kind == 3}


def bos_template(token, id):
    return {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}}}


def write(path, **parts):
    path.write_text(json.dumps({"version": "1.0", "truncation": None, "padding": None, **parts}, ensure_ascii=False), encoding="utf-8")


def byte_level_gguf(name, regex, normalizer, post_processor, pairs):
    def make(path):
        f = fields(name)
        merges = f["tokenizer.ggml.merges"]
        added = list(special_tokens(f))
        names = {t["content"] for t in added}
        vocab = {t: i for i, t in enumerate(f["tokenizer.ggml.tokens"]) if t not in names}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        write(path, added_tokens=added, normalizer=normalizer,
              pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]},
              post_processor=post_processor(f) if post_processor else byte_level, decoder=byte_level,
              model={"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                     "fuse_unk": False, "byte_fallback": False, "ignore_merges": post_processor is not None, "vocab": vocab,
                     "merges": [m.split(" ") for m in merges] if pairs else merges})
    return make


def spm_merges(tokens, scores):
    """The merges that make a SentencePiece BPE vocabulary: every way to make a token of two, best score first."""
    ids = {t: i for i, t in enumerate(tokens)}
    merges = []
    for token, score in zip(tokens, scores):
        ways = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ids and token[i:] in ids]
        merges += [(score, way) for way in sorted(ways, key=lambda w: (ids[w[0]], ids[w[1]]))]
    merges.sort(key=lambda m: (m[0], len(m[1][0]), len(m[1][1])), reverse=True)
    return [list(way) for _, way in merges]


def spm_gguf(name, prefix):
    """prefix: how the space before the first word comes about: "normalizer" (Llama 2) or "metaspace" (later files)."""
    def make(path):
        f = fields(name)
        tokens = f["tokenizer.ggml.tokens"]
        added = list(special_tokens(f))
        added.insert(0, {**added[0], "id": 0, "content": tokens[0], "special": True})
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        norm = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}
        metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
        write(path, added_tokens=added, normalizer=norm if prefix == "normalizer" else None,
              pre_tokenizer=None if prefix == "normalizer" else metaspace, post_processor=bos_template(tokens[1], 1),
              decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                        {"type": "ByteFallback"}, {"type": "Fuse"},
                                                        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
              model={"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                     "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                     "vocab": {t: i for i, t in enumerate(tokens)}, "merges": spm_merges(tokens, f["tokenizer.ggml.scores"])})
    return make


GGUF = {
    "llama-bpe": byte_level_gguf("llama-bpe", LLAMA3, None, lambda f: bos_template("<|begin_of_text|>", f["tokenizer.ggml.bos_token_id"]), True),
    "qwen2": byte_level_gguf("qwen2", QWEN2, {"type": "NFC"}, None, False),
    "llama-spm": spm_gguf("llama-spm", "normalizer"),
    "phi-3": spm_gguf("phi-3", "normalizer"),
    "llama-spm-metaspace": spm_gguf("llama-spm", "metaspace"),
}


# ---- small ones, trained here ----

BYTES = pre_tokenizers.ByteLevel.alphabet()
LINES = list(itertools.chain(REAL, NOVELS.split("\n")))
SPECIAL = ["<|endoftext|>", "<s>", "</s>", "[CLS]", "[SEP]", "[UNK]", "<unk>", "[MASK]"]


def trained(model, trainer, normalizer=None, pre=None, decoder=None, post=None, added=(), change=None):
    def make(path):
        t = Tokenizer(model())
        if normalizer:
            t.normalizer = normalizer()
        if pre:
            t.pre_tokenizer = pre()
        t.train_from_iterator(LINES, trainer())
        if decoder:
            t.decoder = decoder()
        if post:
            t.post_processor = post(t)
        for token in added:
            t.add_tokens([token])
        spec = json.loads(t.to_str())
        if change:
            change(spec)
        path.write_text(json.dumps(spec), encoding="utf-8")
    return make


def bpe_trainer(**how):
    return lambda: trainers.BpeTrainer(vocab_size=1200, show_progress=False, special_tokens=SPECIAL, **how)


def byte_level(pre, **how):
    return trained(models.BPE, bpe_trainer(initial_alphabet=BYTES), pre=pre, decoder=decoders.ByteLevel, **how)


def split(regex, behavior="isolated", invert=False):
    def make():
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), behavior, invert), pre_tokenizers.ByteLevel(False, False, False)])
    return make


def bert_post(t):
    return processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]")))


def roberta_post(t):
    return processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")), True, False)


def template_post(t):
    special = [(s, t.token_to_id(s)) for s in ("<s>", "</s>")]
    return processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing("<s> <s> $A </s>", "<s> $A </s> $B </s>", special)])


ADDED = [
    AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("<both>", lstrip=True, rstrip=True, special=True), AddedToken("whole", single_word=True),
    AddedToken("Alice", normalized=True), AddedToken("  ", normalized=False), AddedToken("<left><right>", normalized=False),
    AddedToken("ab", normalized=False), AddedToken("abab", normalized=False), AddedToken("É", normalized=True),
]


def unigram_trainer():
    return trainers.UnigramTrainer(vocab_size=2500, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>")


def wordpiece_trainer():
    return trainers.WordPieceTrainer(vocab_size=900, show_progress=False, special_tokens=SPECIAL)


def with_bytes(spec):
    """Gives a Unigram model a token for each byte."""
    spec["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0 - b] for b in range(256)]
    spec["model"]["byte_fallback"] = True


def set_model(**options):
    return lambda spec: spec["model"].update(options)


def fallback_bpe(spec):
    """Some bytes have a token, some not; unknown characters are not fused."""
    vocab = spec["model"]["vocab"]
    for b in range(256):
        if b % 16 != 3:
            vocab.setdefault(f"<0x{b:02X}>", max(vocab.values()) + 1)
    spec["model"].update(byte_fallback=True, unk_token="<unk>", fuse_unk=False)


def as_first_files(spec):
    """Without a type, and merges as strings: GPT-2's own file."""
    del spec["model"]["type"]
    spec["model"]["merges"] = [" ".join(m) for m in spec["model"]["merges"]]
    spec["model"].update(unk_token="", continuing_subword_prefix="", end_of_word_suffix="")


N, P, D = normalizers, pre_tokenizers, decoders

TRAINED = {
    "gpt2": byte_level(lambda: P.ByteLevel(add_prefix_space=False), post=lambda t: processors.ByteLevel(), change=as_first_files),
    "gpt2-prefix": byte_level(lambda: P.ByteLevel(add_prefix_space=True), post=roberta_post, added=ADDED),
    "smollm": byte_level(lambda: P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)]), post=template_post),
    "cl100k": byte_level(split(CL100K), change=set_model(ignore_merges=True)),
    "o200k": byte_level(split(O200K)),
    "deepseek": byte_level(lambda: P.Sequence([P.Split(Regex(r"\p{N}{1,3}"), "isolated"), P.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
                                               P.Split(Regex(DEEPSEEK), "isolated"), P.ByteLevel(False, False, False)])),
    "kimi": byte_level(split(KIMI)),
    "removed-invert": byte_level(split(LLAMA3, "removed", True)),
    "merged-previous": byte_level(split(r"\w+", "merged_with_previous")),
    "merged-next": byte_level(split(r"[\s\p{P}]", "merged_with_next")),
    "contiguous": byte_level(split(r"\d|\b[A-Z]", "contiguous")),
    "onig": byte_level(split(r"(?m)^\s*.{,3}?\h{2}|(?<=\S)[^\S\n]+$|[[:punct:]&&[^.]]{2}+|\p{^Ll}|\x{61}\u0062|[\w-]?")),
    "contiguous-digits": byte_level(lambda: P.Sequence([P.Digits(False), P.Punctuation("contiguous"), P.ByteLevel(True, True, True)])),
    "nfc-lower": byte_level(lambda: P.ByteLevel(False), normalizer=lambda: N.Sequence([N.NFC(), N.Lowercase()]), added=ADDED),
    "nfkc": byte_level(lambda: P.ByteLevel(False), normalizer=lambda: N.Sequence([N.NFKC(), N.Strip(), N.Replace(Regex(r" {2,}"), " ")])),
    "nfd-accents": byte_level(lambda: P.ByteLevel(False), normalizer=lambda: N.Sequence([N.NFD(), N.StripAccents()]), added=ADDED),
    "nfkd-nmt": byte_level(lambda: P.ByteLevel(False), normalizer=lambda: N.Sequence([N.Nmt(), N.NFKD(), N.Prepend("_"), N.Strip(True, False)])),
    "byte-normalizer": trained(models.BPE, bpe_trainer(initial_alphabet=BYTES), normalizer=N.ByteLevel, decoder=D.ByteLevel, added=ADDED,
                               pre=lambda: P.FixedLength(7)),
    "bpe-suffix": trained(lambda: models.BPE(unk_token="[UNK]"), bpe_trainer(end_of_word_suffix="</w>"), pre=P.Whitespace,
                          decoder=lambda: D.BPEDecoder("</w>"), normalizer=lambda: N.BertNormalizer(), added=ADDED),
    "bpe-prefix": trained(lambda: models.BPE(unk_token="[UNK]", fuse_unk=True), bpe_trainer(continuing_subword_prefix="##"), pre=P.WhitespaceSplit,
                          decoder=lambda: D.WordPiece("##", True)),
    "bpe-fallback": trained(models.BPE, bpe_trainer(limit_alphabet=60), pre=lambda: P.Metaspace(), change=fallback_bpe, added=ADDED,
                            decoder=lambda: D.Sequence([D.ByteFallback(), D.Metaspace()])),
    "bpe-no-unk": trained(models.BPE, bpe_trainer(limit_alphabet=60), pre=lambda: P.CharDelimiterSplit("e")),
    "unigram": trained(models.Unigram, unigram_trainer, pre=lambda: P.Metaspace(prepend_scheme="first"), decoder=lambda: D.Metaspace(prepend_scheme="first"),
                       normalizer=lambda: N.Sequence([N.Nmt(), N.NFKC(), N.Replace(Regex(" {2,}"), " ")]), added=ADDED),
    "unigram-bytes": trained(models.Unigram, unigram_trainer, pre=lambda: P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), change=with_bytes,
                             decoder=lambda: D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])),
    "bert": trained(lambda: models.WordPiece(unk_token="[UNK]"), wordpiece_trainer, normalizer=lambda: N.BertNormalizer(), pre=P.BertPreTokenizer,
                    decoder=lambda: D.WordPiece("##", True), post=bert_post, added=ADDED),
    "bert-cased": trained(lambda: models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=12), wordpiece_trainer, post=bert_post,
                          normalizer=lambda: N.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=True, lowercase=False),
                          pre=lambda: P.Sequence([P.Whitespace(), P.Punctuation("merged_with_previous")]), decoder=lambda: D.WordPiece("##", False)),
    "wordlevel": trained(lambda: models.WordLevel(unk_token="[UNK]"), lambda: trainers.WordLevelTrainer(show_progress=False, special_tokens=SPECIAL),
                         pre=lambda: P.Split(" ", "merged_with_next", invert=False)),
}
