"""Cover letters: a Korean 자기소개서 or an English letter, composed sentence by sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from fkdoctor.demo import english, korean
from fkdoctor.demo.grammar import (
    Name,
    Phrase,
    Prose,
    Vocabulary,
    bind_phrases,
    pick,
    write_phrase,
)

KOREAN_SHARE = 0.7
_YEARS = ("2021", "2022", "2023")

PROSE: Mapping[str, Prose] = {"ko": korean.PROSE, "en": english.PROSE}
_OUTLINES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "ko": (
        ("upbringing", "motivation", "skills", "aspiration"),
        ("upbringing", "motivation", "skills", "aspiration"),
        ("motivation", "skills", "teamwork", "aspiration"),
        ("motivation", "skills", "teamwork", "aspiration"),
        ("character", "motivation", "skills", "aspiration"),
        ("upbringing", "character", "motivation", "skills", "aspiration"),
        ("motivation", "character", "skills", "teamwork", "aspiration"),
        ("upbringing", "character", "motivation", "skills", "teamwork", "aspiration"),
    ),
    "en": (
        ("opening", "experience", "motivation", "closing"),
        ("opening", "skills", "experience", "closing"),
        ("opening", "experience", "skills", "motivation", "closing"),
        ("opening", "motivation", "experience", "teamwork", "closing"),
    ),
}
_HEADING_STYLES = ("[{}]", "{number}. {}", "■ {}", "<{}>", "◎ {}")
_RESIDUE_SHARE = 0.12
_SUBTITLE_SHARE = 0.25
# An edited copy has one word in so many respelt; a shorter letter than this gains sentences only.
_WORDS_PER_EDIT = (3, 8, 20)
_SHORT = 800
# What can be dropped and leaves a sentence readable.
_KOREAN_PARTICLES = "을를은는이가의"
_ENGLISH_FILLERS = frozenset({"the", "a", "that", "also", "most", "more"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """One cover letter as its author wrote it, before any crawler met it."""

    language: str
    occupation: int
    company: str
    position: str
    title: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Style:
    """Everything one occupation's letters are written with, in one language."""

    positions: tuple[str, ...]
    sections: Mapping[str, tuple[tuple[Phrase, ...], ...]]
    titles: tuple[Phrase, ...]
    subtitles: tuple[Phrase, ...]
    residue: tuple[Phrase, ...]
    greetings: tuple[Phrase, ...]
    revisions: tuple[Phrase, ...]


def write_letter(rng: Random) -> Letter:
    """A new letter, between 600 and 1,800 characters, in Korean seven times out of ten."""
    language = "ko" if rng.random() < KOREAN_SHARE else "en"
    styles = _bind_styles(language)
    occupation = int(rng.random() * len(styles))
    style = styles[occupation]
    company, position = draw_company(language, rng), pick(rng, style.positions)
    title = write_phrase(pick(rng, style.titles), rng)
    compose = _compose_korean if language == "ko" else _compose_english
    names = {"company": company, "position": Name(position), "year": pick(rng, _YEARS)}
    title = title.format_map(names)
    return Letter(
        language=language,
        occupation=occupation,
        company=str(company),
        position=position,
        title=title[0].upper() + title[1:],
        content=compose(style, rng).format_map(names),
    )


def revise_letter(letter: Letter, rng: Random) -> str:
    """The letter's text once more, slightly different: spacing, particles, one sentence changed."""
    text = letter.content
    if rng.random() < 0.7:
        text = _loosen_words(text, letter.language, rng)
    for _ in range(pick(rng, (0, 0, 1, 2, 3) if text != letter.content else (1, 2))):
        text = _change_sentence(text, letter, rng)
    return text


def draw_company(language: str, rng: Random) -> Name:
    """A company nobody has founded yet."""
    return Name(write_phrase(_bind_company(language), rng))


@cache
def _bind_company(language: str) -> Phrase:
    prose = PROSE[language]
    return bind_phrases((prose.company,), prose.shared)[0]


def _compose_korean(style: _Style, rng: Random) -> str:
    heading_style = pick(rng, _HEADING_STYLES)
    parts = []
    for number, section in enumerate(pick(rng, _OUTLINES["ko"]), start=1):
        heading = heading_style.format(pick(rng, korean.HEADINGS[section]), number=number)
        if rng.random() < _SUBTITLE_SHARE:
            heading += f'\n"{write_phrase(pick(rng, style.subtitles), rng)}"'
        parts.append(f"{heading}\n{_write_section(style.sections[section], rng)}")
    return "\n\n".join(parts + _draw_residue(style, rng))


def _compose_english(style: _Style, rng: Random) -> str:
    parts = [write_phrase(pick(rng, style.greetings), rng)]
    parts += [_write_section(style.sections[name], rng) for name in pick(rng, _OUTLINES["en"])]
    parts.append(f"{pick(rng, english.VALEDICTIONS)},")
    return "\n\n".join(parts + _draw_residue(style, rng))


def _write_section(beats: tuple[tuple[Phrase, ...], ...], rng: Random) -> str:
    return " ".join([write_phrase(pick(rng, beat), rng) for beat in beats])


def _draw_residue(style: _Style, rng: Random) -> list[str]:
    """Sometimes a line of the page that is not part of the letter, as crawlers leave it in."""
    if rng.random() < _RESIDUE_SHARE:
        return [write_phrase(pick(rng, style.residue), rng)]
    return []


def _loosen_words(text: str, language: str, rng: Random) -> str:
    words = text.split(" ")
    for _ in range(len(words) // pick(rng, _WORDS_PER_EDIT) + 1):
        at = int(rng.random() * (len(words) - 1))
        word = words[at]
        if rng.random() < 0.3:
            words[at] = word + " "
        elif language == "en":
            if word in _ENGLISH_FILLERS:
                del words[at]
        elif len(word) > 2 and word[-1] in _KOREAN_PARTICLES:
            words[at] = word[:-1]
        elif "\n" not in word:
            words[at : at + 2] = [word + words[at + 1]]
    return " ".join(words)


def _change_sentence(text: str, letter: Letter, rng: Random) -> str:
    lines = text.split("\n")
    paragraphs = tuple(at for at, line in enumerate(lines) if ". " in line)
    paragraph = pick(rng, paragraphs)
    sentences = lines[paragraph].split(". ")
    at = int(rng.random() * (len(sentences) - 1))
    revisions = _bind_styles(letter.language)[letter.occupation].revisions
    kept = [sentences[at]] if len(text) < _SHORT else []
    sentences[at : at + 1] = [*kept, write_phrase(pick(rng, revisions), rng).removesuffix(".")]
    lines[paragraph] = ". ".join(sentences)
    return "\n".join(lines)


@cache
def _bind_styles(language: str) -> tuple[_Style, ...]:
    prose = PROSE[language]
    return tuple(_bind_style(prose, occupation) for occupation in prose.occupations)


def _bind_style(prose: Prose, occupation: Vocabulary) -> _Style:
    # A letter keeps to one position, so this slot is filled per letter.
    vocabulary = {**prose.shared, **occupation}
    positions = vocabulary.pop("position")
    return _Style(
        positions=positions,
        sections={
            name: tuple(bind_phrases(beat, vocabulary) for beat in beats)
            for name, beats in prose.sections.items()
        },
        titles=bind_phrases(prose.titles, vocabulary),
        subtitles=bind_phrases(prose.subtitles, vocabulary),
        residue=bind_phrases(prose.residue, vocabulary),
        greetings=bind_phrases(prose.greetings, vocabulary),
        revisions=bind_phrases(prose.revisions, vocabulary),
    )
