"""A template around the text."""

from collections.abc import Sequence

from kdedge.errors import KdedgeError


def raw_prompt(template: str, texts: Sequence[str]) -> list[str]:
    """Put each text into a template, `"Review: {text} Good or bad?"`.

    Raises:
        KdedgeError: the template does not hold `{text}` exactly once.
    """
    if template.count("{text}") != 1:
        raise KdedgeError(f"template: {template!r}; it must hold {{text}} once.")
    before, after = template.split("{text}")
    return [f"{before}{text}{after}" for text in texts]
