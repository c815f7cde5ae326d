"""Fields of one line of CSV, as flags with several keys are written.

Pure.
"""

from __future__ import annotations


def fields(text: str, *, anywhere: bool = True) -> list[str]:
    """Split at commas; double quotes hold commas, a doubled quote within them is a quote.

    ANYWHERE: a quote may open in the middle of a field, too; else it is one there.  Raises ValueError for a
    quote that is not closed.
    """
    found, field, quoted, index = [], "", False, 0
    while index < len(text):
        char = text[index]
        if char == '"' and (anywhere or quoted or not field):
            if quoted and text[index + 1 : index + 2] == '"':
                field += '"'
                index += 1
            else:
                quoted = not quoted
        elif char == "," and not quoted:
            found.append(field)
            field = ""
        else:
            field += char
        index += 1
    if quoted:
        raise ValueError("a quote is not closed")
    return [*found, field]
