"""The documentation names what is there: files, definitions, commands, numbers, faults.

Only words in backticks are looked at. A path that begins with one of our folders must exist, a dotted name
must lead to a definition, ``Class.field`` to a field of a class of that name. Tables with a column "Value"
give the numbers that the code has; in ``docs/reference/names.md`` only the column "Ours" speaks of our code.
The figures of ``docs/raft.md`` are excerpts of transcripts, and its table of rules is the core's.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final

import click
import pytest

from tercet.__main__ import COMMANDS, SIM_COMMANDS
from tercet.core.raft import RULES
from tercet.sim.faults import KINDS

ROOT = Path(__file__).parent.parent
FOLDERS = ("core", "jepsen_like", "net", "reports", "sim")
DOCS = sorted((ROOT / "docs").rglob("*.md"))
NAMES = ROOT / "docs" / "reference" / "names.md"
FAULTS = ROOT / "docs" / "faults.md"
RAFT = ROOT / "docs" / "raft.md"
TRANSCRIPTS = ROOT / "tests" / "core" / "transcripts"
#: The fault catalogue: so many rows of each letter.
CATALOGUE: Final[Mapping[str, int]] = {"N": 15, "P": 8, "D": 8, "C": 4, "M": 3, "L": 1, "O": 5, "K": 1}

PATH = re.compile(r"(?:core|jepsen_like|net|reports|sim|src|tests|docs)/[\w./-]*")
FILE = re.compile(r"\w+\.(?:py|proto)")
DOTTED = re.compile(r"(?:tercet\.)?(?:core|jepsen_like|net|reports|sim)(?:\.\w+)+")
MEMBER = re.compile(r"[A-Z]\w*\.\w+")
COMMAND = re.compile(r"tercet( .*)?")


# ---- what the code defines


@dataclass
class Names:
    """What a module or a class defines: names, the values they are given, classes, and the names of bases."""

    values: dict[str, ast.expr | None] = field(default_factory=dict)
    classes: dict[str, Names] = field(default_factory=dict)
    bases: tuple[str, ...] = ()


def names_of(body: list[ast.stmt]) -> Names:
    found = Names()
    for node in body:
        match node:
            case ast.ClassDef(name=name):
                found.classes[name] = inner = names_of(node.body)
                inner.bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
                inner.values |= {k: v for k, v in own_fields(node).items() if k not in inner.values}
                found.values[name] = None
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.values[name] = None
            case ast.Assign(targets=targets, value=value):
                found.values |= {target.id: value for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name), value=default):
                found.values[name] = default
    return found


def own_fields(node: ast.ClassDef) -> dict[str, ast.expr | None]:
    """What methods assign to ``self``."""
    found: dict[str, ast.expr | None] = {}
    for inner in ast.walk(node):
        match inner:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=attr)], value=value):
                found.setdefault(attr, value)
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=attr), value=default):
                found.setdefault(attr, default)
            case ast.Tuple(elts=elements, ctx=ast.Store()):
                attributes = [e for e in elements if isinstance(e, ast.Attribute)]
                found |= {e.attr: None for e in attributes if e.attr not in found}
    return found


@cache
def modules() -> dict[str, Names]:
    """Every module of ours by its dotted name without ``tercet``."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.name.endswith("_pb2.py"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found[name] = names_of(ast.parse(path.read_text()).body)
    return found


@cache
def classes() -> dict[str, list[Names]]:
    """Every class by its name; some names are used in several modules."""
    found: dict[str, list[Names]] = {}
    for module in modules().values():
        for name, inner in module.classes.items():
            found.setdefault(name, []).append(inner)
    return found


@cache
def all_names() -> frozenset[str]:
    """Everything that a module defines at its top."""
    return frozenset(name for module in modules().values() for name in module.values)


