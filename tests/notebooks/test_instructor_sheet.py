"""The instructor's sheet says what the notebooks have: sections, minutes, cells, and numbers."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nbformat
import pytest

from tools.notebooks import ROOT, find

SHEET = (ROOT / "docs" / "instructor.md").read_text(encoding="utf-8")
MOST_LINES = 450
CELL = re.compile(r"\b\d\d-\d{3}\b")
LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")
NUMBER = re.compile(r"\d+\.\d+|\d+")
SAID = re.compile(r'"[^"]*"')  # by students: they may say any number

Rule = Callable[[str], list[str]]


@cache
def sections(path: Path) -> dict[str, dict[str, str]]:
    """The numbered sections of a notebook; of each its cells by id, with their printed outputs."""
    found: dict[str, dict[str, str]] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and (heading := re.match(r"## (.+)", cell.source)):
            found[heading[1]] = {}
        if found:
            outputs = cell.get("outputs", [])
            printed = [o.get("text", o.get("data", {}).get("text/plain", "")) for o in outputs]
            found[list(found)[-1]][cell.id] = "\n".join([cell.source, *printed])
    return {title: cells for title, cells in found.items() if re.match(r"\d+ · ", title)}


@cache
def opening(path: Path) -> tuple[str, int]:
    """A notebook's title and the minutes that it says it takes."""
    first = nbformat.read(path, as_version=4).cells[0].source
    time = re.search(r"\*\*Time:\*\* about (\d+) min", first)
    return re.match(r"# (.+)", first)[1], int(time[1])


def rows(sheet: str, heading: str) -> list[list[str]]:
    """The table below the heading that begins so, without the first two lines."""
    part = sheet.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def by_notebook(sheet: str) -> list[tuple[Path, list[list[str]]]]:
    """Each notebook with the rows of its part; a section's name without its link."""
    return [
        (path, [[LINK.sub(r"\1", row[0]), *row[1:]] for row in rows(sheet, f"{path.name[:2]} · ")])
        for path in find()
    ]


def has_a_part_for_every_notebook(sheet: str) -> list[str]:
    """A heading for each notebook, in their order, with its title and its minutes."""
    wanted = [f"{title} · {minutes} min" for title, minutes in map(opening, find())]
    parts = re.findall(r"^## (\d\d · .+)", sheet, re.MULTILINE)
    return [] if parts == wanted else [f"parts are {parts}, notebooks {wanted}"]


def names_every_section(sheet: str) -> list[str]:
    """A row for each section, in their order."""
    return [
        f"{path.name}: rows are {named}, sections {list(sections(path))}"
        for path, part in by_notebook(sheet)
        if (named := [row[0] for row in part]) != list(sections(path))
    ]


def adds_up(sheet: str) -> list[str]:
    """The minutes of the sections make those of the notebook, within a tenth."""
    problems = []
    for path, part in by_notebook(sheet):
        total, stated = sum(int(row[1]) for row in part), opening(path)[1]
        if abs(total - stated) > 0.1 * stated:
            problems.append(f"{path.name}: {total} minutes of sections, {stated} at its top")
    return problems


def cites_cells_of_the_section(sheet: str) -> list[str]:
    """What a row cites stands in its section; each misconception has a cell that answers it."""
    problems = []
    for path, part in by_notebook(sheet):
        for title, *columns in part:
            cells = sections(path).get(title, {})
            if not CELL.search(columns[2]):
                problems.append(f"{title}: no cell answers the misconception")
            cited = CELL.findall(" ".join(columns))
            problems += [f"{title}: {c} is not one of its cells" for c in cited if c not in cells]
    return problems


def quotes_what_the_cells_say(sheet: str) -> list[str]:
    """Each number of an answer stands in a cell that it cites (a single digit may be a count)."""
    problems = []
    for path, part in by_notebook(sheet):
        for title, _minutes, _ask, answer, _move in part:
            cells = sections(path).get(title, {})
            cited = " ".join(cells.get(cell, "") for cell in CELL.findall(answer))
            there = set(map(float, NUMBER.findall(cited)))
            problems += [
                f"{title}: {number} is in none of the cells it cites"
                for number in NUMBER.findall(CELL.sub("", SAID.sub("", answer)))
                if len(number) > 1 and float(number) not in there
            ]
    return problems


def address(path: Path, cell: str) -> str:
    """Where a link to a cell leads: JupyterLab opens the notebook there."""
    return f"../notebooks/{path.name}#cell-id={cell}"


