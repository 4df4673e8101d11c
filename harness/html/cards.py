"""The section of data: a card for every data set that the study's encoders were trained on."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

from harness.beside import Card, cards
from harness.html.markup import download, join, scroll, tag, text
from harness.html.sections import Content, Section

WIDTH, COLORS = 1000, 48  # pixels across, and colours: 60 KB for a picture of 900 KB
MOST = 12  # pictures on a page
FACTS = ("source", "image_size", "seed", "classes_present", "imbalance", "gini", "unlabelled")


def data(content: Content) -> Section | None:
    """The cards, folded but for the first; None where none was made."""
    found = cards(content.measured)
    if not found:
        return None
    names = _conditions(content)
    parts = [tag("p", text(
        "What the encoders were trained on, measured on the images themselves."), cls="hint")]
    pictured: set[str] = set()
    for i, card in enumerate(found):
        title = f"{names.get(card.fingerprint, 'data')} ({card.fingerprint[:12]})"
        condition = title.partition(", seed")[0]  # seeds of a condition look alike
        inner = _card(card, title, picture=condition not in pictured and len(pictured) < MOST)
        pictured.add(condition)
        parts.append(tag("details", tag("summary", text(title)) + inner, open=not i))
    return Section("data-cards", "Data", join(parts))


def _conditions(content: Content) -> dict[str, str]:
    """Fingerprint -> the conditions and seeds that were trained on it."""
    frame = content.measured.records
    labels = {c.id: c.label for c in content.measured.study.conditions}
    found: dict[str, dict[str, set[int]]] = {}
    for fingerprint, condition, seed in zip(frame["data_fingerprint"], frame["condition"],
                                            frame["seed"], strict=True):
        found.setdefault(str(fingerprint), {}).setdefault(
            labels.get(condition, condition), set()).add(int(seed))
    return {fingerprint: "; ".join(
        f"{label}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"
        for label, seeds in conditions.items()) for fingerprint, conditions in found.items()}


def _card(card: Card, title: str, picture: bool) -> str:
    told = card.card
    facts = {name.replace("_", " "): _plain(told[name]) for name in FACTS if name in told}
    for name in ("images", "controls", "distinct", "overlap"):
        if isinstance(told.get(name), Mapping):
            facts[name] = _line(told[name])
    listed = join(tag("div", tag("dt", text(k)) + tag("dd", text(v))) for k, v in facts.items())
    shown = ""
    if card.picture and picture:
        encoded = base64.b64encode(smaller(card.picture)).decode()
        shown = scroll(tag("figure", (
            f'<img src="data:image/png;base64,{encoded}" alt="{text(_spoken(told, title))}">')),
            f"Card: {title}")
    content = json.dumps(told, indent=1, sort_keys=True) + "\n"
    link = tag("p", download("Card as JSON", f"card-{card.fingerprint[:12]}.json", content,
                             "application/json"))
    return shown + tag("dl", listed, cls="facts") + link


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(found: Mapping[str, Any]) -> str:
    """"train 430, test 1250" of a mapping, one level of nesting in brackets."""
    parts = [f"{name} ({_line(value)})" if isinstance(value, Mapping) else
             f"{name} {_plain(value)}" for name, value in found.items()]
    return ", ".join(parts) or "none"


def _spoken(told: Mapping[str, Any], title: str) -> str:
    """The picture in words."""
    return (f"Card of {title}: examples of the images and how many there are of each of "
            f"{told.get('classes_present', 'the')} classes; the numbers are in the list below.")


def smaller(picture: bytes) -> bytes:
    """A PNG of at most `WIDTH` pixels across in `COLORS` colours; the same bytes every time."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)),
                             Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()