@cache
def all_strings() -> frozenset[str]:
    """Every string in the code."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    trees = (ast.parse(path.read_text()) for path in paths if not path.name.endswith("_pb2.py"))
    return frozenset(
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def has_member(owner: Names, name: str) -> bool:
    """Whether a class, or a base of it, defines ``name``."""
    if name in owner.values:
        return True
    return any(has_member(base, name) for each in owner.bases for base in classes().get(each, ()))


def resolve(dotted: str) -> tuple[bool, ast.expr | None]:
    """Whether a dotted name leads to a module or a definition, and the value that it is given there."""
    parts = dotted.removeprefix("tercet.").split(".")
    for length in range(len(parts), 0, -1):
        place = modules().get(".".join(parts[:length]))
        if place is not None:
            break
    else:
        return False, None
    rest = parts[length:]
    if not rest:
        return True, None
    for owner in rest[:-1]:
        if owner not in place.classes:
            return False, None
        place = place.classes[owner]
    return has_member(place, rest[-1]), place.values.get(rest[-1])


# ---- what the documents say


def quoted(text: str) -> list[str]:
    """The words in backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Each table as its heads and its rows of cells."""
    lines = [line for line in text.splitlines() if line.startswith("|") or not line.strip()]
    for block in "\n".join(lines).split("\n\n"):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().splitlines()]
        if len(rows) > 2:
            yield rows[0], rows[2:]


def command_exists(words: list[str]) -> bool:
    if not words or words[0].startswith("-"):
        return True
    if words[0] == "sim":
        return len(words) == 1 or words[1] in SIM_COMMANDS
    if words[0] not in COMMANDS:
        return False
    module, name = COMMANDS[words[0]]
    command: click.Command = getattr(import_module(module), name)
    if not isinstance(command, click.Group) or len(words) == 1 or words[1].startswith("-"):
        return True
    return words[1] in command.commands


def exists(word: str) -> bool:
    """Whether a word in backticks is there, when it looks like something that must be."""
    if PATH.fullmatch(word):
        return (ROOT / word).exists()
    if FILE.fullmatch(word):
        return any(any((ROOT / folder).rglob(word)) for folder in (*FOLDERS, "tests"))
    if DOTTED.fullmatch(word):
        return resolve(word)[0]
    if MEMBER.fullmatch(word):
        owner, _, name = word.partition(".")
        return any(has_member(each, name) for each in classes().get(owner, ()))
    if found := COMMAND.fullmatch(word):
        return command_exists((found[1] or "").split())
    return True


def is_ours(word: str) -> bool:
    """As ``exists``, for the column "Ours": there every word must be something, and be there."""
    if re.fullmatch(r'"[^"]+"', word):
        return word[1:-1] in all_strings()
    if re.fullmatch(r"[A-Za-z_]\w*", word):
        return word in all_names()
    looks = any(pattern.fullmatch(word) for pattern in (PATH, FILE, DOTTED, MEMBER))
    return looks and exists(word)


def unknown_words(text: str, *, only_ours: bool) -> list[str]:
    """The words of a document that name something which is not there."""
    if not only_ours:
        return [word for word in quoted(text) if not exists(word)]
    found = []
    for heads, rows in tables(text):
        column = heads.index("Ours")
        for row in rows:
            words = quoted(row[column])
            found += [word for word in words if not is_ours(word)]
            if not words and row[column] != "-":
                found.append(row[column])
    return found


_OPERATORS: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Mult: operator.mul, ast.Add: operator.add, ast.Sub: operator.sub, ast.LShift: operator.lshift,
}  # fmt: skip


def number(node: ast.expr | None) -> float | None:
    """The number that an expression spells; None when it is anything else."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.BinOp(left=left, op=op, right=right):
            first, second = number(left), number(right)
            if first is not None and second is not None and type(op) in _OPERATORS:
                return _OPERATORS[type(op)](first, second)
    return None


def wrong_values(text: str) -> list[str]:
    """Rows of tables of values that the code contradicts, or says nothing about."""
    found = []
    for heads, rows in tables(text):
        if heads[1] != "Value":
            continue
        for row in rows:
            said = number(ast.parse(row[1], mode="eval").body)
            real = number(resolve(quoted(row[0])[0])[1])
            if said is None or said != real:
                found.append(f"{row[0]}: {row[1]}, in the code {real}")
    return found


FaultRow = tuple[str, str, str, str, str, bool]


def documented_faults(text: str) -> list[FaultRow]:
    """Kind, code, family, targets, amount, destructive."""
    for heads, rows in tables(text):
        if heads[0] == "Kind":
            return [
                (quoted(row[0])[0], row[1], row[2], row[3], row[4], row[0].endswith("(destructive)"))
                for row in rows
            ]
    return []


def real_faults() -> list[FaultRow]:
    return [
        (
            name,
            kind.code,
            kind.family,
            kind.targets,
            f"{kind.amounts[0]}..{kind.amounts[1]} {kind.unit}" if kind.unit else "",
            kind.destructive,
        )
        for name, kind in KINDS.items()
    ]


