"""Checks of text: documentation, comments and the subjects of commits.

    python3 layer/build/check_text.py [--commits RANGE]

- Links in Markdown resolve: files and anchors. So do names of files in Markdown, and pages of `docs` that sources name.
- Lines of prose in Markdown and lines of comments have at most 120 characters. Tables, code and targets of links are exempt.
- A doc comment does not open with What, Whether, Whoever, Who, How, Where, When or Why.
- A sentence of a comment, a docstring or a paragraph in Markdown has at most 25 words. A span of code counts as a word.
- Messages that docs/troubleshooting.md and the renamed texts of CHANGELOG.md quote are in the sources.
- `rust-version` in Cargo.toml is the version of rust-toolchain.toml.
- Subjects of commits in RANGE have at most 72 characters. Without RANGE, these are the commits that origin/main does not
  have; without that branch nothing is checked.

Prints each violation as `file:line: message`. Exits with 1 if there is one.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_LINE = 120
MAX_WORDS = 25
MAX_SUBJECT = 72

# Folders that hold no text of the project.
SKIPPED = {".git", "target", "dist", "node_modules", "corpus", "artifacts", "__pycache__"}
HASH_COMMENTS = {".py", ".sh", ".toml", ".yml", ".yaml"}
OPENING = re.compile(r"(What|Whether|Whoever|Who|How|Where|When|Why)\b")
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(([^()\s]*(?:\([^()]*\))?[^()\s]*)\)")
TARGET = re.compile(r"\]\([^()\s]*(?:\([^()]*\))?[^()\s]*\)")
URL = re.compile(r"<?https?://\S+")
COMMENT = re.compile(r"\s*(///|//!|//|#)(?!!/)\s?(.*)$")
ITEM = re.compile(r"([-*]|\d+\.) ")
SENTENCE_END = re.compile(r"(?<=[.!?])[)*\"]*\s+")

violations = []


def report(path, number, message):
    violations.append(f"{path.relative_to(ROOT)}:{number}: {message}")


def files():
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT).parts
        if not SKIPPED.intersection(relative) and path.is_file() and not path.is_symlink():
            yield path


def outside_code(text):
    """Numbered lines of Markdown that are in no fenced block."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        mark = line.lstrip()[:3]
        if fence:
            if mark == fence:
                fence = None
        elif mark in ("```", "~~~"):
            fence = mark
        else:
            yield number, line


def anchors(path, cache={}):
    """Anchors of a page, as GitHub makes them of headings."""
    if path not in cache:
        cache[path] = set()
        for _, line in outside_code(path.read_text(encoding="utf-8")):
            heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
            if heading:
                words = LINK.sub(lambda link: link[1].strip("![]"), heading[1]).lower()
                slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
                unique, count = slug, 0
                while unique in cache[path]:
                    count += 1
                    unique = f"{slug}-{count}"
                cache[path].add(unique)
    return cache[path]


def check_link(path, number, target):
    target = urllib.parse.unquote(target.strip("<>"))
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return
    name, _, anchor = target.partition("#")
    page = (path.parent / name).resolve() if name else path
    if not page.exists():
        report(path, number, f"the link to {target} leads to no file")
    elif anchor and page.suffix == ".md" and anchor not in anchors(page):
        report(path, number, f"the link to {target} leads to no heading")


def paragraphs(lines):
    """Paragraphs and items of lists, each with the number of its first line.

    `lines` are numbers, kinds and texts. A change of the kind, an empty text, a table and a heading end a paragraph, as do
    the lines of a fenced block.
    """
    first, kind, words, fence = 0, None, [], False
    for number, mark, line in [*lines, (0, None, "")]:
        line = line.strip()
        is_fence = line.startswith("```")
        if words and (mark != kind or is_fence or not line or line[0] in "|#<" or ITEM.match(line)):
            yield first, " ".join(words)
            words = []
        fence = mark == kind and fence
        kind = mark
        if is_fence:
            fence = not fence
        elif mark is not None and line and not fence and line[0] not in "|#<":
            first = first if words else number
            words.append(line)


def check_sentences(path, lines):
    for number, paragraph in paragraphs(lines):
        plain = re.sub(r"`[^`]*`", "code", URL.sub("link", TARGET.sub("]", paragraph)))
        for sentence in SENTENCE_END.split(plain):
            count = sum(any(letter.isalnum() for letter in word) for word in sentence.split())
            if count > MAX_WORDS:
                report(path, number, f"{count} words in the sentence {sentence[:40]!r}…; at most {MAX_WORDS}")


def check_markdown(path, text):
    bases = [ROOT, ROOT / "extension/src", path.parent]
    lines = dict(outside_code(text))
    # A link can break over lines. Code becomes empty lines, so that the numbers stay.
    plain = "\n".join(lines.get(number, "") for number in range(1, max(lines, default=0) + 1))
    for link in LINK.finditer(plain):
        check_link(path, plain.count("\n", 0, link.end()) + 1, link[2])
    check_sentences(path, ((number, "", lines.get(number, "")) for number in range(1, max(lines, default=0) + 1)))
    for number, line in lines.items():
        for name in re.findall(r"`([\w./-]+/[\w.-]+\.(?:rs|py|sh|md|toml|json))`", line):
            if not name.startswith(("dist/", "target/", "/")) and not any((base / name).exists() for base in bases):
                report(path, number, f"there is no file {name}")
        if line.lstrip().startswith("|"):
            continue
        prose = URL.sub("", TARGET.sub("]", line))
        if len(prose) > MAX_LINE:
            report(path, number, f"{len(prose)} characters in a line of prose; at most {MAX_LINE}")


