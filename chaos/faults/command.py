"""`symphony failpoints`: where the laboratory can make something happen inside a worker."""

from __future__ import annotations

from app.cli import Json, print_json, print_table
from app.failpoints import POINTS


def failpoints(as_json: Json = False) -> None:
    """List every failpoint; arm them by the setting `failpoints`, like POINT=crash;nth=2."""
    points = sorted(POINTS.values())
    if as_json:
        print_json([point._asdict() for point in points])
        return
    print_table(
        [
            {
                "failpoint": point.name,
                "roles": ", ".join(point.roles),
                "match": "key" if point.events else "-",
                "meaning": point.meaning,
            }
            for point in points
        ]
    )
