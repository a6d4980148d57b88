"""Strings that tokenizers get wrong: made from a seed, the same on every run."""

import pathlib
import random
import unicodedata

NOVELS = (pathlib.Path(__file__).parent.parent / "data" / "novels.txt").read_text(encoding="utf-8")

REAL = [
    "The quick brown fox jumps over the lazy dog. It's 3.14159, isn't it? I'll say they've 1,234,567 of 'em!",
    "def f(x):\n\treturn {'a': x ** 2,\n\t\t'b': [i for i in range(10)]}  # comment\r\n\r\n\r\n    if x:\n        pass\n",
    "Größe, Übermut und Straße – „Zitat“ … œuvre façade naïve Å Ω ﬁ ﬂ ① ½ ² ™",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Ёлка й й",
    "我能吞下玻璃而不伤身体。「日本語のテキスト」、ひらがなカタカナ ー 가나다라 한국어 문장입니다.",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني.  אני יכול לאכול זכוכית  मैं काँच खा सकता हूँ  ฉันกินกระจกได้",
    "👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ❤️ 🤷🏻‍♀️ #️⃣ 🫠",
    "e\u0301 e\u0323\u0301 \u1e9b\u0323 \u0344 \u0958 \u2126 \u212b \ufb01 \uac00 \u1100\u1161\u11a8 q\u0307\u0323 \u0300\u0301",
    "Don't DON'T doN'T I'M WE'VE you'LL he'D it'ſ 'sa 'tx ''s '' ' 're'",
    "   leading, trailing   \t \n \r\n \u00a0 \u3000 \u2003 \u2028 \u2029 \u0085 \u180e \u200b \ufeff end   ",
    "a\x00b \x01\x02\x1b[31m \x7f \x80 \x9f \ufffd \ufffe \U0010ffff \ue000",
    "https://example.com/a/b?c=d&e=%20f#g <b>bold</b> &amp; \\\\server\\share C:\\x 2024-01-31T12:34:56.789Z +1 (555) 010-9999",
    "x" * 300, " " * 300, "\n" * 100, "\t" * 100, "0123456789" * 30, "ab" * 200, "a " * 100, "!?" * 100, "🙂" * 50, "é" * 90,
    "".join(chr(c) for c in range(0x20, 0x250)), "", " ", "\n", "a", "▁", "▁▁a▁ b", "<0x41>", "<0x0A> <0xZZ>", "##ing ##", "Ġ Ċ",
]

# Blocks to draw from, the frequent ones more often.
BLOCKS = [(0x20, 0x7e)] * 8 + [(0x0, 0x1f), (0x7f, 0xff), (0x100, 0x24f), (0x300, 0x36f), (0x370, 0x52f), (0x5d0, 0x6ff), (0x900, 0xdff),
                               (0x0e00, 0x0fff), (0x1100, 0x11ff), (0x1e00, 0x1fff), (0x2000, 0x206f), (0x2070, 0x2bff), (0x3000, 0x30ff),
                               (0x3400, 0x9fff), (0xa000, 0xabff), (0xac00, 0xd7a3), (0xe000, 0xffff), (0x10000, 0x1ffff),
                               (0x1f300, 0x1faff), (0x20000, 0x3ffff), (0xe0000, 0xe01ff), (0x100000, 0x10ffff)]
BITS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "'s", "'LL", "'", "\u200d", "\ufe0f", "\u0301", "\u0323", "12", "3456789", "...", "--",
        "the", " the", "The", " of", "ing", "http", "é", "日本", "가", "👍🏽", "👨\u200d👩", "İ", "ß", "ſ", "ǆ", "ﬃ", "ﷺ", "\u00ad", "\u2581", "</w>"]


def character(rng):
    while True:
        c = rng.randint(*rng.choice(BLOCKS))
        if not 0xd800 <= c < 0xe000:
            return chr(c)


def random_text(rng, special):
    kind = rng.random()
    if kind < 0.25:
        start = rng.randrange(len(NOVELS))
        return NOVELS[start:start + rng.randint(1, 80)]
    if kind < 0.30:
        return rng.choice(BITS + [character(rng)]) * rng.randint(1, 60)
    parts = []
    for _ in range(rng.randint(1, 12)):
        pick = rng.random()
        if pick < 0.35:
            parts.append(rng.choice(BITS))
        elif pick < 0.45 and special:
            token = rng.choice(special)
            parts.append(token if rng.random() < 0.7 else token[:rng.randint(0, len(token))])
        elif pick < 0.7:
            start = rng.randrange(len(NOVELS))
            parts.append(NOVELS[start:start + rng.randint(1, 12)])
        else:
            parts.append("".join(character(rng) for _ in range(rng.randint(1, 5))))
    text = "".join(parts)
    return unicodedata.normalize(rng.choice(["NFD", "NFC"]), text) if rng.random() < 0.1 else text


def hostile(count, special=(), seed=1):
    """REAL, some whole pages, and `count` random strings; special: token texts to strew in."""
    rng = random.Random(seed)
    pages = [NOVELS, NOVELS[:2000].upper(), NOVELS[:3000].replace(" ", ""), NOVELS[:2000].replace(" ", "\u3000")]
    return REAL + pages + [random_text(rng, list(special)) for _ in range(count)]
