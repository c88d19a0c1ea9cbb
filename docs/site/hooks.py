"""Hooks of the documentation site (mkdocs.yml): make links that leave docs/ work on the site.

A page in docs/ links to files outside it as the repository needs it, for instance to
``../CHANGELOG.md``. On the site each file that a page links to, and its own links in turn, has the
same place below the root. README.md is ``readme.md`` there: index.md is the home page.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files, config):
    """Add every file outside docs/ that a page links to, directly or by another one."""
    found = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(found)
    for source in found:  # it grows
        for _, link in LINK.findall((ROOT / source).read_text(encoding="utf-8")):
            target = _target(source, link)
            if target not in seen and not target.startswith("docs/") and (ROOT / target).is_file():
                seen.add(target)
                found += [target] if target.endswith(".md") else []
                files.append(File.generated(config, _place(target), abs_src_path=ROOT / target))
    return Files(list(files))


def on_page_markdown(markdown, page, config, files):
    """Point the links of a page to where their targets are on the site."""
    source = str(Path(page.file.abs_src_path).relative_to(ROOT))
    folder = str(PurePosixPath(page.file.src_uri).parent)

    def moved(match):
        return match[1] + relpath(_place(_target(source, match[2])), folder)

    return LINK.sub(moved, markdown)


def _target(source, link):
    """Return the path in the repository that a link of a page leads to; of a folder its README."""
    path = normpath(str(PurePosixPath(source).parent / link))
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def _place(path):
    """Return where a file of the repository is on the site."""
    return "readme.md" if path == "README.md" else path.removeprefix("docs/")
