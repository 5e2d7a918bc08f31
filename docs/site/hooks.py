"""Hooks of the documentation site: pages from the top folder, and pages made from the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
TOP_PAGES = (
    "README.md",
    "INSTALL.md",
    "DATASET.md",
    "MODEL_ZOO.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
)
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the top folder and the reference of all config keys."""
    for name in TOP_PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    content = "# Configuration keys\n\n" + key_reference()
    files.append(File.generated(config, "reference/config.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links between the top folder and docs/ at pages of the site.

    A link to any other file of the project, such as a config, becomes plain text: the site does not
    hold it.
    """
    depth = page.file.src_uri.count("/")

    def replace(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        top = page.file.src_uri in TOP_PAGES
        base = ROOT if top else ROOT / "docs" / Path(page.file.src_uri).parent
        path = (base / target).resolve()
        if path.is_relative_to(ROOT / "docs"):
            inside = str(path.relative_to(ROOT / "docs"))
        elif str(path.relative_to(ROOT)) in TOP_PAGES:
            inside = str(path.relative_to(ROOT))
        else:
            return text.strip("!").strip("[]") if path.exists() else match[0]
        return f"{text}({'../' * depth}{inside}{anchor})"

    return LINK.sub(replace, markdown)


def key_reference() -> str:
    """Return Markdown that lists every config key with default, meaning and range."""
    from nightcrawler.config.reference import keys_as_markdown

    return keys_as_markdown()
