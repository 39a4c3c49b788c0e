"""Tables in GitHub's Markdown."""

from collections.abc import Sequence


def markdown_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Lay out rows as Markdown, the first as the header, without a line break at the end.

    All columns but the first hold `numbers` and stand at the right, unless that is False. A `|` in
    a cell is escaped.
    """
    head, *body = rows
    rule = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    lines = [[_escaped(cell) for cell in line] for line in (head, rule, *body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
