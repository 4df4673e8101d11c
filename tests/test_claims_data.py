"""The papers' claims as data: sourced, of published sign, and runnable on the grids they name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import list as listing_door
from harness.claims_data import SIDES, Claim, claims, links
from harness.config import compose
from harness.errors import UserError
from harness.papers import FOLDER
from harness.study import Study, resolve_study

ALL = claims()
GRIDS = sorted({claim.grid for claim in ALL.values()})


def test_every_paper_has_its_claims() -> None:
    counts = Counter(claim.paper for claim in ALL.values())
    assert counts["dnc"] >= 8 and counts["fnc"] >= 6 and counts["cld"] >= 5
    assert {claim.kind for claim in ALL.values()} == set(SIDES)
    assert all(claim.statement.endswith(".") and claim.source for claim in ALL.values())


def test_published_numbers_are_those_of_the_tables() -> None:
    with_numbers = [claim for claim in ALL.values() if claim.published]
    assert len(with_numbers) > 20
    for claim in with_numbers:
        assert len(claim.published) == len(claim.cells) == len(claim.sides)
        assert all(effect > 0 for effect in claim.effects)
    assert ALL["dnc/uncurated_moclr"].effects == pytest.approx((67.8 - 65.7,))
    assert ALL["dnc/partition"].effects == pytest.approx((75.8 - 74.3, 74.3 - 73.1))
    assert ALL["dnc/gains_more_uncurated"].effects == pytest.approx((2.1 - 1.3,))
    assert ALL["fnc/attraction"].effects == pytest.approx((1.75,))


def test_a_claim_without_a_number_says_where_it_is_made() -> None:
    bare = [claim for claim in ALL.values() if not claim.published]
    assert bare and all("abstract" in claim.source for claim in bare)


@pytest.fixture(scope="module")
def studies() -> dict[str, Study]:
    # the scale of one: each grid has its rows at every scale, and composing costs 0.3 s
    return {grid: resolve_study(compose([f"grid={grid}", "scale=" + (
        "laptop" if grid == "ablations" else "smoke")])) for grid in GRIDS}


@pytest.mark.parametrize("name", ALL)
def test_the_grid_has_what_a_claim_needs(studies: dict[str, Study], name: str) -> None:
    claim = ALL[name]
    study = studies[claim.grid]
    assert set(claim.rows) <= {row.id for row in study.rows}
    roles = {c.role for c in study.conditions}
    for side in claim.sides:
        assert side.metric in study.evaluations[side.evaluation].metrics
        axis = claim.kind == "trend" or side.condition in ("lowest", "highest")
        assert len(roles) == 1 and len(study.conditions) > 1 if axis else side.condition in roles
    assert len(study.seeds) > 1


def test_links() -> None:
    assert links("difference", 2) == [(1.0, -1.0)]
    assert links("ordering", 3) == [(1.0, -1.0, 0.0), (0.0, 1.0, -1.0)]
    assert links("interaction", 4) == [(1.0, -1.0, -1.0, 1.0)]
    assert links("trend", 1) == [(1.0,)] and links("trend", 2) == [(1.0, -1.0)]


def test_yaml_files_hold_data_alone() -> None:
    files = sorted(FOLDER.glob("*/claims.yaml"))
    assert [path.parent.name for path in files] == ["cld", "dnc", "fnc"]
    for path in files:
        assert "!!" not in path.read_text(encoding="utf-8")


def test_the_door_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing_door.main(["claims"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= len(ALL)
    assert listing_door.main(["claims", "name=dnc/partition"]) == 0
    out = capsys.readouterr().out
    assert "dnc_random on curated" in out and "dnc/table10:DnC:top1: 75.8" in out
    with pytest.raises(UserError, match="unknown claim 'dnc/partitions'.*Did you mean"):
        listing_door.main(["claims", "name=dnc/partitions"])


GOOD: dict[str, Any] = {
    "id": "dnc/x", "statement": "A beats B.", "source": "Table 1", "kind": "difference",
    "grid": "curation_gap", "sides": ["dnc", "moclr"], "condition": "curated",
    "evaluation": "linear", "metric": "balanced", "minimum": 0.5}


def loaded(folder: Path, *entries: Any) -> dict[str, Claim]:
    path = folder / "dnc" / "claims.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"paper": {"title": "x"}, "claims": list(entries)}))
    return claims(folder)


def test_the_sound_claim_is_taken(tmp_path: Path) -> None:
    claim, = loaded(tmp_path, GOOD).values()
    assert claim.rows == ("dnc", "moclr") and claim.effects == ()


NEAR = ["dnc/table8:DnC:e3000", "dnc/table8:MoCLR:e3000"]


@pytest.mark.parametrize(("change", "message"), [
    ({"kind": "diference"}, "unknown kind 'diference'.*Did you mean 'difference'"),
    ({"grid": "corelation"}, "unknown grid 'corelation'.*correlation"),
    ({"sides": ["dnc"]}, "kind difference has 2 sides"),
    ({"sides": ["dnc", "dnc"]}, "two sides are the same"),
    ({"sides": ["dnc", {"row": "moclr", "at": 3}]}, "side 2: unknown entry 'at'"),
    ({"condition": None}, "condition must be a role"),
    ({"condition": True}, "condition must be a role"),
    ({"kind": "trend", "direction": "rising"}, "leave out condition"),
    ({"kind": "trend", "condition": None}, "direction .* belongs to a trend"),
    ({"direction": "rising"}, "belongs to a trend"),
    ({"minimum": -1}, "write a number >= 0"),
    ({"minimum": "half"}, "minimum is 'half'"),
    ({"better": "more"}, "unknown better 'more'"),
    ({"statement": ""}, "statement must be a text"),
    ({"id": "fnc/x"}, "write dnc/fnc/x"),
    ({"surce": "Table 1"}, "unknown entry 'surce'.*Did you mean 'source'"),
    ({"published": NEAR[:1]}, "an address for each of the 2 sides"),
    ({"published": NEAR[::-1]}, "do not say so"),
    ({"published": [NEAR[0], "dnc/table8:MoCo:e3000"]}, "unknown row 'MoCo'"),
    ({"published": [NEAR[0], "dnc/tabel8:MoCLR:e3000"]}, "unknown table 'dnc/tabel8'"),
    ({"published": [NEAR[0], "75.8"]}, "is no TABLE:ROW:COLUMN"),
    ({"evaluation": 3}, "evaluation must be a name"),
])
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, change: dict[str, Any],
                                           message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        loaded(tmp_path, GOOD | change)
    assert "\n" not in str(caught.value) and "dnc/claims.yaml: claim" in str(caught.value)


def test_files_that_are_no_claims(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no claims\.yaml in"):
        claims(tmp_path)
    with pytest.raises(UserError, match="two claims have the id 'dnc/x'"):
        loaded(tmp_path, GOOD, GOOD)
    with pytest.raises(UserError, match="claim 1 must be a mapping"):
        loaded(tmp_path, "dnc")
    lacking = {name: value for name, value in GOOD.items() if name != "source"}
    with pytest.raises(UserError, match="lacks source"):
        loaded(tmp_path, lacking)
    path = tmp_path / "dnc" / "claims.yaml"
    for text, message in (("claims: [", "no YAML"), ("- a", "a mapping is expected"),
                          ("paper: {}\nclaims: []", "at least one")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            claims(tmp_path)
