"""Pieces of a self-contained HTML page: text is escaped here and pictures stand inside the page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

Tone = Literal["good", "warn", "bad", "plain"]


class Markup(str):
    """HTML that is put into a page as it is; all other text is escaped."""

    __slots__ = ()


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def picture(png: bytes, alt: str, caption: str = "", is_lazy: bool = True) -> str:
    """A picture with a text for those who cannot see it, and a caption below."""
    loading = ' loading="lazy" decoding="async"' if is_lazy else ""
    image = f'<img src="{data_uri(png)}" alt="{escape(alt)}"{loading}>'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{image}{below}</figure>"


def tile(label: str, value: str, note: str = "", tone: Tone = "plain") -> str:
    """One number in large type."""
    below = f'<span class="note">{escape(note)}</span>' if note else ""
    return (
        f'<div class="tile {tone}"><span class="label">{escape(label)}</span>'
        f'<span class="value">{escape(value)}</span>{below}</div>'
    )


def badge(text: str, tone: Tone) -> Markup:
    return Markup(f'<span class="badge {tone}">{escape(text)}</span>')


def residue_link(first: int, last: int, words: str) -> Markup:
    """To residues of the model in its 3D view, by their indices."""
    return Markup(f'<a href="#model" data-first="{first}" data-last="{last}">{escape(words)}</a>')


def section(identifier: str, title: str, *parts: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f'<section id="{identifier}"><h2>{escape(title)}</h2>\n{body}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def not_yet(what: str) -> str:
    """In the place of a product that no stage has written."""
    return paragraph(f"Not yet: {what}.", "notyet")


def grid(parts: Iterable[str], kind: str = "pictures") -> str:
    return f'<div class="{kind}">' + "\n".join(parts) + "</div>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Cells are plain text, or `Markup`; a column whose cells all look like numbers is set flush right."""
    cells = [list(row) for row in rows]
    is_number = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(header))]
    kinds = [' class="number"' if flag else "" for flag in is_number]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(header, kinds))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(cell)}</td>" for cell, kind in zip(row, kinds)) + "</tr>" for row in cells
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)


def _is_number(text: str) -> bool:
    """Numbers with thin spaces between thousands, and the dash of a missing one."""
    try:
        float(text.replace("\u202f", "").replace("–", "0") or "x")
    except ValueError:
        return False
    return True


def folded(summary: str, content: str) -> str:
    """Content behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def page(
    title: str, header: str, links: Sequence[tuple[str, str]], body: Sequence[str], scripts: Sequence[str] = ()
) -> str:
    """The whole page; ``links`` are (section, label) of the menu.

    A browser runs the given scripts and no others, and fetches nothing from anywhere.
    """
    menu = "".join(f'<a href="#{identifier}">{escape(label)}</a>' for identifier, label in links)
    content = "\n".join(body)
    programs = "\n".join(f"<script>{_in_page(script)}</script>" for script in scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_CSS}</style>
</head>
<body>
<header>{header}</header>
<nav aria-label="Sections">{menu}</nav>
<main>
{content}
</main>
{programs}
</body>
</html>
"""


def _in_page(script: str) -> str:
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("a script of the page holds what would end its element; expected none of </script and <!--")
    return script


def _policy(scripts: Sequence[str]) -> str:
    """What a browser may run and fetch: the scripts told by their digests, pictures that stand in the page."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none';"
        " form-action 'none'"
    )


_CSS = """
:root { --ink:#1d2733; --soft:#5b6673; --line:#dfe4ea; --paper:#fff; --back:#f4f6f8; --blue:#1f6fb2;
  --good:#1d7a4c; --good-back:#e6f4ec; --warn:#92580a; --warn-back:#fdf1de; --bad:#b03024; --bad-back:#fbe9e7; }
* { box-sizing:border-box; }
html { scroll-behavior:smooth; scroll-padding-top:3.2rem; }
body { margin:0; background:var(--back); color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif; }
header,main { max-width:1280px; margin:0 auto; padding:0 1.25rem; }
header { padding-top:1.6rem; }
h1 { font-size:1.75rem; line-height:1.2; margin:0; overflow-wrap:anywhere; }
h2 { font-size:1.2rem; margin:0 0 .8rem; }
h3 { font-size:.98rem; margin:0; overflow-wrap:anywhere; }
p { margin:.3rem 0 .7rem; max-width:75ch; }
.kicker { color:var(--soft); font-size:.82rem; letter-spacing:.04em; text-transform:uppercase; margin:0 0 .2rem; }
.verdict { font-size:1.12rem; margin:.6rem 0 .2rem; max-width:90ch; }
.meta,.note,figcaption,.notyet { color:var(--soft); font-size:.86rem; }
.meta { overflow-wrap:anywhere; max-width:none; }
.notyet { font-style:italic; }
nav { position:sticky; top:0; z-index:2; background:rgba(244,246,248,.96); border-bottom:1px solid var(--line);
  display:flex; gap:.3rem 1.1rem; flex-wrap:wrap; padding:.55rem max(1.25rem,calc((100% - 1280px)/2 + 1.25rem)); }
nav a { color:var(--blue); text-decoration:none; font-size:.92rem; }
nav a:hover,nav a:focus { text-decoration:underline; }
section { background:var(--paper); border:1px solid var(--line); border-radius:10px; padding:1.1rem 1.25rem 1.25rem;
  margin:1rem 0; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(148px,1fr)); gap:.7rem; margin:1rem 0 1.1rem; }
