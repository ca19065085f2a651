"""A diagram as text for other programs to draw: Graphviz's DOT, and Mermaid."""

from __future__ import annotations

from fkdoctor.render.diagram import COLOURS, Arrow, Diagram


def render_dot(diagram: Diagram) -> str:
    """The diagram in DOT, for `dot -Tsvg`."""
    lines = [
        f"digraph {_in_quotes(diagram.database)} {{",
        "  rankdir=BT;",
        '  node [shape=box, fontname="monospace"];',
    ]
    for box in diagram.boxes:
        more = ', style=filled, fillcolor="#fff0e0"' if box.cyclic else ""
        lines.append(f"  {_in_quotes(str(box.table))} [label={_in_quotes(box.title)}{more}];")
    for arrow in diagram.arrows:
        source, target = (diagram.boxes[end].table for end in (arrow.source, arrow.target))
        words = {
            "color": COLOURS[arrow.rule],
            "tooltip": f"{arrow.label}: {arrow.columns}, {arrow.rule}",
            "style": "dashed" if arrow.loose else "",
            "penwidth": "2.6" if arrow.cyclic else "",
        }
        told = ", ".join(f"{name}={_in_quotes(word)}" for name, word in words.items() if word)
        lines.append(f"  {_in_quotes(str(source))} -> {_in_quotes(str(target))} [{told}];")
    return "\n".join((*lines, "}", ""))


def _in_quotes(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def render_mermaid(diagram: Diagram) -> str:
    """The diagram as a Mermaid flowchart, which code hosts draw inside Markdown."""
    lines = ["flowchart BT"]
    lines += (
        f'  t{number}["{_as_entities(box.title)}"]' for number, box in enumerate(diagram.boxes)
    )
    lines += (_mermaid_arrow(arrow) for arrow in diagram.arrows)
    for rule, colour in COLOURS.items():
        numbers = [str(n) for n, arrow in enumerate(diagram.arrows) if arrow.rule == rule]
        if numbers:
            lines.append(f"  linkStyle {','.join(numbers)} stroke:{colour}")
    cyclic = [f"t{number}" for number, box in enumerate(diagram.boxes) if box.cyclic]
    if cyclic:
        lines += ["  classDef cyclic fill:#fff0e0", f"  class {','.join(cyclic)} cyclic"]
    return "\n".join((*lines, ""))


def _mermaid_arrow(arrow: Arrow) -> str:
    line = "-.->" if arrow.loose else "==>" if arrow.cyclic else "-->"
    return f"  t{arrow.source} {line}|{arrow.rule}| t{arrow.target}"


def _as_entities(text: str) -> str:
    """The text without any sign that means something to Mermaid."""
    return "".join(sign if sign.isalnum() or sign in "._ " else f"#{ord(sign)};" for sign in text)
