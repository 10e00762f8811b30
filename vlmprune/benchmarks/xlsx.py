"""One-sheet Excel workbook (ECMA-376) for MMBench's server, made with the standard library alone."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

_TYPES = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">\
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>\
<Default Extension="xml" ContentType="application/xml"/>\
<Override PartName="/xl/workbook.xml" \
ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>\
<Override PartName="/xl/worksheets/sheet1.xml" \
ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"""
_RELATION = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" \
Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}" Target="{target}"/></Relationships>"""
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_WORKBOOK = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<workbook xmlns="{_MAIN}" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>\
<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>"""
_SHEET = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>"""
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # characters that XML 1.0 cannot hold


def workbook(table: Iterable[Sequence[str | int | float]]) -> bytes:
    """Return the file's bytes, the same for the same rows. The first row is the header; numbers stay numbers."""
    rows = "".join(f"<row>{''.join(_cell(value) for value in row)}</row>" for row in table)
    parts = {
        "[Content_Types].xml": _TYPES,
        "_rels/.rels": _RELATION.format(kind="officeDocument", target="xl/workbook.xml"),
        "xl/workbook.xml": _WORKBOOK,
        "xl/_rels/workbook.xml.rels": _RELATION.format(kind="worksheet", target="worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": _SHEET.format(main=_MAIN, rows=rows),
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in parts.items():
            entry = zipfile.ZipInfo(name)  # its default date is 1980, so equal rows give equal bytes
            archive.writestr(entry, text.encode(), zipfile.ZIP_DEFLATED)
    return data.getvalue()


def _cell(value: str | int | float) -> str:
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    text = escape(_ILLEGAL.sub(" ", value))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
