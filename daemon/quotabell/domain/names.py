"""Names of users, models and programs as people read them within a line.

They come from outside, so they may hold anything: line breaks, marks without end, another
direction of writing. None of it may change how the rest of the line reads.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

ISOLATE: Final = "\u2068"  # first strong isolate (Unicode Bidirectional Algorithm, UAX #9 §2.4)
POP: Final = "\u2069"
NAMELESS: Final = "(no name)"
ELLIPSIS: Final = "…"

_JOINERS: Final = "\u200c\u200d"  # without them emoji and words of some scripts fall apart
_MARKS: Final = ("Mn", "Mc", "Me")
_SPACES: Final = ("Cc", "Zs", "Zl", "Zp")
_UNREADABLE: Final = ("Co", "Cs")
# Letters and digits written from right to left; of what this Python does not know, who knows.
_TURNS: Final = frozenset({"R", "AL", "AN", ""})
_CLUSTER: Final = 12  # code points; a family of four with skin tones has 11


def shown(name: str, width: int) -> str:
    """The name in at most ``width`` + 2 characters: cut in the middle, never within what looks
    like one character as far as that can be told without tables; isolated where it could turn
    the direction of the line. Never empty."""
    if name.isascii() and name.isprintable():
        plain = " ".join(name.split())
        return _shortened(plain, width) if plain else NAMELESS
    clusters = list(_clusters(_clean(name)))
    text = _shortened(clusters, width)
    if not text:
        return NAMELESS
    turns = any(unicodedata.bidirectional(sign) in _TURNS for sign in text)
    return f"{ISOLATE}{text}{POP}" if turns else text


def _clean(name: str) -> str:
    """One line without anything invisible."""
    kept: list[str] = []
    for sign in unicodedata.normalize("NFC", name):
        category = unicodedata.category(sign)
        if category in _SPACES:
            sign = " "
        elif category in _UNREADABLE or (category == "Cn" and _is_noncharacter(sign)):
            sign = "\ufffd"
        elif category == "Cf" and sign not in _JOINERS:
            continue
        if (sign == " " or sign in _JOINERS) and (not kept or kept[-1] in " " + _JOINERS):
            continue
        if not kept and category in _MARKS:
            continue  # it would sit on what stands before the name
        kept.append(sign)
    return "".join(kept).rstrip(" " + _JOINERS)


def _is_noncharacter(sign: str) -> bool:
    code = ord(sign)
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def _clusters(text: str) -> Iterator[str]:
    """What looks like one character each, about as in UAX #29; too long ones lose their end."""
    cluster = ""
    for sign in text:
        if cluster and not _extends(cluster, sign):
            yield cluster
            cluster = ""
        # No more of what has no end; what would join it to the next character goes with it.
        cluster = cluster + sign if len(cluster) < _CLUSTER else cluster.rstrip(_JOINERS)
    if cluster:
        yield cluster


def _extends(cluster: str, sign: str) -> bool:
    code = ord(sign)
    if sign in _JOINERS or cluster[-1] == _JOINERS[1] or unicodedata.category(sign) in _MARKS:
        return True
    if _is_flag(sign):  # a flag is two letters
        return len(cluster) == 1 and _is_flag(cluster)
    tone = 0x1F3FB <= code <= 0x1F3FF
    return tone or 0x1160 <= code <= 0x11FF or 0xD7B0 <= code <= 0xD7FF  # the rest of a syllable


def _is_flag(sign: str) -> bool:
    return 0x1F1E6 <= ord(sign) <= 0x1F1FF


def _shortened(clusters: Iterable[str], width: int) -> str:
    text = "".join(clusters)
    if len(text) <= width:
        return text
    pieces = list(clusters)
    room = width - len(ELLIPSIS)
    head = _taken(pieces, (room + 1) // 2)
    tail = _taken(pieces[::-1], room - sum(map(len, head)))
    start = "".join(head).rstrip(" " + _JOINERS)
    return start + ELLIPSIS + "".join(tail[::-1]).lstrip()


def _taken(clusters: Iterable[str], room: int) -> list[str]:
    taken = []
    for cluster in clusters:
        room -= len(cluster)
        if room < 0:
            break
        taken.append(cluster)
    return taken
