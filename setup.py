"""The long description: README.md with links that work outside the repository. All other metadata is in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/minivit/minivit"


def absolute_links(markdown: str, revision: str = "main") -> str:
    """Make relative links of a Markdown text absolute: images to the raw file, other links to the page."""
    def replace(match):
        image, text, target = match.groups()
        if re.match(r"https?://|#", target):
            return match[0]
        place = "raw" if image else "blob"
        return f"{image}[{text}]({REPOSITORY}/{place}/{revision}/{target})"

    return re.sub(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)", replace, markdown)


if __name__ == "__main__":
    readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    setup(long_description=absolute_links(readme), long_description_content_type="text/markdown")