def check_comments(path, text):
    rust = path.suffix in (".rs", ".c")
    marks = ("///", "//!", "//") if rust else ("#",)
    comments = (COMMENT.match(line) for line in text.splitlines())
    comments = (found.groups() if found and found[1] in marks else (None, "") for found in comments)
    check_sentences(path, ((number, *comment) for number, comment in enumerate(comments, 1)))
    if path.suffix == ".py":
        for found in re.finditer(r'^[ \t]*"""(.*?)"""', text, re.MULTILINE | re.DOTALL):
            first = text.count("\n", 0, found.start()) + 1
            check_sentences(path, ((number, "", line) for number, line in enumerate(found[1].splitlines(), first)))
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        is_comment = words.startswith("//") if rust else words.startswith("#")
        is_table = words.lstrip("/!# ").startswith("|")
        if is_comment and len(line) > MAX_LINE and not is_table and not URL.search(line):
            report(path, number, f"{len(line)} characters in a line of a comment; at most {MAX_LINE}")
        mark = words[:3] if words[:3] in ("///", "//!") and rust else ""
        if mark and mark != before and (found := OPENING.match(words[3:].strip())):
            report(path, number, f"a doc comment opens with {found[1]}: open with a noun or a verb in the third person")
        before = mark
        if not rust and (found := re.match(r'"""' + OPENING.pattern, words)):
            report(path, number, f"a docstring opens with {found[1]}: open with a noun or a verb in the third person")
        for page in re.findall(r"\bdocs/[a-z.-]+\.(?:md|json)\b", line):
            if not (ROOT / page).exists() and "github.com" not in line:
                report(path, number, f"there is no {page}")


def check_quotes(sources):
    """Messages in the first column of the page on troubleshooting, and the new texts among the changes."""
    # A literal in Rust goes on in the next line behind a backslash.
    literals = re.sub(r"\\\n\s*", "", sources).replace('\\"', '"').replace("{{", "{").replace("}}", "}")
    page = ROOT / "docs/troubleshooting.md"
    for number, line in outside_code(page.read_text(encoding="utf-8")):
        check_quote(page, number, re.match(r"\| (`+)(.+?)\1 \|", line), literals)
    page, is_renamed = ROOT / "CHANGELOG.md", False
    for number, line in outside_code(page.read_text(encoding="utf-8")):
        if line.startswith(("## ", "### ")):
            is_renamed = line == "### Renamed texts"
        if is_renamed:
            check_quote(page, number, re.match(r"(?:.*`.*) \| (`+)(.+?)\1(?!`)[^`|]*\|$", line), literals)


def check_quote(page, number, quote, literals):
    for part in quote[2].split("…") if quote else ():
        if len(part.strip()) > 3 and part.strip() not in literals:
            report(page, number, f"no source has the message {part.strip()!r}")


def check_commits(commits):
    git = ["git", "-C", str(ROOT)]
    if commits is None:
        known = subprocess.run([*git, "rev-parse", "-q", "--verify", "origin/main"], capture_output=True, check=False)
        if known.returncode != 0:
            return
        commits = "origin/main..HEAD"
    log = subprocess.run(
        [*git, "log", "--no-merges", "--format=%h %s", commits], capture_output=True, check=True, encoding="utf-8"
    )
    for line in log.stdout.splitlines():
        commit, _, subject = line.partition(" ")
        if len(subject) > MAX_SUBJECT:
            violations.append(f"commit {commit}: {len(subject)} characters in the subject; at most {MAX_SUBJECT}: {subject}")


def check_toolchain():
    channel = re.search(r'^channel = "(\d+\.\d+)\.\d+"$', (ROOT / "rust-toolchain.toml").read_text("utf-8"), re.MULTILINE)
    least = re.search(r'^rust-version = "(.*)"$', (ROOT / "Cargo.toml").read_text("utf-8"), re.MULTILINE)
    if not channel or not least or channel[1] != least[1]:
        report(ROOT / "rust-toolchain.toml", 1, "the channel is not a full version of `rust-version` in Cargo.toml")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", help="range of commits whose subjects are checked")
    arguments = parser.parse_args()
    sources = []
    for path in files():
        if path.suffix == ".md":
            check_markdown(path, path.read_text(encoding="utf-8"))
        elif path.suffix in HASH_COMMENTS | {".rs", ".c"} or path.name == "Makefile":
            text = path.read_text(encoding="utf-8")
            check_comments(path, text)
            if path.suffix == ".rs" and "tests" not in path.relative_to(ROOT).parts:
                sources.append(text)
    check_quotes("\n".join(sources))
    check_toolchain()
    check_commits(arguments.commits)
    for violation in violations:
        print(violation)
    sys.exit(bool(violations))


main()
