"""Sentences from templates: slots filled from word pools, Korean particles after any noun."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from string import Formatter
from typing import TypeVar

Item = TypeVar("Item")
Vocabulary = Mapping[str, tuple[str, ...]]

# The form after a final consonant, as templates spell it, and the form after a vowel.
_PARTICLES = {
    "은": "는",
    "이": "가",
    "을": "를",
    "과": "와",
    "으로": "로",
    "으로서": "로서",
    "이라는": "라는",
    "이었습니다": "였습니다",
}
_HANGUL_FIRST = ord("가")
_HANGUL_COUNT = 11_172
_FINALS = 28
_RIEUL = 8
# Latin words as Korean reads them: Python and Spring close the syllable, React and Kafka do not.
_CLOSING_LETTERS = "gmn"


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """A template bound to a vocabulary: a %-format and the pool behind each of its slots."""

    form: str
    pools: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Prose:
    """What one language writes with: words by slot, and templates by where they stand.

    A section is a tuple of beats. One sentence is drawn for each beat, so a section tells its
    story in order and never says the same thing twice.
    """

    shared: Vocabulary
    occupations: tuple[Vocabulary, ...]
    company: str
    titles: tuple[str, ...]
    sections: Mapping[str, tuple[tuple[str, ...], ...]]
    greetings: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    residue: tuple[str, ...]
    revisions: tuple[str, ...]
    posting_titles: tuple[str, ...]
    posting_introductions: tuple[str, ...]
    posting_lists: Mapping[str, tuple[str, ...]]


def split_lines(text: str) -> tuple[str, ...]:
    """The non-empty lines of a text block, one template each."""
    return tuple(line for line in text.splitlines() if line)


def read_vocabulary(text: str) -> Vocabulary:
    """The words by slot, from lines such as `tool: Kafka | SQL`."""
    entries = (line.split(": ", 1) for line in split_lines(text))
    return {slot: tuple(words.split(" | ")) for slot, words in entries}


def bind_phrases(templates: Iterable[str], vocabulary: Vocabulary) -> tuple[Phrase, ...]:
    """The templates as phrases; slots the vocabulary does not know stay in braces for later."""
    return tuple(_bind_phrase(template, vocabulary) for template in templates)


def write_phrase(phrase: Phrase, rng: Random) -> str:
    """One sentence: each slot filled with a word drawn from its pool."""
    return phrase.form % tuple([pick(rng, pool) for pool in phrase.pools])


def pick(rng: Random, items: tuple[Item, ...]) -> Item:
    """One of the items, by `random()` alone: the only draw Python keeps stable across versions."""
    return items[int(rng.random() * len(items))]


class Name(str):
    """A name that `str.format` follows with a particle: `"{company:은}"`."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return inflect_noun(self, spec)


def inflect_noun(noun: str, spec: str) -> str:
    """The noun with what the slot asks for: a Korean particle, an English article, or nothing."""
    if not spec:
        return str(noun)
    if spec == "a":
        return f"{'an' if noun[0].lower() in 'aeio' else 'a'} {noun}"
    final = _read_final(noun)
    open_syllable = final == 0 or (final == _RIEUL and spec.startswith("으로"))
    return noun + (_PARTICLES[spec] if open_syllable else spec)


def _read_final(noun: str) -> int:
    """The number of the last syllable's final consonant in Unicode's order, 0 when it has none."""
    offset = ord(noun[-1]) - _HANGUL_FIRST
    if 0 <= offset < _HANGUL_COUNT:
        return offset % _FINALS
    last = noun[-1].lower()
    if last == "l":
        return _RIEUL
    return 1 if last in _CLOSING_LETTERS else 0


def _bind_phrase(template: str, vocabulary: Vocabulary) -> Phrase:
    form, pools = [], []
    for literal, slot, spec, _ in Formatter().parse(template):
        form.append(literal.replace("%", "%%"))
        if slot is None:
            continue
        if slot in vocabulary:
            form.append("%s")
            pools.append(tuple(inflect_noun(noun, spec or "") for noun in vocabulary[slot]))
        else:
            form.append(f"{{{slot}:{spec}}}")
    return Phrase(form="".join(form), pools=tuple(pools))
