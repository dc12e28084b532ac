"""Captions: (class, template) pairs, tokenised once as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from calib_jax.core.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class CaptionTable:
    """Every (class, template) caption of an experiment.

    Attributes:
        class_names: What stands in the templates' braces.
        templates: Sentences with `{}`.
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises a ConfigError for a template without braces or an empty table."""
        if not self.class_names or not self.templates:
            raise ConfigError(
                f"captions: got {len(self.class_names)} class names and {len(self.templates)} "
                "templates, expected at least one of each. Name them in the config."
            )
        check_templates(self.templates, field="templates")

    def texts(self) -> list[str]:
        """All captions; caption (class i, template j) is row `i * len(templates) + j`."""
        # Not `format`: it would stumble over other braces in a template.
        return [
            template.replace("{}", name) for name in self.class_names for template in self.templates
        ]

    def row(self, class_index: int, template_index: int) -> int:
        """The row of a caption in the table."""
        return class_index * len(self.templates) + template_index

    def template_indices(self, templates: Sequence[str]) -> tuple[int, ...]:
        """The columns of some of the table's templates."""
        return tuple(self.templates.index(template) for template in templates)


def check_templates(templates: Sequence[str], *, field: str) -> None:
    """Raises a ConfigError for a template without a place for the class name, or with several.

    Args:
        templates: Sentences.
        field: That holds them, for the message.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(
                f"{field}: got {template.count('{}')} places '{{}}' for the class name in "
                f"{template!r}, expected one. Correct the template."
            )
