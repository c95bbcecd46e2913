"""An assessment as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Final

from holdfast.core.assess import Assessment, Result

_STYLE: Final = """
:root { --ink: #1c2330; --dim: #5c6675; --line: #dde2e9; --paper: #fff; --ground: #f4f6f9;
  --critical: #8f1027; --high: #c2410c; --medium: #a16207; --low: #1d6fa5; --info: #5c6675;
  --passed: #18794e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --dim: #9aa5b5; --line: #2d3644;
  --paper: #1a2029; --ground: #12161d; --critical: #ff6b81; --high: #fb923c; --medium: #facc15;
  --low: #60b5ee; --info: #9aa5b5; --passed: #4ade80; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif }
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.7rem; margin: 0 0 .25rem } h2 { font-size: 1.15rem; margin: 2.25rem 0 .75rem }
.dim { color: var(--dim) } .mono { font-family: ui-monospace, Menlo, monospace; font-size: .875rem }
.counts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.5rem 0; padding: 0 }
.counts li { list-style: none; background: var(--paper); border: 1px solid var(--line);
  border-top: 4px solid var(--tone); border-radius: 6px; padding: .6rem 1rem; min-width: 6.5rem }
.counts b { display: block; font-size: 1.6rem; line-height: 1.2;
  font-variant-numeric: tabular-nums }
article { background: var(--paper); border: 1px solid var(--line);
  border-left: 5px solid var(--tone); border-radius: 6px; padding: .9rem 1.1rem; margin: .75rem 0 }
article h3 { font-size: 1.02rem; margin: 0 } article p { margin: .35rem 0 }
.tag { color: var(--tone); font-weight: 600; font-size: .8rem; letter-spacing: .04em;
  text-transform: uppercase }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 0 }
td { border-top: 1px solid var(--line); padding: .35rem .75rem .35rem 0; vertical-align: top;
  overflow-wrap: anywhere }
td:first-child { width: 38% } .quiet td:first-child { width: auto }
.quiet td:last-child { text-align: right; white-space: nowrap }
@media print { body { background: #fff } article { break-inside: avoid } }
"""


def page(made: Assessment) -> str:
    """The whole document. Everything that came from outside is escaped."""
    failed = [one for one in made.results if one.status == "failed"]
    when = datetime.fromtimestamp(made.at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    counts = [(severity, count) for severity, count in made.failed.items()]
    counts += [("passed", made.passed)] + ([("unknown", made.unknown)] if made.unknown else [])
    tiles = "".join(_tile(name, count) for name, count in counts)
    verdict = f"{len(failed)} of {len(made.results)} rules do not hold" if failed else "All hold"
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Holdfast: assessment of {escape(made.server)}</title>"
        f"<style>{_STYLE}</style></head><body><main>"
        f"<h1>{verdict}</h1>"
        f'<div class="dim"><span class="mono">{escape(made.server)}</span>, revision '
        f"{made.revision}, {when}, by {escape(made.build)}</div>"
        f'<ul class="counts">{tiles}</ul>'
        + ("<h2>What does not hold</h2>" + "".join(map(_article, failed)) if failed else "")
        + _quiet(made, "unknown", "What could not be known")
        + _quiet(made, "passed", "What holds")
        + "</main></body></html>\n"
    )


def _tile(name: str, count: int) -> str:
    tone = f"var(--{'info' if name == 'unknown' else name})"
    return f'<li style="--tone: {tone}"><b>{count}</b>{name}</li>'


def _article(one: Result) -> str:
    rows = "".join(
        f'<tr><td class="mono">{escape(each.where)}</td><td>{escape(each.what)}</td></tr>'
        for each in one.found
    )
    more = f'<p class="dim">and {one.more} more</p>' if one.more else ""
    return (
        f'<article id="{one.id}" style="--tone: var(--{one.severity})">'
        f'<div class="tag">{one.severity} <span class="mono dim">{one.id}</span></div>'
        f"<h3>{escape(one.title)}</h3><p>{escape(one.why)}</p>"
        f"<p><b>Way out:</b> {escape(one.way_out)}</p>"
        f"<table>{rows}</table>{more}</article>"
    )


def _quiet(made: Assessment, status: str, title: str) -> str:
    rows = "".join(
        f'<tr><td>{escape(one.title)}</td><td class="mono dim">{one.id}</td></tr>'
        for one in made.results
        if one.status == status
    )
    return f'<h2>{title}</h2><table class="quiet">{rows}</table>' if rows else ""