def missing_rows(text: str) -> list[str]:
    """The rows of the catalogue that a document says are not there yet."""
    return [row[0] for heads, rows in tables(text) if heads[0] == "Id" for row in rows]


def figures(text: str) -> list[tuple[str, str]]:
    """The fenced excerpts of transcripts: name and what is quoted."""
    return re.findall(r"^```text (raft_\w+)\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)


def is_excerpt(quoted_text: str, whole: str) -> bool:
    """Whether the parts, which lines of dots separate, are whole lines of a text and in its order."""
    place, whole = 0, f"\n{whole}\n"
    for part in quoted_text.split("\n...\n"):
        place = whole.find(f"\n{part}\n", place)
        if place < 0:
            return False
        place += len(part) + 1
    return True


def documented_rules(text: str) -> list[list[str]]:
    """The rows of the table of rules: rule, sentence, source."""
    return [row for heads, rows in tables(text) if heads[0] == "Rule" for row in rows]


# ---- the tests


def test_there_is_documentation() -> None:
    assert {"architecture.md", "faults.md", "log-format.md", "names.md"} <= {path.name for path in DOCS}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(path: Path) -> None:
    assert unknown_words(path.read_text(), only_ours=path == NAMES) == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_numbers_of_a_document_are_those_of_the_code(path: Path) -> None:
    assert wrong_values(path.read_text()) == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()) if "://" not in link]
    assert [link for link in links if not (path.parent / link).is_file()] == []


def test_the_table_of_faults_is_the_one_of_the_simulator() -> None:
    assert documented_faults(FAULTS.read_text()) == real_faults()


def test_every_row_of_the_catalogue_is_either_a_kind_or_said_to_be_missing() -> None:
    missing = missing_rows(FAULTS.read_text())
    catalogue = [f"{letter}{n}" for letter, count in CATALOGUE.items() for n in range(1, count + 1)]
    codes = {code for kind in KINDS.values() for code in kind.code.split(", ")}
    assert missing == [row for row in catalogue if row not in codes]
    assert codes <= set(catalogue)


def test_the_figures_of_the_walk_through_raft_are_what_the_transcripts_say() -> None:
    found = figures(RAFT.read_text())
    assert len(found) >= 15
    wrong = [name for name, text in found if not is_excerpt(text, (TRANSCRIPTS / f"{name}.txt").read_text())]
    assert wrong == []


def test_a_figure_that_says_something_else_is_noticed() -> None:
    whole = "one\ntwo\nthree\nfour"
    assert is_excerpt("one\n...\nthree\nfour", whole)
    assert not is_excerpt("one\nthree", whole)
    assert not is_excerpt("three\n...\none", whole)
    assert not is_excerpt("thre", whole)


def test_the_table_of_rules_is_the_one_of_the_core() -> None:
    assert documented_rules(RAFT.read_text()) == [[rule, *said] for rule, said in RULES.items()]


@pytest.mark.parametrize(
    "word",
    [
        "net/loops.py", "core/raft/steps/", "stepping.py", "core.raft.step.leap", "tercet.net.nowhere",
        "net.loop.Limits.inbox_letters", "Progress.match_indices", "NoSuchClass.field", "tercet sing",
        "tercet sim dance", "tercet campaign lose",
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_noticed(word: str) -> None:
    assert unknown_words(f"As `{word}` shows.", only_ours=False) == [word]


@pytest.mark.parametrize("word", ["Progress.match_indices", "NoSuchName", "any words", '"no such text"'])
def test_a_name_of_ours_that_is_not_there_is_noticed(word: str) -> None:
    table = f"| Raft | Ours |\n|---|---|\n| term | `Progress.match_index`, `{word}` |\n"
    assert unknown_words(table, only_ours=True) == [word]


@pytest.mark.parametrize("value", ["8191", "1 << 14"])
def test_a_number_that_is_wrong_is_noticed(value: str) -> None:
    table = "| Name | Value |\n|---|---|\n| `net.loop.Limits.inbox_messages` | {} |\n"
    assert wrong_values(table.format("8192")) == wrong_values(table.format("1 << 13")) == []
    assert len(wrong_values(table.format(value))) == 1


def test_a_fault_that_is_described_wrongly_is_noticed() -> None:
    text = FAULTS.read_text()
    for right, wrong in (("`clog`", "`clogs`"), ("1..100 ms", "1..99 ms"), (" (destructive)", "")):
        assert right in text
        assert documented_faults(text.replace(right, wrong)) != real_faults()
