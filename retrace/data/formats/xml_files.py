"""XML that nobody has checked yet."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element


class RefuseDoctype(ElementTree.TreeBuilder):
    """A document type declaration is where entities come from: local files, and gigabytes out of a few lines."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("has a DOCTYPE, which annotations do not need; delete that line")


def parse_xml(content: bytes) -> Element:
    """The root element.

    Raises:
        ValueError: not well-formed, an unknown encoding, nested too deeply, or with a DOCTYPE.
    """
    try:
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=RefuseDoctype()))
    except (ElementTree.ParseError, RecursionError, LookupError) as error:
        raise ValueError(str(error)) from None
