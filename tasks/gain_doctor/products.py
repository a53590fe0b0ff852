"""Products that the gain doctor reads and writes, and the stage that their records name."""

from __future__ import annotations

import hashlib
import json

STAGE, VERSION = "diagnose_gain", 1
GAIN, DIAGNOSIS = "session/gain", "session/gain_diagnosis"
SUMS, ESTIMATE = "session/gain_sums", "session/estimated_gain"


def digest(prints: dict[str, str]) -> str:
    """One fingerprint of many: exposure -> fingerprint, in any order."""
    return hashlib.sha256(json.dumps(sorted(prints.items())).encode()).hexdigest()[:32]
