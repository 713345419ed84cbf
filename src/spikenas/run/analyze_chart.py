"""The analysis of operations as a picture: an SVG that any browser shows, without a script or another file."""

from __future__ import annotations

from html import escape

from spikenas.run.analyze import Analysis, Row

WIDTH, LEFT, RIGHT, LINE, TOP = 760, 190, 90, 30, 64
GOOD, BAD, DROPPED = "#23a596", "#8d97a5", "#d9584a"
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1d2733}.s{font-size:12px;fill:#5b6672}.t{font-size:15px;font-weight:600}"
    "@media(prefers-color-scheme:dark){svg{background:#161b22}text{fill:#e6edf3}.s{fill:#9aa6b2}}"
)


def draw_analysis(analysis: Analysis) -> str:
    """A bar per operation: the gain in mean validation accuracy without it, in points, with its standard error.

    Bars to the right speak for dropping an operation; those of dropped ones are red.
    """
    rows = [*analysis.rows, *([analysis.together] if len(analysis.together.removed) > 1 else [])]
    reach = max((100 * (abs(row.difference) + row.standard_error) for row in rows), default=0.0) or 1.0
    middle, scale = LEFT + (WIDTH - LEFT - RIGHT) / 2, (WIDTH - LEFT - RIGHT) / 2 / reach
    height = TOP + LINE * len(rows) + 54
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(_title(analysis))}"><style>{STYLE}</style>',
        f'<text class="t" x="16" y="26">{escape(_title(analysis))}</text>',
        '<text class="s" x="16" y="46">gain in mean validation accuracy without the operation, points, '
        "with its standard error</text>",
    ]
    for number, row in enumerate(rows):
        parts.append(_bar(row, TOP + LINE * number, middle, scale, row.removed[0] in analysis.together.removed))
    foot = TOP + LINE * len(rows)
    parts.append(f'<line x1="{middle}" x2="{middle}" y1="{TOP - 6}" y2="{foot}" stroke="{BAD}"/>')
    parts.append(f'<text x="16" y="{foot + 22}">recommended: {escape(", ".join(analysis.recommended))}</text>')
    parts.append(f'<text class="s" x="16" y="{foot + 42}">{escape(analysis.reason)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _title(analysis: Analysis) -> str:
    return f"What the operations of space '{analysis.space}' are worth"


def _bar(row: Row, top: float, middle: float, scale: float, dropped: bool) -> str:
    gain, error = 100 * row.difference, 100 * row.standard_error
    end, low, high = (middle + scale * value for value in (gain, gain - error, gain + error))
    color = DROPPED if dropped else GOOD if gain < 0 else BAD
    center = top + LINE / 2
    name = "without " + " and ".join(row.removed)
    return (
        f"<g><title>{escape(name)}: {gain:+.2f} points, standard error {error:.2f}, {row.networks} networks</title>"
        f'<text x="{LEFT - 8}" y="{center + 4}" text-anchor="end">{escape(" + ".join(row.removed))}</text>'
        f'<rect x="{min(middle, end):.2f}" y="{top + 6}" width="{abs(end - middle):.2f}" height="{LINE - 12}" '
        f'fill="{color}"/>'
        f'<path d="M{low:.2f} {center}H{high:.2f}M{low:.2f} {center - 4}v8M{high:.2f} {center - 4}v8" '
        f'stroke="currentColor" fill="none"/>'
        f'<text class="s" x="{WIDTH - RIGHT + 8}" y="{center + 4}">{gain:+.2f}</text></g>'
    )