def links_to_cells(sheet: str) -> list[str]:
    """A section's name leads to its first cell; in the lecture, a cell's id leads to the cell."""
    cells = {cell: path for path in find() for part in sections(path).values() for cell in part}
    shown = "\n".join(stop[2] for stop in rows(sheet, "One lecture"))
    problems = [f"{cell} has no link" for cell in CELL.findall(LINK.sub("", shown))]
    problems += [
        f"{cell} leads to {target}"
        for cell, target in LINK.findall(shown)
        if cell not in cells or target != address(cells[cell], cell)
    ]
    for path in find():
        part = rows(sheet, f"{path.name[:2]} · ")
        for row, (title, cells_of_it) in zip(part, sections(path).items()):
            if row[0] != f"[{title}]({address(path, next(iter(cells_of_it)))})":
                problems.append(f"{path.name}, {title}: {row[0]} does not lead there")
    return problems


def fits_a_lecture(sheet: str) -> list[str]:
    """The single lecture takes 90 minutes, touches every notebook, and shows cells of each."""
    stops = rows(sheet, "One lecture")
    total, touched = sum(int(stop[0]) for stop in stops), {stop[1] for stop in stops}
    problems = [] if total == 90 else [f"the lecture takes {total} minutes"]
    if touched != {path.name[:2] for path in find()}:
        problems.append(f"the lecture touches {sorted(touched)} only")
    return problems + [
        f"the lecture's stop in {stop[1]} shows {set(CELL.findall(stop[2]))}"
        for stop in stops
        if {cell[:2] for cell in CELL.findall(stop[2])} != {stop[1]}
    ]


def fits_ten_sessions(sheet: str) -> list[str]:
    """Ten sessions of at most 90 minutes have every section once, in order, with its minutes."""
    minutes = {
        (path.name[:2], place): int(row[1])
        for path, part in by_notebook(sheet)
        for place, row in enumerate(part, 1)
    }
    sessions, planned, problems = rows(sheet, "Ten sessions"), [], []
    for number, plan, stated, _question in sessions:
        places = [
            (notebook, place)
            for notebook, first, last in re.findall(r"(\d\d) §(\d+)–(\d+)", plan)
            for place in range(int(first), int(last) + 1)
        ]
        planned += places
        if sum(minutes.get(place, 0) for place in places) != int(stated) or int(stated) > 90:
            problems.append(f"session {number}: its sections do not take {stated} minutes")
    if len(sessions) != 10 or planned != list(minutes):
        problems.append("the ten sessions do not have every section once and in order")
    return problems


def is_short(sheet: str) -> list[str]:
    """It is a sheet, not a book."""
    lines = len(sheet.splitlines())
    return [f"{lines} lines"] if lines >= MOST_LINES else []


RULES: list[Rule] = [
    has_a_part_for_every_notebook,
    names_every_section,
    adds_up,
    cites_cells_of_the_section,
    quotes_what_the_cells_say,
    links_to_cells,
    fits_a_lecture,
    fits_ten_sessions,
    is_short,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sheet(rule: Rule) -> None:
    assert rule(SHEET) == []


BROKEN: list[tuple[Rule, str, str]] = [
    (has_a_part_for_every_notebook, " · 25 min", " · 20 min"),
    (has_a_part_for_every_notebook, "## 05 · Upsampling", "## 05 · Downsampling"),
    (names_every_section, "[4 · Things and stuff]", "[4 · Things]"),
    (adds_up, "#cell-id=02-010) | 9 |", "#cell-id=02-010) | 19 |"),
    (cites_cells_of_the_section, "`00-033`: whoever", "whoever"),
    (cites_cells_of_the_section, "`00-033`: whoever", "`00-053`: whoever"),
    (cites_cells_of_the_section, "`00-033`: whoever", "`00-999`: whoever"),
    (quotes_what_the_cells_say, "6 of 26, 0.2308", "6 of 26, 0.2318"),
    (links_to_cells, "#cell-id=00-031", "#cell-id=00-032"),
    (links_to_cells, "#cell-id=00-038", "#cell-id=00-999"),
    (links_to_cells, "[00-038](../notebooks/00_overview.ipynb#cell-id=00-038)", "00-038"),
    (links_to_cells, "[4 · Things and stuff](", "4 · Things and stuff ("),
    (fits_a_lecture, "| 16 | 01 |", "| 17 | 01 |"),
    (fits_a_lecture, "| 16 | 01 |", "| 16 | 02 |"),
    (fits_ten_sessions, "02 §7–8", "02 §8–8"),
    (fits_ten_sessions, "| 1 | 00 §1–7; 01 §1–7 | 77 |", "| 1 | 00 §1–7; 01 §1–7 | 78 |"),
    (is_short, "# The", "\n" * MOST_LINES + "# The"),
]


@pytest.mark.parametrize(("rule", "old", "new"), BROKEN)
def test_a_broken_sheet_fails(rule: Rule, old: str, new: str) -> None:
    assert old in SHEET
    assert rule(SHEET.replace(old, new, 1)) != []


def test_every_rule_was_seen_to_fail() -> None:
    assert {rule for rule, *_ in BROKEN} == set(RULES)
