"""The frame of every page: one HTML file with its style, its scripts and its data, which reaches for nothing.

Every text goes through the template's escaping or JSON, and the page's own policy forbids the browser to load anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from bokeh.resources import Resources
from markupsafe import Markup

import spikenas
from spikenas.run.report_text import EXCEEDS, FITS, duration

FOLDER = Path(__file__).parent / "report_page"
SCRIPTS = ("drawing.js", "trials.js", "answers.js", "compare.js", "page.js")
TONES = {FITS: "good", EXCEEDS: "bad"}


def render_page(template: str, page_data: Any, **values: Any) -> str:
    """``template`` of the folder report_page with ``values``; ``page_data`` is what the page's script works on."""
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(_file("page.css")),
            script=Markup("\n".join(map(_file, SCRIPTS))),
            bokeh=Markup("\n".join(Resources("inline", components=["bokeh"], log_level="warn").js_raw)),
            version=spikenas.__version__,
            page_data=_json(page_data),
            **values,
        )
    )


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    environment.filters["grouped"] = lambda number: f"{number:,.0f}"
    environment.filters["tone"] = lambda word: TONES.get(word, "neutral")
    return environment


def _json(value: Any) -> Markup:
    """JSON for a script element: no text in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
