"""Texts and files as bad luck and vandals leave them: seeded, so that what was found once is found again."""

import random
from collections.abc import Iterator, Sequence

FRAGMENTS: tuple[bytes, ...] = (
    b"[" * 300,
    b"{a: " * 300,
    b"- " * 300,
    b"\n".join(b" " * level + b"a:" for level in range(200)),
    b"9" * 5000,
    b"-" + b"8" * 30,
    b"0x" + b"f" * 400,
    b"1e999",
    b"-1e309",
    b"1e-999",
    b"1e308",
    b".nan",
    b"-.inf",
    b"-0.0",
    b"NaN",
    b"Infinity",
    b"\x00",
    b'"\\0"',
    b'"\\ud800"',
    b'"\\U0010ffff"',
    b'"\\UFFFFFFFF"',
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\x1b[31m",
    b"\r",
    b"\t",
    b"&a [*a]",
    b"&a &b c",
    b"*a",
    b"<<: *a",
    b"!!python/object:os.system x",
    b"!!int x",
    b"!!float ''",
    b"!!float -",
    b"!!int ''",
    b"!!bool x",
    b"!!null x",
    b"!!timestamp x",
    b"!!binary x",
    b"!!set {a}",
    b"!<tag:x> y",
    b"%YAML 1.1\n---\n",
    b"%YAML 9.9\n---\n",
    b"%YAML x\n---\n",
    b"%TAG ! x\n---\n",
    b"--- a\n--- b\n",
    b"...\n",
    b"? [a]\n: b\n",
    b"? ",
    b": ",
    b"|9\n",
    b">-+\n x",
    b"'",
    b'"',
    b"}",
    b"]",
    b",",
    b"#",
    b"=",
    b"true",
    b"null",
    b"~",
    b"{}",
    b"[]",
    b"''",
    b"x" * 5000,
    b"base: " + b"n" * 5000 + b"\n",
    b"base: ~nobody-of-this-name/x\n",
    b'base: "a\\0b"\n',
    b"base: /dev/zero\n",
    b"base: preset:default\n",
    b"base: [preset:plan, preset:plan]\n",
    b"../../victim",
    b"1_000",
    b"12:30:45",
    b"2001-13-45",
    b"0o9",
    b"0b2",
    b"+",
    b"-",
    b".",
    b"e5",
    b"._",
    b"+.inf",
    b"-.",
    b"1__",
    b"0x",
    b"0o",
)


def damaged(content: bytes, draw: random.Random, fragments: Sequence[bytes] = FRAGMENTS) -> bytes:
    """The content after one to four mishaps."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        content = draw.choice((_flip, _cut, _repeat, _insert, _replace, _swap, _value))(content, draw, fragments)
    return content


def many(contents: Sequence[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Damaged versions of several contents in turn."""
    draw = random.Random(seed)
    for number in range(count):
        yield damaged(contents[number % len(contents)], draw)


def _flip(content: bytes, draw: random.Random, fragments: Sequence[bytes]) -> bytes:
    if not content:
        return content
    result = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 20))):
        result[draw.randrange(len(result))] ^= 1 << draw.randrange(8)
    return bytes(result)


def _cut(content: bytes, draw: random.Random, fragments: Sequence[bytes]) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _repeat(content: bytes, draw: random.Random, fragments: Sequence[bytes]) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[start : start + draw.randrange(1, 80)] * draw.randrange(2, 5) + content[start:]


def _insert(content: bytes, draw: random.Random, fragments: Sequence[bytes]) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(fragments) + content[place:]


def _replace(content: bytes, draw: random.Random, fragments: Sequence[bytes]) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(fragments) + content[place + draw.randrange(12) :]


def _swap(content: bytes, draw: random.Random, fragments: Sequence[bytes]) -> bytes:
    lines = content.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _value(content: bytes, draw: random.Random, fragments: Sequence[bytes]) -> bytes:
    """Something else behind one of the colons."""
    lines = content.split(b"\n")
    places = [number for number, line in enumerate(lines) if b":" in line]
    if not places:
        return content
    number = draw.choice(places)
    key, colon, _ = lines[number].partition(b":")
    lines[number] = key + colon + b" " + draw.choice(fragments)
    return b"\n".join(lines)