.tile { background:var(--paper); border:1px solid var(--line); border-left:5px solid var(--line); border-radius:8px;
  padding:.55rem .8rem .6rem; display:flex; flex-direction:column; }
.tile .label { font-size:.8rem; color:var(--soft); }
.tile .value { font-size:1.6rem; font-weight:650; line-height:1.25; font-variant-numeric:tabular-nums; }
.tile .note { font-size:.8rem; line-height:1.35; }
.tile.good { border-left-color:var(--good); } .tile.warn { border-left-color:#d9900d; }
.tile.bad { border-left-color:var(--bad); }
.badge { display:inline-block; border-radius:999px; padding:.05rem .6rem; font-size:.78rem; font-weight:600;
  background:var(--back); white-space:nowrap; }
.badge.good { background:var(--good-back); color:var(--good); }
.badge.warn { background:var(--warn-back); color:var(--warn); }
.badge.bad { background:var(--bad-back); color:var(--bad); }
.pictures { display:grid; gap:1rem; grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));
  align-items:start; }
.wide { grid-template-columns:minmax(0,1fr); }
figure { margin:0; } figure img { max-width:100%; height:auto; display:block; }
figcaption { margin-top:.25rem; }
.cards { display:grid; gap:.8rem; }
.views { display:grid; gap:.8rem; grid-template-columns:minmax(0,3fr) minmax(0,5fr) minmax(0,5fr); align-items:start; }
.pairs { grid-template-columns:repeat(auto-fill,minmax(min(520px,100%),1fr)); }
.pairs .views { grid-template-columns:minmax(0,3fr) minmax(0,5fr); }
@media (max-width:760px) { .views,.pairs .views { grid-template-columns:minmax(0,1fr); } }
.card { border:1px solid var(--line); border-radius:8px; padding:.7rem;
  display:flex; flex-direction:column; gap:.5rem; }
.card.off { border-color:#e6b3ad; background:#fffaf9; }
.card .head { display:flex; justify-content:space-between; gap:.6rem; align-items:baseline; }
.card .reason { max-width:none; color:var(--bad); font-size:.88rem; margin:0; overflow-wrap:anywhere; }
.card .figures { font-size:.84rem; max-width:none; color:var(--soft); margin:0; font-variant-numeric:tabular-nums; }
.card img { width:100%; }
.decision { font-size:1.05rem; max-width:90ch; } .decision .badge { font-size:.95rem; margin-right:.4rem; }
h3:not(:first-child) { margin-top:1.1rem; }
.steps { display:flex; flex-wrap:wrap; gap:.4rem; list-style:none; margin:.2rem 0 1rem; padding:0; font-size:.86rem; }
.steps li { border:1px solid var(--line); border-radius:6px; padding:.2rem .6rem; background:var(--paper); }
.steps li.todo { color:var(--soft); border-style:dashed; background:none; }
.steps b { font-variant-numeric:tabular-nums; }
.scroll { overflow-x:auto; } table { border-collapse:collapse; font-size:.88rem; width:100%; }
caption { text-align:left; color:var(--soft); padding-bottom:.3rem; }
th,td { text-align:left; vertical-align:top; padding:.32rem .7rem .32rem 0; border-bottom:1px solid var(--line); }
th { font-weight:600; vertical-align:bottom; } td { overflow-wrap:break-word; }
.number { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap; padding-right:.9rem; }
th.number { white-space:normal; }
details { margin:.4rem 0; } summary { cursor:pointer; font-weight:600; font-size:.92rem; padding:.2rem 0; }
.stage { border:1px solid var(--line); border-radius:6px; overflow:hidden; }
.stage:has([data-active="1"]) { border-color:var(--blue); }
#model-stage { position:relative; width:100%; height:560px; }
#model-view { background:var(--paper); } #model-view:fullscreen { padding:1rem; overflow:auto; }
#model-view:fullscreen #model-stage { height:calc(100vh - 13rem); }
#model-status { min-height:1.5em; color:var(--ink); margin:.4rem 0; }
.controls { display:flex; flex-wrap:wrap; gap:.5rem 1rem; align-items:center; font-size:.88rem; margin:.6rem 0; }
.controls select,.controls button { font:inherit; } .controls label { white-space:nowrap; }
.controls input[type=range] { width:9rem; vertical-align:middle; margin:0 .4rem; }
.controls output { color:var(--soft); }
#model-legend,.keys { display:flex; flex-wrap:wrap; gap:.2rem 1rem; align-items:center; }
#model-legend i,.keys i { display:inline-block; width:.9em; height:.9em; border-radius:2px; margin-right:.35em; }
#model-legend b { display:inline-block; width:9rem; height:.8em; border-radius:2px; }
svg.profile { display:block; width:100%; height:auto; cursor:crosshair; }
svg.profile:focus:not(:focus-visible) { outline:none; }
svg.profile text { font-size:11px; fill:var(--soft); } svg.profile .chain { font-weight:700; fill:var(--ink); }
svg.profile .cursor { fill:#1d2733; fill-opacity:.22; }
.regions { columns:3 260px; list-style:none; padding:0; font-size:.88rem; }
.regions li { break-inside:avoid; padding:.1rem 0; }
@media print { nav { display:none; } section { break-inside:avoid; } body { background:#fff; } }
"""
