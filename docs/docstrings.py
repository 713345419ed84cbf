"""Docstrings as the site shows them: their examples, literal blocks and tables become blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|mod|data|meth|attr):`~?([^`]+)`")


def to_markdown(text: str) -> str:
    """A docstring in Markdown; paragraphs are divided by empty lines."""
    found: list[str] = []
    literal = False
    for paragraph in ROLE.sub(r"`\1`", text).split("\n\n"):
        if literal and paragraph.startswith("    "):
            found.append(_fenced("text", "\n".join(line[4:] for line in paragraph.splitlines())))
            continue
        literal = paragraph.endswith("::")
        if paragraph.startswith(">>>"):
            found.append(_fenced("pycon", paragraph))
        elif paragraph.startswith("===="):
            found.append(_fenced("text", paragraph))
        else:
            found.append(paragraph[:-1] if literal else paragraph)
    return "\n\n".join(found)


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


class Docstrings(griffe.Extension):
    """Applies :func:`to_markdown` to every docstring of the package."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
