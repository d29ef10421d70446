"""Write Markdown tables whose cells may hold anything."""

import re


def write_table(header: list[str], rows: list[list[str]], align: str = "") -> str:
    """
    A table, with what would end a cell or a line escaped.

    ```python
    >>> print(write_table(["a", "n"], [["x|y", "1"]], align="lr"))
    | a | n |
    | --- | ---: |
    | x\\|y | 1 |
    ```

    Args:
        header (`list[str]`): Of the columns.
        rows (`list[list[str]]`): Their cells.
        align (`str`, *optional*): A letter for each column: `l` or `r`.
    """
    rules = ["---:" if align[number : number + 1] == "r" else "---" for number in range(len(header))]
    lines = [[escape_cell(cell) for cell in header], rules, *([escape_cell(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape_cell(text: str) -> str:
    """One line without a bare `|`; a marker of ours in it marks nothing."""
    return escape_markers(" ".join(str(text).split())).replace("\\|", "|").replace("|", "\\|")


def escape_markers(text: str) -> str:
    """Comments that would be taken for the beginning or end of a generated part, as plain text."""
    return re.sub(r"<!--(?=\s*llava:)", "&lt;!--", text)


__all__ = ["escape_cell", "escape_markers", "write_table"]
