"""Links into the repository lead to pages of this site: chapters, pages of source code, and copies of data files."""

import re
import shutil
from pathlib import Path

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from repository import ROOT, is_text, page_of
from sphinx.util import logging

LOG = logging.getLogger(__name__)
FOLDERS = ("minivit", "demos", "tests", "docs/site", ".ci")
FILES = ("setup.cfg", "pyproject.toml", "setup.py", "CITATION.cff", "LICENSE", "MANIFEST.in")


def rewrite_markdown(app, page: str, text: list[str]) -> None:
    """Mark the links of a Markdown page that leave docs/, so that the parser does not look for pages there."""
    folder = (ROOT / page).parent if page.startswith("docs/") else ROOT
    if not (page.startswith("docs/") or page == "CHANGELOG"):
        return

    def mark(match: re.Match) -> str:
        target, hash_sign, fragment = match[2].partition("#")
        path = (folder / target).resolve()
        is_page = path.suffix == ".md" and path.parent == ROOT / "docs" and path.stem != "README"
        if re.match(r"https?:|mailto:|#|source:", match[2]) or is_page or match[1].startswith("!") or not path.exists():
            return match[0]
        return f"{match[1]}(source:{path.relative_to(ROOT).as_posix()}{hash_sign}{fragment})"

    text[0] = re.sub(r"(!?\[[^\]]*\])\(([^)\s]+)\)", mark, text[0])


def resolve_links(app, doctree, page: str) -> None:
    """Turn `source:PATH` into the address of the page that shows the file."""
    for node in doctree.findall(nodes.reference):
        target = node.get("refuri", "")
        if not target.startswith("source:"):
            continue
        path, _, fragment = target.removeprefix("source:").partition("#")
        if not (ROOT / path).exists():
            LOG.warning("no such file in the repository: %s", path, location=node)
            continue
        line = fragment.removeprefix("L") if re.fullmatch(r"L\d+", fragment) else ""
        there = page_of(path, line)
        if there.startswith("files/"):
            app.env.minivit_files = getattr(app.env, "minivit_files", set()) | {path}
        node["refuri"] = "../" * page.count("/") + there + (f"#{fragment}" if fragment and not line else "")
        node["classes"] = [name for name in node["classes"] if name != "external"]
        node["internal"] = True


def write_source_pages(app, error) -> None:
    """Write a page for each file of source code, and one for each folder that lists what is in it."""
    if error is not None:
        return
    files = [*FILES, *sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS
                             for path in (ROOT / folder).rglob("*") if path.is_file())]
    files = [file for file in files if is_text(file) and not any(part in file for part in ("__pycache__", ".egg-info"))
             and (ROOT / file).stat().st_size < 300_000]
    folders: dict[str, set[str]] = {}
    for file in files:
        write_page(app, f"source/{file}.html", file, source_html(file))
        for parent in Path(file).parents:
            folders.setdefault(parent.as_posix(), set()).add(Path(file).relative_to(parent).parts[0])
    for folder, children in folders.items():
        write_page(app, f"source/{folder}/index.html".replace("/./", "/"), folder, folder_html(folder, children))


def write_page(app, address: str, title: str, body: str) -> None:
    """Write a page without the theme's sidebar: there are many, and a list of all chapters would make each large."""
    page = app.builder.templates.render("source.html", {
        "title": title, "body": body, "root": "../" * address.count("/"), "project": app.config.html_title})
    path = Path(app.outdir) / address
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def source_html(file: str) -> str:
    text = (ROOT / file).read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(file)
    except ClassNotFound:
        lexer = TextLexer()
    code = highlight(text, lexer, HtmlFormatter(cssclass="highlight source", linenos="inline", lineanchors="L",
                                                anchorlinenos=True))
    code = re.sub(r'(id|name)="L-(\d+)"', r'\1="L\2"', code).replace('href="#L-', 'href="#L')
    code = re.sub(r'<a id="(L\d+)" name="L\d+"', r'<a id="\1"', code)
    chapter = page_of(file)
    up = "../" * (file.count("/") + 1)
    link = f' It has a <a href="{up}{chapter}">chapter</a>.' if chapter.startswith("chapters/") else ""
    parent = "index.html"
    return f'<h1>{file}</h1><p>In <a href="{parent}">{Path(file).parent.as_posix()}</a>.{link}</p>{code}'


def folder_html(folder: str, children: set[str]) -> str:
    items = []
    for child in sorted(children, key=lambda name: ((ROOT / folder / name).is_file(), name)):
        is_folder = (ROOT / folder / child).is_dir()
        address, name = (f"{child}/index.html", f"{child}/") if is_folder else (f"{child}.html", child)
        items.append(f'<li><a href="{address}"><code>{name}</code></a></li>')
    return f'<h1>{folder if folder != "." else "Source code"}</h1><ul class="files">{"".join(items)}</ul>'


def copy_files(app, error) -> None:
    """Copy the data files that pages link."""
    for path in sorted(getattr(app.env, "minivit_files", set())) if error is None else ():
        target = Path(app.outdir) / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)


def setup(app) -> dict:
    app.connect("source-read", rewrite_markdown)
    app.connect("doctree-resolved", resolve_links)
    app.connect("build-finished", write_source_pages)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True}
