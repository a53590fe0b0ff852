"""Names of microscopes, detectors and countries as the archives spell them."""

from __future__ import annotations

import re
from importlib.resources import files

MICROSCOPES_SINCE_5_288 = (
    "TFS KRIOS", "TFS GLACIOS", "TFS TALOS", "TFS TALOS F200C", "TFS TALOS L120C", "TFS TUNDRA", "JEOL CRYO ARM 200",
    "JEOL CRYO ARM 300", "JEOL 1000EES", "JEOL 3100FEF", "HITACHI H3000 UHVEM",
)  # fmt: skip
"""That the PDBx/mmCIF dictionary has had since version 5.288, as of 5.362."""
_MICROSCOPES = {
    r"krios": "FEI TITAN KRIOS",
    r"glacios": "TFS GLACIOS",
    r"tundra": "TFS TUNDRA",
    r"polara": "FEI POLARA 300",
    r"talos[ -]?arctica|arctica": "FEI TALOS ARCTICA",
    r"cryo ?arm ?.*200": "JEOL CRYO ARM 200",
    r"cryo ?arm ?.*300": "JEOL CRYO ARM 300",
}
_DETECTORS = {
    r"falcon ?(4|iv)": "FEI FALCON IV (4k x 4k)",
    r"falcon ?(3|iii)": "FEI FALCON III (4k x 4k)",
    r"falcon ?(2|ii)\b": "FEI FALCON II (4k x 4k)",
    r"k3.*bioquantum|bioquantum.*k3": "GATAN K3 BIOQUANTUM (6k x 4k)",
    r"\bk3\b": "GATAN K3 (6k x 4k)",
    r"\bk2\b": "GATAN K2 SUMMIT (4k x 4k)",
    r"de-?64": "DIRECT ELECTRON DE-64 (8k x 8k)",
    r"ceta": "FEI CETA (4k x 4k)",
}
_COUNTRIES = {
    "AG": "Antigua And Barbuda", "AX": "Aland Islands", "BA": "Bosnia And Herzegovina", "BN": "Brunei Darussalam",
    "BO": "Bolivia, Plurinational State Of", "CD": "Congo, The Democratic Republic Of The",
    "CF": "Central African Republic", "CG": "Congo", "CI": "Cote D'Ivoire", "CW": "Curacao",
    "FM": "Micronesia, Federated States Of", "GB": "United Kingdom", "IR": "Iran, Islamic Republic Of",
    "KN": "Saint Kitts And Nevis", "KP": "Korea, Democratic People's Republic Of", "KR": "Korea, Republic Of",
    "LA": "Lao People's Democratic Republic", "LC": "Saint Lucia", "MD": "Moldova, Republic Of", "MK": "Macedonia",
    "MM": "Myanmar", "MO": "Macao", "PS": "Palestinian Territory", "RE": "Reunion", "RU": "Russian Federation",
    "SY": "Syrian Arab Republic", "SZ": "Swaziland", "TL": "Timor-Leste", "TT": "Trinidad And Tobago",
    "TZ": "Tanzania, United Republic Of", "VA": "Holy See (Vatican City State)",
    "VE": "Venezuela, Bolivarian Republic Of", "VN": "Viet Nam",
}  # fmt: skip
"""Where the dictionary has another name than ISO 3166 in short."""


def microscope_name(told: str | None) -> str | None:
    """Of what a microscope's files call it; None where that does not tell the type."""
    return _first(_MICROSCOPES, told)


def detector_name(told: str | None) -> str | None:
    """Likewise, of a detector."""
    return _first(_DETECTORS, told)


def _first(names: dict[str, str], told: str | None) -> str | None:
    return next((name for pattern, name in names.items() if told and re.search(pattern, told.lower())), None)


def country_name(code: str) -> str | None:
    """Of an ISO 3166 code, as the PDBx/mmCIF dictionary spells it; None where there is no such country."""
    if code in _COUNTRIES:
        return _COUNTRIES[code]
    table = (files("tzdata") / "zoneinfo" / "iso3166.tab").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines() if not line.startswith("#"))
    return next((row[1].strip() for row in rows if row[0] == code), None)
