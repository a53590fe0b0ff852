"""Retention over all sessions of a facility: what may go goes, and a table says how many bytes that is."""

from __future__ import annotations

from pathlib import Path

import yaml
from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import ValidationError

from tasks.records.retention import RetentionPolicy, SweepReport
from tasks.stores.storage.location import Location, StoreError
from tasks.stores.upkeep.survey import find_sessions
from tasks.sweep_session import sweep_session

POLICY = Path(__file__).parents[1] / "deployments" / "retention.yaml"


class SweepError(RuntimeError):
    """Sessions that could not be swept."""


@flow(name="sweep_sessions")
def sweep_sessions(
    store_root: str, policy: RetentionPolicy | None = None, is_dry_run: bool = True
) -> list[SweepReport]:
    """Sweep every session below ``store_root``, or the one that it is; without a policy by ``retention.yaml``.

    A session that cannot be swept does not stop the others; the flow fails at its end and names it.

    Parameters
    ----------
    store_root
        A session's store, or the folder or s3:// prefix that holds many.
    policy
        How long each class of products is kept.
    is_dry_run
        Only say what would go, and how many bytes that is.
    """
    chosen = policy or read_policy(POLICY)
    reports, failed = [], {}
    for url in find_sessions(Location.of(store_root)):
        try:
            reports.append(sweep_session(url, chosen, is_dry_run))
        except StoreError as error:
            failed[url] = str(error)
    create_table_artifact(_rows(reports), key="sweep", description="Dry run: nothing was removed" if is_dry_run else "")
    if failed:
        url, reason = next(iter(failed.items()))
        raise SweepError(f"{len(failed)} of {len(failed) + len(reports)} sessions could not be swept; {url}: {reason}")
    return reports


def read_policy(path: Path) -> RetentionPolicy:
    """The policy in a YAML file; classes that it leaves out are kept for ever."""
    try:
        return RetentionPolicy.model_validate(yaml.safe_load(path.read_text()) or {})
    except FileNotFoundError as error:
        raise ValueError(f"retention policy {path}: no such file; give a YAML file") from error
    except yaml.YAMLError as error:
        raise ValueError(f"retention policy {path}: not YAML ({error}); correct the file") from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: found {e['input']!r}, {e['msg']}" for e in error.errors())
        raise ValueError(
            f"retention policy {path}: {found}; expected `forever`, a number of days like `30 days`, or, where "
            "something is made from it, `until used`"
        ) from error


def _rows(reports: list[SweepReport]) -> list[dict[str, str]]:
    rows = []
    for report in reports:
        classes = ", ".join(f"{name} {n / 1e9:.3f} GB" for name, n in report.bytes_by_class().items())
        rows.append(
            {
                "session": report.session,
                "last activity": report.last_activity[:16],
                "GB": f"{report.n_bytes / 1e9:.3f}",
                "of which": classes or "–",
                "held": str(len(report.held)),
                "note": report.refused or "",
            }
        )
    return rows
