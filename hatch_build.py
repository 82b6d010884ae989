"""The package index's copy of the README: links to files become their names, because there they lead nowhere.

An index shows the README without the repository around it, and there is no address to make such links absolute
with. Links within the page work there and stay, and code is left alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["DescriptionHook", "without_links_to_files"]

CODE = re.compile(r"(^```.*?^```|`[^`\n]+`(?!\]))", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?!#|\w+:)(?P<target>[^)\s]+)\)")
"""A link or a picture in Markdown whose target is a file: neither a heading of the same page nor with a scheme."""


def without_links_to_files(text: str) -> str:
    """The same Markdown with a link's text in its place, and with the name of its file where the text is another."""
    parts = CODE.split(text)
    return "".join(part if CODE.fullmatch(part) else LINK.sub(_named, part) for part in parts)


def _named(link: re.Match[str]) -> str:
    text, target = link["text"], link["target"].partition("#")[0]
    return text if target in text else f"{text} (`{target}`)"


class DescriptionHook(MetadataHookInterface):
    """Gives the build its ``readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the text into the metadata."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": without_links_to_files(text)}
