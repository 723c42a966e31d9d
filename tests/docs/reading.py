"""The commands that the documentation shows, section by section."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"))
)
_FENCE = re.compile(r"^ *```(\w*)$")
_INDENTED = re.compile(r"^ {4,}\S")
_COMMENT = re.compile(r"\s+# .*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code. ``language`` is empty for one that is only indented."""

    page: str
    section: str
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Example:
    """A command, and what it says: None where nothing of that is shown."""

    command: str
    said: str | None


def blocks(page: str) -> Iterator[Block]:
    """Every block of code of a page."""
    section, before, lines = "", "", (ROOT / page).read_text("utf-8").split("\n")
    n = 0
    while n < len(lines):
        line, start = lines[n], n + 1
        found: list[str] = []
        if heading := re.match(r"^##+ (.*)$", line):
            section = heading[1]
        if fence := _FENCE.match(line):
            n += 1
            while not _FENCE.match(lines[n]):
                found.append(lines[n])
                n += 1
            yield Block(page, section, start, fence[1], _dedented(found))
        elif _INDENTED.match(line) and not before:
            while n < len(lines) and _INDENTED.match(lines[n]):
                found.append(lines[n])
                n += 1
            yield Block(page, section, start, "", _dedented(found))
            n -= 1
        before = lines[n].strip()
        n += 1


def spans(page: str) -> Iterator[tuple[str, str]]:
    """Section and text of all that stands `so` within a line of text, links and code left out."""
    section, fenced = "", False
    for paragraph in re.split(r"\n\s*\n", (ROOT / page).read_text("utf-8")):
        if heading := re.findall(r"^##+ (.*)$", paragraph, re.MULTILINE):
            section = heading[-1]
        fences = len(re.findall(r"^ *```", paragraph, re.MULTILINE))
        if not fenced and not fences and not _INDENTED.match(paragraph):
            for found in re.findall(r"`([^`]+)`", paragraph):
                yield section, " ".join(found.split())
        fenced ^= bool(fences % 2)


def examples(block: Block) -> list[Example]:
    """The commands of a block of a shell: in a console those behind a $."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        return [Example(*_parted(part)) for part in parts]
    lines = (_COMMENT.sub("", line).strip() for line in text.split("\n"))
    return [Example(line, None) for line in lines if line and line[0] != "#"]


def _parted(part: str) -> tuple[str, str]:
    command, _, said = part.partition("\n")
    return command.strip(), said.strip()


def _dedented(lines: list[str]) -> str:
    indent = min((len(li) - len(li.lstrip()) for li in lines if li.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)
