"""Pictures inside the page: SVG cleaned and given names of its own, PNG as a data address."""

import base64
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from synthgain.runtime.errors import SynthGainError

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
_DROPPED = {"script", "foreignObject", "metadata", "iframe", "a", "animate", "set"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
_REFERENCE = re.compile(r"url\(#([^)]+)\)")

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def inline_svg(text: str, prefix: str, label: str) -> str:
    """Return an SVG document as markup that may go into the page.

    Scripts, event handlers and links to elsewhere are dropped, every id gets `prefix` (two figures use the same
    names), width and height become a view box's business, and `label` is what a screen reader says.
    Raises SynthGainError where the text is no SVG.
    """
    try:
        root = ElementTree.fromstring(_NOT_XML.sub("\ufffd", text))  # Matplotlib writes labels as they are
    except ElementTree.ParseError as error:
        raise SynthGainError(f"{prefix}: not a readable SVG ({error}); rerun draw_figures") from error
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in _DROPPED:
                parent.remove(child)
    seen: set[str] = set()
    for element in root.iter():
        name = element.get("id", "")
        if name in seen:  # Matplotlib gives equal images one name; the first one is what is referred to
            del element.attrib["id"]
        elif name:
            seen.add(name)
        _clean(element, prefix)
    width = root.attrib.pop("width", "")
    root.attrib.pop("height", None)
    root.attrib |= {"role": "img", "aria-label": label}
    points = re.match(r"[\d.]+", width)
    if points:
        root.attrib["style"] = f"--natural-width: {float(points.group()):.0f}pt"
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        plain = name.rpartition("}")[2]
        if plain.lower().startswith("on"):
            del element.attrib[name]
        elif plain == "id":
            element.attrib[name] = f"{prefix}-{value}"
        elif plain == "href":
            if value.startswith("#"):
                element.attrib[name] = f"#{prefix}-{value[1:]}"
            elif not value.startswith("data:image/"):
                del element.attrib[name]
        elif "url(" in value:
            element.attrib[name] = _REFERENCE.sub(rf"url(#{prefix}-\1)", value)


def png_address(path: Path) -> str:
    """Return a PNG file as a `data:` address; SynthGainError where it is missing."""
    if not path.exists():
        raise SynthGainError(f"{path}: missing; run snakemake again to draw it")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
